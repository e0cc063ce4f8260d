#ifndef ILLUMOS_UNISTD_H
#define ILLUMOS_UNISTD_H
#include <sys/types.h>
extern int close(int);
extern ssize_t read(int, void *, size_t);
extern ssize_t write(int, const void *, size_t);
extern int isatty(int);
#ifdef __EXTENSIONS__
extern int ioctl(int, int, ...);
extern ssize_t pread(int, void *, size_t, off_t);
#endif
#endif
