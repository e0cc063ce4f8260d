#include "reason.h"

#include <errno.h>

static const char *const reason_names[PM_REASON_COUNT] = {
	[PM_REASON_ENOENT] = "enoent",	   [PM_REASON_ENODEV] = "enodev",	  [PM_REASON_EACCES] = "eacces",
	[PM_REASON_EIO] = "eio",	   [PM_REASON_EOPNOTSUPP] = "eopnotsupp", [PM_REASON_EMFILE] = "emfile",
	[PM_REASON_ENOMEM] = "enomem",	   [PM_REASON_ESRCH] = "esrch",		  [PM_REASON_ERRNO] = "errno",
	[PM_REASON_EMPTY] = "empty",	   [PM_REASON_TRUNCATED] = "truncated",	  [PM_REASON_MALFORMED] = "malformed",
	[PM_REASON_DEADLINE] = "deadline",
};

const char *pm_reason_name(pm_reason reason)
{
	return reason_names[reason];
}

pm_reason pm_reason_of_errno(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return PM_REASON_ENOENT;
	case ENODEV:
		return PM_REASON_ENODEV;
	case EACCES:
	case EPERM:
		return PM_REASON_EACCES;
	case EIO:
		return PM_REASON_EIO;
	case EOPNOTSUPP:
		return PM_REASON_EOPNOTSUPP;
	case EMFILE:
	case ENFILE:
		return PM_REASON_EMFILE;
	case ENOMEM:
		return PM_REASON_ENOMEM;
	case ESRCH:
		return PM_REASON_ESRCH;
	default:
		return PM_REASON_ERRNO;
	}
}

pm_reason pm_reason_of_scan(pm_scan_result result)
{
	switch (result) {
	case PM_EMPTY:
		return PM_REASON_EMPTY;
	case PM_TRUNCATED:
		return PM_REASON_TRUNCATED;
	default:
		return PM_REASON_MALFORMED;
	}
}
