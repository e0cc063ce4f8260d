#include "procfile.h"

#include <errno.h>
#include <unistd.h>

#include "kfile.h"

int pm_process_has_gone(int error)
{
	return error == ENOENT || error == ESRCH;
}

int pm_process_read(pm_context *context, const char *path)
{
	int fd = pm_open_at(context->procfs, path), error = fd;

	if (fd >= 0) {
		error = pm_read_whole(fd, &context->buffer);
		close(fd);
	}
	if (error == 0)
		return 1;
	if (pm_process_has_gone(-error))
		return 0;
	pm_fail(context, pm_reason_of_errno(-error));
	return -1;
}
