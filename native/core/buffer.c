#include "buffer.h"

#include <stdint.h>

int pm_buffer_grow(pm_buffer *buffer, size_t extra)
{
	size_t cap = buffer->cap ? buffer->cap : 4096;
	char *data;

	if (extra > SIZE_MAX / 4 || buffer->len > SIZE_MAX / 4)
		return -1;
	while (cap - buffer->len < extra)
		cap *= 2;
	data = realloc(buffer->data, cap);
	if (data == NULL)
		return -1;
	buffer->data = data;
	buffer->cap = cap;
	return 0;
}
