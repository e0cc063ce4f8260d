/* Fails chosen reads: FAIL_READS is PATH-END:ERRNO:CALL, CALL being open or read. Every openat(2) of a path that ends
 * so fails, or every pread(2) and preadv(2) of a descriptor that leads to one. These have the C library's own
 * prototypes and the C library's open and read functions under them, so whatever else a program reads it reads
 * unchanged. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int chosen(const char *path, const char *call)
{
	const char *rule = getenv("FAIL_READS");
	char end[256], name[16];
	int error;
	size_t len, end_len;

	if (rule == NULL || sscanf(rule, "%255[^:]:%d:%15s", end, &error, name) != 3 || strcmp(name, call) != 0)
		return 0;
	len = strlen(path);
	end_len = strlen(end);
	return len >= end_len && strcmp(path + len - end_len, end) == 0 ? error : 0;
}

static int chosen_fd(int fd)
{
	char link[64], path[4096];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/thread-self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return 0;
	path[len] = '\0';
	return chosen(path, "read");
}

#define FAIL_IF(error_of)                                                                                              \
	do {                                                                                                           \
		int error = (error_of);                                                                                \
		if (error) {                                                                                           \
			errno = error;                                                                                 \
			return -1;                                                                                     \
		}                                                                                                      \
	} while (0)

ssize_t pread(int fd, void *data, size_t size, off_t at)
{
	ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");

	FAIL_IF(chosen_fd(fd));
	return next(fd, data, size, at);
}

ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
	return pread(fd, data, size, (off_t)at);
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at)
{
	ssize_t (*next)(int, const struct iovec *, int, off_t) = dlsym(RTLD_NEXT, "preadv");

	FAIL_IF(chosen_fd(fd));
	return next(fd, parts, count, at);
}

ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at)
{
	return preadv(fd, parts, count, (off_t)at);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
{
	ssize_t (*next)(int, const struct iovec *, int, off64_t, int) = dlsym(RTLD_NEXT, "preadv64v2");

	FAIL_IF(chosen_fd(fd));
	return next(fd, parts, count, at, flags);
}

int openat(int directory, const char *path, int flags, ...)
{
	int (*next)(int, const char *, int, ...) = dlsym(RTLD_NEXT, "openat");
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = va_arg(arguments, mode_t);
	va_end(arguments);
	FAIL_IF(chosen(path, "open"));
	return next(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...)
{
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = va_arg(arguments, mode_t);
	va_end(arguments);
	return openat(directory, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
	va_list arguments;
	mode_t mode;

	va_start(arguments, flags);
	mode = va_arg(arguments, mode_t);
	va_end(arguments);
	FAIL_IF(chosen(path, "open"));
	return next(path, flags, mode);
}
