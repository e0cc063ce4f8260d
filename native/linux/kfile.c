#include "kfile.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A kernel file ends its reads at record borders: a read comes back short of one page only when the next record does
 * not fit in what is left of the page, or when there is none. No record of the files read here is half a page long,
 * so a read of less than half a page was the last one, and the extra call that would say so is spared. */
enum { HALF_PAGE = 2048, CHUNK = 16384, FILE_MAX = 64 << 20 };

int pm_read_whole(int fd, pm_buffer *buffer)
{
	buffer->len = 0;
	for (;;) {
		ssize_t got;

		if (pm_buffer_reserve(buffer, CHUNK) < 0)
			return -ENOMEM;
		got = pread(fd, buffer->data + buffer->len, buffer->cap - buffer->len, (off_t)buffer->len);
		if (got < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		buffer->len += (size_t)got;
		if (got < HALF_PAGE)
			return 0;
		if (buffer->len > FILE_MAX)
			return -EFBIG;
	}
}

int pm_open_at(int dir, const char *path)
{
	int fd;

	do
		fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}
