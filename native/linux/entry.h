/* State of one container in a reader. Only the reader's thread sees it. */
#ifndef PYMON_ENTRY_H
#define PYMON_ENTRY_H

#include "plan.h"
#include "reader.h"

/* Values of a file slot that are no descriptor. */
enum { PM_FD_CLOSED = -1, PM_FD_ABSENT = -2 };

typedef struct {
	uint64_t values[2];
	int set[2];
} pm_setting;

typedef struct {
	int pid;
	int dir;	  /* O_PATH descriptor of /proc/PID, or -1; it pins the pid's identity, not its namespaces */
	uint64_t inode;	  /* of the network namespace, 0 unknown */
	int64_t check_ns; /* look at the namespace again then */
	int shadowed;	  /* an older container reports this namespace */
} pm_entry_net;

typedef struct {
	char *path; /* NULL: no container in this row */
	int64_t start_ns;
	int64_t young_until_ns; /* what surrounds the container may still be changing until then */
	int64_t slow_due_ns;
	int has_children;
	int *fds;	      /* one for each file of the plan */
	pm_setting *settings; /* one for each file of the plan */
	pm_entry_net net;
	struct pm_sched *sched; /* NULL until the table is wanted */
} pm_entry;

/* What the functions that fill tables work on. */
typedef struct {
	const pm_plan *plan;
	const int *roots;
	int procfs;
	int sysfs;
	uint64_t host_netns;
	pm_entry *entries;
	uint32_t entry_count;
	uint32_t alive;
	uint32_t open;
	uint32_t level; /* files of every row that may stay open */
	uint32_t extra; /* rows below this one may keep one more */
	pm_buffer buffer;
	pm_buffer scratch;
	pm_buffer pids; /* int, of the processes listed last */
	int listing;	/* whether pids are to be gathered there */
	struct pm_devices *devices;
	pm_result *result;
	int64_t now_ns;
	int64_t deadline_ns; /* of the walk over processes */
} pm_context;

static inline void pm_fail(pm_context *context, pm_reason reason)
{
	context->result->failures[reason]++;
}

/* entry.c */
/* A container comes; the path, relative to the roots, is the entry's from here on. */
void pm_entry_add(pm_context *context, uint32_t row, char *path, int64_t start_ns);
void pm_entry_remove(pm_context *context, uint32_t row);
void pm_entry_refresh(pm_context *context, uint32_t row);
/* Close its files; they are opened again when they are read. */
void pm_entry_close(pm_context *context, pm_entry *entry);

/* collect.c: fill the tables for rows 0 .. rows-1, or for `row` alone as row 0; `context->result` is being filled. */
void pm_collect(pm_context *context, pm_table **tables, uint32_t rows, int64_t deadline_ns);
void pm_collect_row(pm_context *context, pm_table **tables, uint32_t row, int64_t deadline_ns);

/* files.c: read the plan's files of one entry into row `row` of the tables. */
void pm_collect_files(pm_context *context, pm_entry *entry, uint32_t index, pm_table **tables, uint32_t row);
/* Find the network namespace of an entry that was not read since it came, or is young. */
void pm_look_for_netns(pm_context *context, pm_entry *entry);
void pm_devices_free(pm_context *context);
/* Bring the pids of an entry's processes into context->pids, and the first that is not 0 into *first. 1, or 0 when they
 * are not known. */
int pm_list_processes(pm_context *context, pm_entry *entry, int *first);

/* netns.c */
/* Inode of a network namespace, or 0 with errno set. */
uint64_t pm_netns_inode(int dir, const char *path);
/* Whether the namespace of an entry was never looked for, or was when it was still likely to change. */
int pm_netns_is_vague(const pm_context *context, const pm_entry *entry);
/* Find the namespace of an entry, given one of its processes. 0 when that process is no longer there. */
int pm_netns_find(pm_context *context, pm_entry *entry, int pid);
/* Decide which of the entries that share a namespace reports it: the one that started first. 0 or -1. */
int pm_netns_owners(pm_context *context);
void pm_netns_owner(pm_context *context, pm_entry *entry);
void pm_collect_net(pm_context *context, pm_entry *entry, pm_table **tables, uint32_t row);

/* processes.c */
int pm_collects_processes(const pm_context *context, pm_table **tables);
/* Look at every process of an entry, until the deadline. */
void pm_collect_processes(pm_context *context, pm_entry *entry, pm_table **tables, uint32_t row);
void pm_sched_free(pm_entry *entry);

#endif
