/* What the programs of cgroup.bpf.c write: a head, then a record for each cgroup, all of one size. */
#ifndef PYMON_BPF_RECORD_H
#define PYMON_BPF_RECORD_H

/* Values that are no number: there is none here; this kernel does not say it in a way that the program knows; the files
 * of this cgroup have more than the program can say at the moment. */
#define PM_BPF_ABSENT (~0ull)
#define PM_BPF_UNKNOWN (~1ull)
#define PM_BPF_IN_FILES (~2ull)

/* Of the object: files are read instead where it differs from the one that the loader was built with. */
#define PM_BPF_VERSION 3

enum { PM_BPF_VALUES = 36 }; /* at most, in a record */

typedef struct {
	unsigned long long id; /* of the cgroup: the inode number of its directory */
	unsigned long long values[PM_BPF_VALUES];
} pm_bpf_record;

/* What the loader tells the programs. */
typedef struct {
	unsigned long long page_size; /* bytes */
	unsigned long long cpus;      /* that a record has room for */
} pm_bpf_given;

/* In the place of the first record. */
typedef struct {
	unsigned long long records; /* that follow */
	unsigned long long dropped; /* cgroups for which there was no room */
	unsigned long long done;    /* whether the walk has come to its end */
} pm_bpf_head;

enum pm_bpf_memory_value {
	PM_MEMORY_USAGE,
	PM_MEMORY_PEAK,
	PM_MEMORY_MAX,
	PM_MEMORY_MIN,
	PM_MEMORY_FAILCNT,
	PM_MEMORY_SWAP_USAGE,
	PM_MEMORY_SWAP_MAX,
	PM_MEMORY_MEMSW_MAX,
	PM_MEMORY_KMEM_USAGE,
	PM_MEMORY_SOFT_LIMIT,
	PM_MEMORY_FILE,
	PM_MEMORY_ANON,
	PM_MEMORY_FILE_MAPPED,
	PM_MEMORY_INACTIVE_FILE,
	PM_MEMORY_ACTIVE_FILE,
	PM_MEMORY_FILE_DIRTY,
	PM_MEMORY_WRITEBACK,
	PM_MEMORY_REFAULT_FILE,
	PM_MEMORY_REFAULT_ANON,
	PM_MEMORY_SWAP,
	PM_MEMORY_KERNEL,
	PM_MEMORY_PGFAULT,
	PM_MEMORY_PGMAJFAULT,
	PM_MEMORY_LOCAL_PGFAULT,
	PM_MEMORY_LOCAL_PGMAJFAULT,
	PM_MEMORY_PGSCAN,
	PM_MEMORY_PGSTEAL,
	PM_MEMORY_LOW,
	PM_MEMORY_HIGH,
	PM_MEMORY_INACTIVE_ANON,
	PM_MEMORY_ACTIVE_ANON,
	PM_MEMORY_ANON_THP,
	PM_MEMORY_SEC_PAGETABLES,
	PM_MEMORY_VALUES,
};

enum pm_bpf_events_value {
	PM_EVENTS_HIGH,
	PM_EVENTS_MAX,
	PM_EVENTS_OOM_KILL,
	PM_EVENTS_LOW,
	PM_EVENTS_OOM,
	PM_EVENTS_OOM_GROUP_KILL,
	PM_EVENTS_LOCAL_OOM_KILL,
	PM_EVENTS_FAILCNT,
	PM_EVENTS_VALUES,
};

enum pm_bpf_cpu_value {
	PM_CPU_NR_PERIODS,
	PM_CPU_NR_THROTTLED,
	PM_CPU_THROTTLED_NS,
	PM_CPU_THROTTLED_US,
	PM_CPU_NR_BURSTS,
	PM_CPU_BURST_US,
	PM_CPU_QUOTA_US,
	PM_CPU_PERIOD_US,
	PM_CPU_SHARES,
	PM_CPU_WEIGHT,
	PM_CPU_VALUES,
};

/* Nanoseconds. The kernel divides the run time between user and system as the loader does, see cputime.h. */
enum pm_bpf_time_value {
	PM_TIME_RUN,
	PM_TIME_USER,
	PM_TIME_SYSTEM,
	PM_TIME_SHOWN_USER,
	PM_TIME_SHOWN_SYSTEM,
	PM_TIME_VALUES,
};

/* Of the controller cpuacct those of pm_bpf_time_value, then the number of CPUs, and the nanoseconds of each. */
enum pm_bpf_cpuacct_value { PM_CPUACCT_CPUS = PM_TIME_VALUES, PM_CPUACCT_VALUES };

/* The namespace is the inode of the network namespace that all processes are in, 0 where it is not known. */
enum pm_bpf_processes_value { PM_PROCESSES_COUNT, PM_PROCESSES_NAMESPACE, PM_PROCESSES_VALUES };

enum pm_bpf_pids_value { PM_PIDS_CURRENT, PM_PIDS_MAX, PM_PIDS_VALUES };

/* 0, or PM_BPF_IN_FILES where the cgroup has done anything with a block device. */
enum pm_bpf_blkio_value { PM_BLKIO_NONE, PM_BLKIO_VALUES };

/* Microseconds; PM_BPF_IN_FILES while there is time that the kernel adds when it is asked. */
enum pm_bpf_pressure_value {
	PM_PRESSURE_CPU_SOME,
	PM_PRESSURE_CPU_FULL,
	PM_PRESSURE_MEMORY_SOME,
	PM_PRESSURE_MEMORY_FULL,
	PM_PRESSURE_IO_SOME,
	PM_PRESSURE_IO_FULL,
	PM_PRESSURE_VALUES,
};

#endif
