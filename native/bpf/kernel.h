/* The kernel's types, as far as cgroup.bpf.c reads them. Members are found by name where the program is loaded, so
 * their order and what is between them do not matter; the values of enumerators here do not either. */
#ifndef PYMON_BPF_KERNEL_H
#define PYMON_BPF_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter_meta {
	__u64 seq_num;
};

struct bpf_iter__cgroup {
	struct bpf_iter_meta *meta;
	struct cgroup *cgroup;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct task_cputime {
	__u64 stime;
	__u64 utime;
	unsigned long long sum_exec_runtime;
};

struct prev_cputime {
	__u64 utime;
	__u64 stime;
};

struct cgroup_base_stat {
	struct task_cputime cputime;
};

struct psi_group_cpu {
	__u32 state_mask;
	__u32 times[1];
	__u32 times_prev[1];
};

struct psi_group {
	_Bool enabled;
	struct psi_group_cpu *pcpu; /* of each CPU */
	__u64 total[1];
};

struct cgroup {
	struct cgroup_subsys_state self;
	int nr_descendants;
	struct cgroup *dom_cgrp;
	struct kernfs_node *kn;
	struct cgroup_subsys_state *subsys[1];
	struct cgroup_base_stat bstat;
	struct prev_cputime prev_cputime;
	struct psi_group *psi;
};

typedef struct {
	long counter;
} atomic_long_t;

struct page_counter {
	atomic_long_t usage;
	unsigned long failcnt;
	unsigned long watermark;
	unsigned long min;
	unsigned long low;
	unsigned long high;
	unsigned long max;
};

struct memcg_vmstats {
	long state[1];
	unsigned long events[1];
	unsigned long events_local[1];
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter swap;
	struct page_counter memsw;
	struct page_counter kmem;
	unsigned long soft_limit;
	struct memcg_vmstats *vmstats;
	atomic_long_t memory_events[1];
	atomic_long_t memory_events_local[1];
};

struct pids_cgroup {
	struct cgroup_subsys_state css;
	atomic_long_t counter;
	atomic_long_t limit;
};

struct cfs_bandwidth {
	long long period;
	__u64 quota;
	int nr_periods;
	int nr_throttled;
	int nr_burst;
	__u64 throttled_time;
	__u64 burst_time;
};

struct task_group {
	struct cgroup_subsys_state css;
	unsigned long shares;
	struct cfs_bandwidth cfs_bandwidth;
};

struct kernel_cpustat {
	__u64 cpustat[1];
};

struct cpuacct {
	struct cgroup_subsys_state css;
	__u64 *cpuusage;		/* of each CPU */
	struct kernel_cpustat *cpustat; /* of each CPU */
};

struct hlist_head {
	void *first;
};

struct blkcg {
	struct cgroup_subsys_state css;
	struct hlist_head blkg_list;
};

struct bpf_array {
	void *pptrs[1]; /* common addresses */
};

#pragma clang attribute pop

enum cgroup_subsys_id { cpu_cgrp_id = 1, cpuacct_cgrp_id, io_cgrp_id, memory_cgrp_id, pids_cgrp_id };

enum cpu_usage_stat { CPUTIME_USER = 1, CPUTIME_NICE, CPUTIME_SYSTEM, CPUTIME_SOFTIRQ, CPUTIME_IRQ };

enum psi_states { PSI_IO_SOME = 1, PSI_IO_FULL, PSI_MEM_SOME, PSI_MEM_FULL, PSI_CPU_SOME, PSI_CPU_FULL };

enum memcg_memory_event { MEMCG_LOW, MEMCG_HIGH, MEMCG_MAX, MEMCG_OOM, MEMCG_OOM_KILL, MEMCG_OOM_GROUP_KILL };

#endif
