/* A growable byte buffer. Users reset `len` to reuse it; `cap` only grows. */
#ifndef PYMON_BUFFER_H
#define PYMON_BUFFER_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
	char *data;
	size_t len;
	size_t cap;
} pm_buffer;

/* Make room for `extra` more bytes. Returns 0, or -1 if out of memory; the content stays. */
int pm_buffer_grow(pm_buffer *buffer, size_t extra);

static inline int pm_buffer_reserve(pm_buffer *buffer, size_t extra)
{
	if (buffer->cap - buffer->len >= extra)
		return 0;
	return pm_buffer_grow(buffer, extra);
}

static inline int pm_buffer_append(pm_buffer *buffer, const char *data, size_t len)
{
	if (pm_buffer_reserve(buffer, len) < 0)
		return -1;
	if (len)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	return 0;
}

static inline void pm_buffer_free(pm_buffer *buffer)
{
	free(buffer->data);
	buffer->data = NULL;
	buffer->len = buffer->cap = 0;
}

#endif
