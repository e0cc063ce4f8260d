#ifndef ILLUMOS_SYS_TIME_H
#define ILLUMOS_SYS_TIME_H
#include <sys/types.h>
struct timeval {
	time_t tv_sec;
	long tv_usec;
};
#ifdef __EXTENSIONS__
typedef long long hrtime_t;
extern hrtime_t gethrtime(void);
#endif
#endif
