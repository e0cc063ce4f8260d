/* Files of processes, which may end at any time. */
#ifndef PYMON_PROCFILE_H
#define PYMON_PROCFILE_H

#include "context.h"

/* Whether an error says that a process has ended: that is no failure. */
int pm_process_has_gone(int error);
/* Bring a file below procfs into context->buffer. 1; 0 when its process has gone; -1 for a failure, which is counted.
 */
int pm_process_read(pm_context *context, const char *path);

#endif
