/* Containers that come and go. */
#ifndef PYMON_ENTRY_H
#define PYMON_ENTRY_H

#include "context.h"

/* A container that is not yet in a reader; NULL when memory is out. */
pm_entry *pm_entry_new(const pm_plan *plan, uint32_t row, const char *path, int64_t start_ns);

/* The container comes, in place of the one that has its row. Where memory is out it waits. */
void pm_entry_add(pm_context *context, pm_entry *entry);
void pm_entry_remove(pm_context *context, uint32_t row);
/* The container's directory has appeared in one more hierarchy: look again for what was absent. */
void pm_entry_refresh(pm_context *context, uint32_t row);

/* Give those that wait their rows; each that must go on waiting counts as a failure. */
void pm_entry_admit(pm_context *context);
/* Remove all, and free what holds them. */
void pm_entries_free(pm_context *context);

#endif
