#ifndef ILLUMOS_STRING_H
#define ILLUMOS_STRING_H
#include <stddef.h>
extern void *memcpy(void *, const void *, size_t);
extern void *memmove(void *, const void *, size_t);
extern void *memset(void *, int, size_t);
extern void *memchr(const void *, int, size_t);
extern int memcmp(const void *, const void *, size_t);
extern size_t strlen(const char *);
extern int strcmp(const char *, const char *);
extern int strncmp(const char *, const char *, size_t);
extern char *strchr(const char *, int);
extern char *strrchr(const char *, int);
extern char *strstr(const char *, const char *);
extern char *strerror(int);
#ifdef __EXTENSIONS__
extern char *strdup(const char *);
extern size_t strnlen(const char *, size_t);
extern char *strndup(const char *, size_t);
extern size_t strlcpy(char *, const char *, size_t);
#endif
#endif
