/* The chain that the file named by KSTAT_JSON holds. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"

static int load_descriptor(int fd, size_t size)
{
	char *text = malloc(size + 1);
	size_t len = 0;
	ssize_t got = text ? 1 : -1;
	while (len < size && (got = read(fd, text + len, size - len)) > 0) {
		len += (size_t)got;
	}
	int status = got < 0 ? -1 : json_load(text, len, true);
	if (got >= 0 && status < 0) {
		errno = EINVAL;
	}
	free(text);
	return status;
}

int json_refresh(void)
{
	static struct stat last;
	const char *path = getenv("KSTAT_JSON");
	struct stat now;
	if (!path || !*path) {
		return 0;
	}
	if (stat(path, &now) < 0) {
		return -1;
	}
	if (now.st_ino == last.st_ino && now.st_dev == last.st_dev && now.st_size == last.st_size &&
	    now.st_mtim.tv_sec == last.st_mtim.tv_sec && now.st_mtim.tv_nsec == last.st_mtim.tv_nsec && kernel.loaded) {
		return 0;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -1;
	}
	int status = load_descriptor(fd, (size_t)now.st_size);
	int error = errno;
	close(fd);
	if (status == 0) {
		last = now;
		kernel.loaded = true;
	} else if (error == EINVAL) {
		fprintf(stderr, "%s: %s\n", path, json_error);
	}
	errno = error;
	return status;
}
