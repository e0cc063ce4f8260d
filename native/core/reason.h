/* Why something is absent. */
#ifndef PYMON_REASON_H
#define PYMON_REASON_H

#include "scan.h"

typedef enum {
	PM_REASON_ENOENT,
	PM_REASON_ENODEV,
	PM_REASON_EACCES,
	PM_REASON_EIO,
	PM_REASON_EOPNOTSUPP,
	PM_REASON_EMFILE,
	PM_REASON_ENOMEM,
	PM_REASON_ESRCH,
	PM_REASON_ERRNO, /* any other */
	PM_REASON_EMPTY,
	PM_REASON_TRUNCATED,
	PM_REASON_MALFORMED,
	PM_REASON_DEADLINE,
	PM_REASON_TOOMANY,
	PM_REASON_COUNT,
} pm_reason;

/* The kernel's name of a reason, in lower case. */
const char *pm_reason_name(pm_reason reason);
pm_reason pm_reason_of_errno(int error);
pm_reason pm_reason_of_scan(pm_scan_result result);

#endif
