/* The processes of a container: those of its group and of the groups below it. */
#ifndef PYMON_PROCLIST_H
#define PYMON_PROCLIST_H

#include "context.h"

/* Note whether the group has groups below it. */
void pm_proclist_look(pm_context *context, pm_entry *entry);

/* Count the processes, given the content of the file of kind procs in context->buffer. *first: a pid that is not 0,
 * or 0 when there is none. */
uint64_t pm_proclist_count(pm_context *context, pm_entry *entry, const pm_file *file, int *first);

/* Bring the pids into context->pids, and as *first the first one that is not 0. 1, or 0 when they are not known. */
int pm_proclist_list(pm_context *context, pm_entry *entry, int *first);

/* The file of kind procs, or PM_NO_FILE. */
uint32_t pm_proclist_file(const pm_context *context);

#endif
