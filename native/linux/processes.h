/* What every process of a container is looked at for, one by one. */
#ifndef PYMON_PROCESSES_H
#define PYMON_PROCESSES_H

#include "context.h"

typedef struct {
	const char *name;
	uint32_t columns;
} pm_process_kind;

extern const pm_process_kind pm_process_kinds[PM_PROCESS_TABLES];

int pm_processes_are_wanted(const pm_context *context, pm_table *const *tables);
/* Look at every process of a container, until context->deadline_ns. */
void pm_processes_collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row);
/* Forget what is known of a container's processes. */
void pm_sched_free(pm_entry *entry);

#endif
