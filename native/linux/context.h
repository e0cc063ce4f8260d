/* The state of a reader: its containers, and what the functions that fill tables work on. Only its thread sees it. */
#ifndef PYMON_CONTEXT_H
#define PYMON_CONTEXT_H

#include "devices.h"
#include "plan.h"

/* Values of a file slot that are no descriptor. */
enum { PM_FD_CLOSED = -1, PM_FD_ABSENT = -2 };

typedef struct {
	int pid;
	int dir;	  /* O_PATH descriptor of /proc/PID, or -1; it pins the pid's identity, not its namespaces */
	uint64_t inode;	  /* of the network namespace, 0 unknown */
	int64_t check_ns; /* look at the namespace again then */
	int is_shared;	  /* an older container reports this namespace */
	int is_lost;	  /* no process was found that is still there, though some are listed */
} pm_entry_net;

/* What a file said when it was last read, if it is a setting or one line. */
typedef struct {
	pm_values values;
	int is_skipped; /* a setting that was due and not read, because it had been filled */
} pm_kept;

typedef struct pm_above pm_above;

/* A container. */
typedef struct pm_entry {
	struct pm_entry *next; /* of those that wait for a row */
	uint32_t row;
	char *path; /* relative to the hierarchies' roots */
	int64_t start_ns;
	int64_t starting_until_ns; /* its runtime may still be changing the container until then */
	int64_t slow_due_ns;
	int has_children;
	pm_entry_net net;
	struct pm_sched *sched; /* NULL until the table is wanted */
	int limits_pid;		/* the process whose limits were read last, or 0 */
	int *fds;		/* one for each file of the plan */
	pm_kept *kept;		/* one for each file of the plan */
} pm_entry;

typedef struct {
	const pm_plan *plan;
	const int *roots;
	int procfs;
	int sysfs;
	uint64_t host_netns;
	pm_entry **entries; /* by row; NULL: no container */
	uint32_t entry_count;
	pm_entry *waiting; /* containers for which the array could not grow: tried again at each collection */
	uint32_t alive;
	uint32_t open;
	uint32_t level; /* files of every row that may stay open */
	uint32_t extra; /* rows below this one may keep one more */
	pm_buffer buffer;
	pm_buffer scratch;
	pm_buffer pids; /* int, of the processes listed last */
	pm_devices *devices;
	pm_above *above;  /* what groups above containers have said, or NULL */
	pm_fill *fill;	  /* what the plan's filler has filled in this collection, or NULL */
	uint8_t *covered; /* with that: a flag for each file, then for each of a namespace, see pm_fill_covers */
	pm_result *result;
	uint32_t place; /* of failures: what is being read */
	int64_t now_ns;
	int64_t deadline_ns; /* of the walk over processes */
} pm_context;

static inline void pm_fail(pm_context *context, pm_reason reason)
{
	context->result->failures[reason]++;
	if (context->place < PM_PLACES)
		context->result->of_place[context->place][reason]++;
}

/* Whether it is the root of the groups. Its processes are not looked at: they are all of the machine's. */
static inline int pm_entry_is_root(const pm_entry *entry)
{
	return entry->path[0] == 0;
}

/* The container of a row, or NULL. */
static inline pm_entry *pm_entry_at(const pm_context *context, uint32_t row)
{
	return row < context->entry_count ? context->entries[row] : NULL;
}

#endif
