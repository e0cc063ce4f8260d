/* What a reader reads: kernel files in order of priority, and the columns their fields go to. */
#ifndef PYMON_PLAN_H
#define PYMON_PLAN_H

#include "filler.h"
#include "kinds.h"

#define PM_NO_TABLE UINT32_MAX
#define PM_NO_FILE UINT32_MAX

enum { PM_TABLES = 64 }; /* at most, of a plan */

/* Places of a failure besides the tables, which come first by their index. */
enum {
	PM_PLACE_PROCESSES = PM_TABLES, /* the list of processes: tables of processes and of namespaces */
	PM_PLACE_NETWORK,		/* the network namespace: its tables */
	PM_PLACE_ALL,			/* anything: all tables */
};
_Static_assert((int)PM_PLACE_ALL == (int)PM_PLACES, "failures of a known place are counted");

/* A table that a file fills; see pm_target. */
typedef struct {
	uint32_t table;
	uint32_t label_count;
	pm_label labels[PM_LABELS];
} pm_file_target;

typedef struct {
	char *name;
	char *second; /* of a kind `least`: read after it, as one text; or NULL */
	const pm_kind *kind;
	uint32_t root; /* which hierarchy; not used for files of a namespace */
	int slow;      /* a setting: read again only after slow_ns */
	int rest;      /* fills only what the file before it left, and nothing where that could not be read */
	uint32_t column;
	pm_keys keys;
	uint32_t target_count;
	pm_file_target targets[PM_TARGETS];
} pm_file;

/* What every process of a container is looked at for. */
typedef enum {
	PM_PROCESS_SCHED,	/* nanoseconds run, nanoseconds runnable, times run */
	PM_PROCESS_DESCRIPTORS, /* open files, those of them that are sockets */
	PM_PROCESS_ULIMITS,	/* of the first process: the soft limit of open files */
	PM_PROCESS_TASKS,	/* threads that sleep, run, are stopped, cannot be interrupted */
	PM_PROCESS_TABLES,
} pm_process_table;

typedef struct {
	uint32_t root_count;
	char **roots; /* absolute paths of the hierarchies' root directories */
	char *procfs;
	char *sysfs;
	uint32_t file_count;
	pm_file *files;
	uint32_t net_file_count;
	pm_file *net_files; /* of the network namespace, relative to /proc/PID; any: namespaces are looked for */
	char **excluded;    /* patterns of fnmatch(3) of interfaces that are left out, ended by NULL; or NULL */
	uint32_t table_count;
	uint32_t processes[PM_PROCESS_TABLES]; /* tables, or PM_NO_TABLE */
	uint32_t budget;		       /* descriptors that may stay open */
	uint32_t sharers; /* where the descriptor table is shared after all, the budget is divided by this */
	int64_t slow_ns;
	const pm_filler *filler; /* or NULL */
} pm_plan;

static inline int pm_file_adds_rows(const pm_file *file, uint32_t target)
{
	return file->kind->adds_rows || file->targets[target].label_count;
}

/* Whether any table that the file fills is among those that are wanted, which are not NULL. */
static inline int pm_file_is_wanted(const pm_file *file, pm_table *const *tables)
{
	for (uint32_t i = 0; i < file->target_count; i++)
		if (tables[file->targets[i].table])
			return 1;
	return 0;
}

#endif
