#ifndef ILLUMOS_STDLIB_H
#define ILLUMOS_STDLIB_H
#include <stddef.h>
extern void *malloc(size_t);
extern void *calloc(size_t, size_t);
extern void *realloc(void *, size_t);
extern void free(void *);
extern void abort(void) __attribute__((noreturn));
extern void exit(int) __attribute__((noreturn));
extern char *getenv(const char *);
extern int abs(int);
extern int atoi(const char *);
extern long strtol(const char *, char **, int);
extern double strtod(const char *, char **);
extern unsigned long long strtoull(const char *, char **, int);
extern void qsort(void *, size_t, size_t, int (*)(const void *, const void *));
#endif
