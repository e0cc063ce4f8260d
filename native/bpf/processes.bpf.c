// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* The processes of each cgroup, and the network namespace that they are in. Kernels before 6.7 do not have these
 * functions; why this is an object of its own is said in cputime.bpf.c. */
#include "program.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct css_set;

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

struct nsproxy {
	struct net *net_ns;
};

struct pid {
	unsigned int level;
};

struct task_struct {
	int pid;
	int tgid;
	unsigned int flags;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct css_set *cgroups;
	struct nsproxy *nsproxy;
};

#pragma clang attribute pop

struct bpf_iter_css_task {
	__u64 opaque[1];
} __attribute__((aligned(8)));

extern int bpf_iter_css_task_new(struct bpf_iter_css_task *it, struct cgroup_subsys_state *css,
				 unsigned int flags) __ksym;
extern struct task_struct *bpf_iter_css_task_next(struct bpf_iter_css_task *it) __ksym;
extern void bpf_iter_css_task_destroy(struct bpf_iter_css_task *it) __ksym;

enum { EXITING = 4 }; /* PF_EXITING */

SEC("iter.s/cgroup")
int walk_processes(struct bpf_iter__cgroup *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf(), *leader;
	struct net *net = NULL;
	struct bpf_iter_css_task tasks;
	int count = 0, is_elsewhere = 0, is_mixed = 0;

	BEGIN(ctx);
	values[PM_PROCESSES_NAMESPACE] = 0;
	/* In a pid namespace files do not list all processes. */
	if (task->thread_pid->level) {
		values[PM_PROCESSES_COUNT] = PM_BPF_UNKNOWN;
		return 0;
	}
	/* Processes of groups below are counted too, and a threaded group has no list. */
	values[PM_PROCESSES_COUNT] = PM_BPF_IN_FILES;
	if (cgroup->nr_descendants || cgroup->dom_cgrp != cgroup)
		return 0;
	if (bpf_iter_css_task_new(&tasks, &cgroup->self, 0) == 0) {
		while ((task = bpf_iter_css_task_next(&tasks))) {
			leader = task->group_leader;
			if (task->pid == task->tgid)
				count++;
			else if (leader->cgroups != task->cgroups || leader->flags & EXITING)
				is_elsewhere = 1;
			if (net == NULL)
				net = task->nsproxy->net_ns;
			else if (net != task->nsproxy->net_ns)
				is_mixed = 1;
		}
		if (!is_elsewhere)
			values[PM_PROCESSES_COUNT] = count;
		if (net && !is_elsewhere && !is_mixed)
			values[PM_PROCESSES_NAMESPACE] = net->ns.inum;
	}
	bpf_iter_css_task_destroy(&tasks);
	return 0;
}
