#include "reason.h"

#include <errno.h>
#include <stddef.h>

/* Two errors may have one reason. */
static const struct {
	const char *name;
	int errors[2];
} reasons[PM_REASON_COUNT] = {
	[PM_REASON_ENOENT] = {"enoent", {ENOENT, ENOTDIR}},
	[PM_REASON_ENODEV] = {"enodev", {ENODEV}},
	[PM_REASON_EACCES] = {"eacces", {EACCES, EPERM}},
	[PM_REASON_EIO] = {"eio", {EIO}},
	[PM_REASON_EOPNOTSUPP] = {"eopnotsupp", {EOPNOTSUPP}},
	[PM_REASON_EMFILE] = {"emfile", {EMFILE, ENFILE}},
	[PM_REASON_ENOMEM] = {"enomem", {ENOMEM}},
	[PM_REASON_ESRCH] = {"esrch", {ESRCH}},
	[PM_REASON_ERRNO] = {"errno", {0}},
	[PM_REASON_EMPTY] = {"empty", {0}},
	[PM_REASON_TRUNCATED] = {"truncated", {0}},
	[PM_REASON_MALFORMED] = {"malformed", {0}},
	[PM_REASON_DEADLINE] = {"deadline", {0}},
	[PM_REASON_TOOMANY] = {"toomany", {0}},
};

const char *pm_reason_name(pm_reason reason)
{
	return reasons[reason].name;
}

pm_reason pm_reason_of_errno(int error)
{
	for (int i = 0; i < PM_REASON_ERRNO; i++)
		if (error && (error == reasons[i].errors[0] || error == reasons[i].errors[1]))
			return (pm_reason)i;
	return PM_REASON_ERRNO;
}

pm_reason pm_reason_of_scan(pm_scan_result result)
{
	static const pm_reason of[] = {
		[PM_OK] = PM_REASON_ERRNO, /* not to be asked for */
		[PM_EMPTY] = PM_REASON_EMPTY,
		[PM_TRUNCATED] = PM_REASON_TRUNCATED,
		[PM_MALFORMED] = PM_REASON_MALFORMED,
		[PM_NO_MEMORY] = PM_REASON_ENOMEM,
	};

	return of[result];
}
