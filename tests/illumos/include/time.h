#ifndef ILLUMOS_TIME_H
#define ILLUMOS_TIME_H
#include <sys/types.h>
struct tm {
	int tm_sec, tm_min, tm_hour, tm_mday, tm_mon, tm_year, tm_wday, tm_yday, tm_isdst;
};
extern time_t time(time_t *);
#ifdef __EXTENSIONS__
struct timespec {
	time_t tv_sec;
	long tv_nsec;
};
#define CLOCK_REALTIME 3
#define CLOCK_MONOTONIC 4
extern int clock_gettime(clockid_t, struct timespec *);
extern int nanosleep(const struct timespec *, struct timespec *);
#endif
#endif
