/* Descriptors that stay open on the files of containers, within a budget. */
#ifndef PYMON_DESCRIPTORS_H
#define PYMON_DESCRIPTORS_H

#include "context.h"

/* Decide how many files of each container may stay open: the first ones of the plan, the same number for all. */
void pm_descriptors_share(pm_context *context);
/* Whether the descriptor of the nth file that is no setting may stay open. If not it is closed. */
int pm_descriptors_keep(pm_context *context, pm_entry *entry, uint32_t nth, uint32_t slot);
/* Close the descriptor of file `slot`, if it is open; it is opened again when it is needed. */
void pm_descriptors_close_file(pm_context *context, pm_entry *entry, uint32_t slot);
static inline void pm_descriptors_drop(pm_context *context, pm_entry *entry, uint32_t slot)
{
	if (entry->fds[slot] >= 0)
		pm_descriptors_close_file(context, entry, slot);
}
/* Whether the directory of a process may stay open. It is found again faster than a file, so it is given up first. */
int pm_descriptors_keep_process(const pm_context *context);
/* Close all descriptors of a container; they are opened again when they are needed. */
void pm_descriptors_close(pm_context *context, pm_entry *entry);
/* Look again for files that were absent. */
void pm_descriptors_retry(pm_context *context, pm_entry *entry);

/* The path that finds the group of a container below a root. */
const char *pm_group_path(const pm_entry *entry);

/* Bring file `slot` of the plan into context->buffer. 1, or 0 when there is nothing (counted where it is a failure). A
 * group that is not in a hierarchy, or has just gone from it, has no files there: that is no failure. */
int pm_read_file(pm_context *context, pm_entry *entry, uint32_t slot, int keep);

#endif
