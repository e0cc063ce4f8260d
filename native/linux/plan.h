/* What a reader reads: kernel files in order of priority, and the columns their fields go to. */
#ifndef PYMON_PLAN_H
#define PYMON_PLAN_H

#include "scan.h"

typedef enum {
	PM_FILE_VALUE,	  /* one integer, or `max` */
	PM_FILE_LIMIT,	  /* the same, where a negative number or one above 2^62 means none */
	PM_FILE_PAIR,	  /* cpu.max: two columns */
	PM_FILE_KEYED,	  /* lines of key and value */
	PM_FILE_PRESSURE, /* two columns, some and full */
	PM_FILE_IO,	  /* io.stat: a row for each device */
	PM_FILE_BLKIO,	  /* blkio.*: a row for each device, `operation` keys */
	PM_FILE_PERCPU,	  /* cpuacct.usage_percpu: a row for each CPU that has run the group */
	PM_FILE_NUMA,	  /* memory.numa_stat of v1: a row for each node and type */
	PM_FILE_PROCS,	  /* cgroup.procs: the number of lines, and the way to the network namespace */
} pm_file_kind;

typedef struct {
	char *name;
	uint32_t root; /* which hierarchy */
	pm_file_kind kind;
	int slow; /* settings: read again only after slow_ns */
	uint32_t table;
	uint32_t column; /* VALUE, LIMIT, PAIR, PRESSURE, PERCPU, PROCS: the first column */
	pm_keys keys;	 /* KEYED, IO, BLKIO */
} pm_file;

/* Tables of the network part of a plan, or PM_NO_TABLE. */
#define PM_NO_TABLE UINT32_MAX
typedef struct {
	uint32_t network;
	uint32_t sockstat;
	uint32_t tcp;
	uint32_t tcp6;
	uint32_t udp;
	uint32_t udp6;
	uint32_t advtcp;
	pm_keys sockstat_keys;
	pm_keys advtcp_keys;
} pm_net_plan;

/* Tables of what every process of a container is looked at for, or PM_NO_TABLE. */
typedef struct {
	uint32_t sched;	      /* nanoseconds run, nanoseconds runnable, times run */
	uint32_t descriptors; /* open files, those of them that are sockets */
	uint32_t ulimits;     /* of the first process: the soft limit of open files */
} pm_process_plan;

typedef struct {
	uint32_t root_count;
	char **roots; /* absolute paths of the hierarchies' root directories */
	char *procfs;
	char *sysfs;
	uint32_t file_count;
	pm_file *files;
	uint32_t table_count;
	uint32_t io_numbered; /* table that repeats the io rows with major and minor, or PM_NO_TABLE */
	pm_net_plan net;
	pm_process_plan processes;
	uint32_t budget;  /* descriptors that may stay open */
	uint32_t sharers; /* where the descriptor table is shared after all, the budget is divided by this */
	int64_t slow_ns;
} pm_plan;

#endif
