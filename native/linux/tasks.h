/* The states of a container's threads. */
#ifndef PYMON_TASKS_H
#define PYMON_TASKS_H

#include "context.h"

enum { PM_TASK_STATES = 4 }; /* sleeping, running, stopped, uninterruptible */

enum { PM_TASKS_MAX = 4096 }; /* threads of a container: its owner makes any number, and others wait for their count */

/* Count the threads of processes by state, until context->deadline_ns. A count that lacks a process is none, as is one
 * of more than PM_TASKS_MAX threads. */
void pm_tasks_collect(pm_context *context, const int *pids, size_t count, pm_table *table, uint32_t row);

#endif
