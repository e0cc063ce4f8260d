/* Waiting times of containers, counted by the programs of latency.bpf.c while this is open. */
#ifndef PYMON_BPF_LATENCY_H
#define PYMON_BPF_LATENCY_H

#include "latency_record.h"
#include "libbpf.h"
#include "table.h"
#include "walk.h"

/* Columns of the table of containers: buckets, each with those before it, as exposition formats count them, then these.
 * The table of block I/O has the buckets and PM_LATENCY_SUM, in rows that are labelled with a device and an operation.
 */
enum {
	PM_LATENCY_SUM = PM_LATENCY_BUCKETS,
	PM_LATENCY_PREEMPTED,
	PM_LATENCY_OTHER_NS = PM_LATENCY_PREEMPTED + PM_LATENCY_BY,
	PM_LATENCY_COLUMNS,
	PM_LATENCY_IO_COLUMNS = PM_LATENCY_SUM + 1,
};

/* The hierarchies in which containers are looked for. */
typedef struct {
	const char *tasks;    /* root directory of the one that says in which container a task is */
	const char *requests; /* of the one that says the same of requests to block devices; NULL: there is none */
	int by_cpu;	      /* `tasks` is that of the version 1 controller cpu, not the version 2 tree */
	int by_blkio;	      /* `requests` is that of blkio */
	const char *sysfs;    /* where devices have names */
} pm_latency_place;

typedef struct pm_latency pm_latency;

/* Load the programs and run them from now on. NULL with errno; what libbpf and the kernel say of it is in `log`. errno
 * is EPROTO where the object is of another version. The functions below may be called by any thread. */
pm_latency *pm_latency_open(const pm_libbpf *library, const pm_bpf_object *object, const pm_latency_place *place,
			    char *log, size_t log_size);
void pm_latency_close(pm_latency *latency);

/* Count container `row`, whose cgroup has this path relative to the roots, from now on and from 0. What it was before
 * is forgotten. Returns 0 or -errno: ENOSPC for a row that is too high. */
int pm_latency_add(pm_latency *latency, uint32_t row, const char *path);
/* Look again for the cgroups of containers: of `count` rows from `first` on. One that is in more hierarchies than
 * before, or was made anew at its path, is counted there from now on, in addition to what was counted. Returns 0 or
 * -errno. */
int pm_latency_look(pm_latency *latency, uint32_t first, uint32_t count);
/* Say whose a container is: PM_LATENCY_NOBODY, or any other number. Returns 0 or -errno. */
int pm_latency_own(pm_latency *latency, uint32_t row, uint32_t account);
void pm_latency_remove(pm_latency *latency, uint32_t row);

/* Replace the rows of the tables, which may be NULL: by `rows` rows, and by those of block I/O, with their container as
 * parent. Returns 0 or -errno. */
int pm_latency_fill(pm_latency *latency, pm_table *containers, pm_table *io, uint32_t rows);
/* The same for one container, which is parent 0. */
int pm_latency_fill_one(pm_latency *latency, pm_table *containers, pm_table *io, uint32_t row);

#endif
