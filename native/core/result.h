/* The outcome of a collection. */
#ifndef PYMON_RESULT_H
#define PYMON_RESULT_H

#include <stdatomic.h>

#include "reason.h"

enum { PM_PLACES = 66 };

/* What one source did in one collection. */
typedef struct {
	atomic_int done;
	int64_t started_ns; /* on the clock of pm_monotonic_ns */
	int64_t finished_ns;
	uint64_t failures[PM_REASON_COUNT];	       /* how often each reason made something absent */
	uint32_t of_place[PM_PLACES][PM_REASON_COUNT]; /* those of them that are known to concern a part only: plan.h */
} pm_result;

#endif
