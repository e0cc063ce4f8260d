/* A reader: one thread with a descriptor table of its own that reads a plan's files for every container.
 *
 * Jobs are done in the order they were posted, so what is added or removed before a collection is in or out of it.
 * The thread owns all state of the containers; nobody else touches it. Its descriptor table is its own
 * (unshare(2) with CLONE_FILES), so RLIMIT_NOFILE bounds each reader by itself and cgroup descriptors
 * never compete with sockets. Where the kernel refuses that, the table is shared and `shares_descriptors` says so. */
#ifndef PYMON_READER_H
#define PYMON_READER_H

#include "mailbox.h"
#include "plan.h"
#include "result.h"

typedef struct pm_reader pm_reader;

/* Start the thread. On failure NULL, with errno set and, where a path is at fault, its index in *root. */
pm_reader *pm_reader_start(pm_plan *plan, pm_mailbox *mailbox, int *root);
/* Finish the posted jobs, stop the thread, free everything. The plan is the caller's. */
void pm_reader_stop(pm_reader *reader);

/* Post jobs. 0 or -1 (out of memory). `path` is relative to the hierarchies' roots and is copied. */
int pm_reader_add(pm_reader *reader, uint32_t row, const char *path, int64_t start_ns);
int pm_reader_remove(pm_reader *reader, uint32_t row);
/* The container's directory has appeared in one more hierarchy: look again for what was absent. */
int pm_reader_refresh(pm_reader *reader, uint32_t row);
/* Fill `tables` (one for each of the plan's; a NULL one is not wanted) for rows 0 .. rows-1, or for `row` alone as
 * row 0. Until the ticket is done, or result->done is set, tables and result belong to the reader. Without `wake` the
 * job waits for the next call that wakes the reader, so that jobs posted together are done together. */
int pm_reader_collect(pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t rows,
		      int64_t deadline_ns);
int pm_reader_collect_row(pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t row,
			  int64_t deadline_ns, int wake);
void pm_reader_wake(pm_reader *reader);

uint32_t pm_reader_open_descriptors(const pm_reader *reader);
int pm_reader_shares_descriptors(const pm_reader *reader);

#endif
