/* How the kernel divides run time between user and system. */
#ifndef PYMON_BPF_CPUTIME_H
#define PYMON_BPF_CPUTIME_H

#include <stdint.h>

/* Nanoseconds. `run` is exact; `user` and `system` are counted at ticks. */
typedef struct {
	uint64_t run, user, system;
} pm_cputime;

/* What is shown of a group: neither number is ever less than what was shown before. */
typedef struct {
	uint64_t user, system;
} pm_cputime_shown;

/* The kernel's cputime_adjust (kernel/sched/cputime.c): divide `run` as the ticks say, and remember what is shown. */
void pm_cputime_adjust(const pm_cputime *counted, pm_cputime_shown *shown);

#endif
