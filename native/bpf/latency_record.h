/* What the programs of latency.bpf.c count, and what the loader tells them. */
#ifndef PYMON_BPF_LATENCY_RECORD_H
#define PYMON_BPF_LATENCY_RECORD_H

/* Of the object, as PM_BPF_VERSION is of cgroup.bpf.o. */
#define PM_LATENCY_VERSION 2

enum {
	PM_LATENCY_GROUPS = 16384,   /* at most, that are measured at a time */
	PM_LATENCY_KNOWN = 256,	     /* cgroups for which each CPU remembers which group they are in */
	PM_LATENCY_REQUESTS = 16384, /* of block devices, under way */
	PM_LATENCY_IO = 16384,	     /* histograms of block I/O */
	PM_LATENCY_LEVELS = 16,	     /* a cgroup belongs to the nearest group among itself and its ancestors, so many */
	PM_LATENCY_INTERVALS = 16,   /* of each CPU, that are remembered */
	PM_LATENCY_FIRST = 10,	     /* the first bucket is up to 2^10 units of 2^-30 s, 0.95 us */
	PM_LATENCY_STEP = 2,	     /* each further one up to 2^2 times as long */
	PM_LATENCY_BUCKETS = 15,     /* the last one has no bound */
	PM_LATENCY_NOBODY = 0,	     /* the account of what is of no account */
};

/* A histogram of times: how many fall into each bucket, and their sum in nanoseconds. */
typedef struct {
	unsigned long long buckets[PM_LATENCY_BUCKETS];
	unsigned long long sum_ns;
} pm_latency_histogram;

/* Who ran instead, of a task that was preempted: its own account, another, or what is of no account. */
enum pm_latency_by { PM_LATENCY_SAME, PM_LATENCY_OTHER, PM_LATENCY_SYSTEM, PM_LATENCY_BY };

/* What is counted of the tasks of a group. */
typedef struct {
	pm_latency_histogram run_delay;
	unsigned long long preempted[PM_LATENCY_BY];
	unsigned long long other_ns; /* of the delay, while groups of other accounts ran on the CPU */
} pm_latency_counts;

/* A cgroup that is measured: where it is counted, and whose it is. */
typedef struct {
	unsigned int slot;
	unsigned int account;
} pm_latency_group;

enum pm_latency_operation { PM_LATENCY_READ, PM_LATENCY_WRITE, PM_LATENCY_FLUSH, PM_LATENCY_DISCARD };

typedef struct {
	unsigned int slot;
	unsigned int major, minor;
	unsigned int operation;
} pm_latency_io_key;

/* Set by the loader. */
typedef struct {
	unsigned int generation; /* changes with the groups */
} pm_latency_state;

#endif
