// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* How long the tasks of groups of cgroups wait for a CPU, and their requests for a block device.
 *
 * The kernel notes when a task becomes runnable (sched_info.last_queued), whether it was woken or preempted, and clears
 * that when the task runs. So one program on the switch sees each delay, and none is needed on wake-ups. A task that is
 * moved to another CPU while it waits is queued anew there: what it waited before is not seen. To know it takes storage
 * for each task, which kernels before 6.3 do not allocate safely while a run queue is locked. */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "latency_kernel.h"
#include "latency_record.h"

#pragma clang diagnostic ignored "-Wunused-parameter" /* of what BPF_PROG makes */

char _license[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PM_LATENCY_VERSION);
	__uint(key_size, 4);
	__uint(value_size, 8);
} version SEC(".maps");

/* From the loader: whether tasks are counted by the hierarchy of the version 1 controller cpu, and whether requests are
 * by that of blkio; else by that of version 2. */
const volatile __u32 by_cpu = 0;
const volatile __u32 by_blkio = 0;

/* Groups by the ids of their cgroups, in the hierarchy of tasks and, where that is another one, in that of requests. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PM_LATENCY_GROUPS);
	__type(key, __u64);
	__type(value, pm_latency_group);
} groups SEC(".maps"), io_groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, PM_LATENCY_GROUPS);
	__type(key, __u32);
	__type(value, pm_latency_counts);
} counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, pm_latency_state);
} state SEC(".maps");

#define NO_SLOT (~0u)

/* What has run on a CPU. */
typedef struct {
	__u64 begin, end;
	__u32 account;
	__u32 pad;
} interval;

/* The group that a cgroup is in. An id is never given to a second cgroup of a hierarchy. */
typedef struct {
	__u64 id;
	pm_latency_group group;
	__u32 generation;
	__u32 pad;
} known_group;

typedef struct {
	__u64 since; /* when the task that runs was switched to; 0: not known */
	pm_latency_group running;
	__u32 generation; /* in which `running` was found */
	__u32 at;	  /* of the next interval */
	interval intervals[PM_LATENCY_INTERVALS];
	known_group known[PM_LATENCY_KNOWN];
} cpu_state;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, cpu_state);
} cpus SEC(".maps");

static __always_inline void add(unsigned long long *to, __u64 value)
{
	__sync_fetch_and_add(to, value);
}

static __always_inline __u32 bucket_of(__u64 ns)
{
	__u32 exponent = 0, bucket;

	if (ns >> 43)
		return PM_LATENCY_BUCKETS - 1; /* more than two hours, and too much for the multiplication */
	/* In units of 2^-30 s, rounded up. The factor is right to one part in ten million. */
	ns = (ns * 1125900 + (1 << 20) - 1) >> 20;
	if (ns <= 1ull << PM_LATENCY_FIRST)
		return 0;
	ns--; /* a bound belongs to the bucket below it */
	if (ns >> 32) {
		ns >>= 32;
		exponent += 32;
	}
	if (ns >> 16) {
		ns >>= 16;
		exponent += 16;
	}
	if (ns >> 8) {
		ns >>= 8;
		exponent += 8;
	}
	if (ns >> 4) {
		ns >>= 4;
		exponent += 4;
	}
	if (ns >> 2) {
		ns >>= 2;
		exponent += 2;
	}
	exponent += ns >> 1;
	/* 2^exponent <= ns < 2^(exponent + 1) */
	bucket = (exponent + 1 - PM_LATENCY_FIRST + PM_LATENCY_STEP - 1) / PM_LATENCY_STEP;
	return bucket < PM_LATENCY_BUCKETS ? bucket : PM_LATENCY_BUCKETS - 1;
}

static __always_inline void observe(pm_latency_histogram *histogram, __u64 ns)
{
	__u32 bucket = bucket_of(ns);

	asm volatile("" : "+r"(bucket)); /* keeps the comparison that the verifier needs */
	if (bucket >= PM_LATENCY_BUCKETS)
		return;
	add(&histogram->buckets[bucket], 1);
	add(&histogram->sum_ns, ns);
}

/* The nearest group among a cgroup and its ancestors. */
static __always_inline pm_latency_group group_above(struct cgroup *cgroup, void *of)
{
	pm_latency_group none = {NO_SLOT, PM_LATENCY_NOBODY};

	/* Unrolled, here and below: Linux before 6.8 refuses a loop that is entered or continued by anything but a jump
	 * (check_cfg() in kernel/bpf/verifier.c), and clang decides where the head of a loop is. */
#pragma unroll
	for (int level = 0; level < PM_LATENCY_LEVELS; level++) {
		struct cgroup_subsys_state *parent;
		pm_latency_group *found;
		__u64 id = BPF_CORE_READ(cgroup, kn, id);

		found = bpf_map_lookup_elem(of, &id);
		if (found)
			return *found;
		parent = BPF_CORE_READ(cgroup, self.parent);
		if (parent == NULL)
			break;
		cgroup = BPF_CORE_READ(parent, cgroup);
	}
	return none;
}

/* Loads through pointers that the verifier knows the types of: probe_read, which needs no type, takes longer. */
static __always_inline struct cgroup *cgroup_of(struct task_struct *task)
{
	char *set = (char *)task->cgroups;
	struct cgroup_subsys_state *css;

	if (!by_cpu)
		return task->cgroups->dfl_cgrp;
	css = *(struct cgroup_subsys_state **)(set + bpf_core_field_offset(struct css_set, subsys) +
					       8 * bpf_core_enum_value(enum cgroup_subsys_id, cpu_cgrp_id));
	return css->cgroup;
}

/* The group that a task is in. generation: read before this is called, so that a group that is told meanwhile is not
 * taken for unknown later. */
static __always_inline pm_latency_group group_of(struct task_struct *task, cpu_state *cpu, __u32 generation)
{
	struct cgroup *cgroup;
	known_group *known;
	__u64 id;

	if (task->pid == 0)
		return (pm_latency_group){NO_SLOT, PM_LATENCY_NOBODY};
	cgroup = cgroup_of(task);
	id = cgroup->kn->id;
	known = &cpu->known[(id ^ id >> 32) % PM_LATENCY_KNOWN];
	if (known->id != id || known->generation != generation) {
		known->group = group_above(cgroup, &groups);
		known->generation = generation;
		known->id = id;
	}
	return known->group;
}

/* How long, since a time, groups of other accounts have run on this CPU. */
static __always_inline __u64 others_since(const cpu_state *cpu, __u64 since, __u32 account)
{
	__u64 total = 0;

#pragma unroll
	for (__u32 i = 1; i <= PM_LATENCY_INTERVALS; i++) {
		const interval *ran = &cpu->intervals[(cpu->at - i) % PM_LATENCY_INTERVALS];

		if (ran->end <= since)
			break;
		if (ran->account != account)
			total += ran->end - (ran->begin > since ? ran->begin : since);
	}
	return total;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, _Bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 now = next->se.cfs_rq->rq->clock, queued, delay; /* the clock of last_queued */
	pm_latency_group before, group;
	pm_latency_counts *counted;
	__u32 first = 0, generation;
	cpu_state *cpu = bpf_map_lookup_elem(&cpus, &first);
	const volatile pm_latency_state *set = bpf_map_lookup_elem(&state, &first);

	if (cpu == NULL || set == NULL)
		return 0;
	generation = set->generation;
	group = group_of(next, cpu, generation);
	/* What was remembered may be a slot that is another container's by now. */
	before = cpu->generation == generation ? cpu->running : group_of(prev, cpu, generation);
	if (cpu->since && before.account != PM_LATENCY_NOBODY) {
		interval *ran = &cpu->intervals[cpu->at % PM_LATENCY_INTERVALS];

		*ran = (interval){cpu->since, now, before.account, 0};
		cpu->at++;
	}
	/* A task that is still runnable was preempted, or throttled, if the CPU is idle afterwards. */
	if (cpu->since && before.slot != NO_SLOT && next->pid != 0 && (preempt || prev->__state == 0)) {
		counted = bpf_map_lookup_elem(&counts, &before.slot);
		if (counted) {
			if (group.account == PM_LATENCY_NOBODY)
				add(&counted->preempted[PM_LATENCY_SYSTEM], 1);
			else if (group.account == before.account)
				add(&counted->preempted[PM_LATENCY_SAME], 1);
			else
				add(&counted->preempted[PM_LATENCY_OTHER], 1);
		}
	}
	cpu->since = now;
	cpu->running = group;
	cpu->generation = generation;
	if (group.slot == NO_SLOT)
		return 0;
	queued = next->sched_info.last_queued;
	counted = bpf_map_lookup_elem(&counts, &group.slot);
	if (queued == 0 || counted == NULL)
		return 0;
	delay = now > queued ? now - queued : 0;
	observe(&counted->run_delay, delay);
	if (delay) {
		__u64 other = others_since(cpu, queued, group.account);

		if (other)
			add(&counted->other_ns, other);
	}
	return 0;
}

/* Requests that a device has been given, and when. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PM_LATENCY_REQUESTS);
	__type(key, __u64);
	__type(value, __u64);
} requests SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PM_LATENCY_IO);
	__type(key, pm_latency_io_key);
	__type(value, pm_latency_histogram);
} io SEC(".maps");

static __always_inline int operation_of(struct request *request)
{
	enum { OPERATION = 0xff };
	__u32 operation = request->cmd_flags & OPERATION;

	if (operation == bpf_core_enum_value(enum req_op, REQ_OP_READ))
		return PM_LATENCY_READ;
	if (operation == bpf_core_enum_value(enum req_op, REQ_OP_WRITE))
		return PM_LATENCY_WRITE;
	if (operation == bpf_core_enum_value(enum req_op, REQ_OP_FLUSH))
		return PM_LATENCY_FLUSH;
	if (operation == bpf_core_enum_value(enum req_op, REQ_OP_DISCARD))
		return PM_LATENCY_DISCARD;
	return -1;
}

SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_issue, struct request *request)
{
	__u64 key = (__u64)request, now = bpf_ktime_get_ns();

	if (request->bio)
		bpf_map_update_elem(&requests, &key, &now, BPF_ANY);
	return 0;
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_complete, struct request *request, int error, unsigned int bytes)
{
	__u64 key = (__u64)request, now = bpf_ktime_get_ns(), *begun;
	struct cgroup *cgroup;
	pm_latency_group group;
	pm_latency_histogram *histogram, none = {};
	pm_latency_io_key of = {};
	int operation;

	if (bytes < request->__data_len) /* a part of it */
		return 0;
	begun = bpf_map_lookup_elem(&requests, &key);
	if (begun == NULL)
		return 0;
	now -= *begun;
	bpf_map_delete_elem(&requests, &key);
	operation = operation_of(request);
	cgroup = BPF_CORE_READ(request, bio, bi_blkg, blkcg, css.cgroup);
	if (operation < 0 || cgroup == NULL)
		return 0;
	/* Two hierarchies give the same id to different cgroups. */
	group = by_cpu || by_blkio ? group_above(cgroup, &io_groups) : group_above(cgroup, &groups);
	if (group.slot == NO_SLOT)
		return 0;
	of.slot = group.slot;
	of.operation = operation;
	of.major = BPF_CORE_READ(request, q, disk, major);
	of.minor = BPF_CORE_READ(request, q, disk, first_minor);
	histogram = bpf_map_lookup_elem(&io, &of);
	if (histogram == NULL) {
		bpf_map_update_elem(&io, &of, &none, BPF_NOEXIST);
		histogram = bpf_map_lookup_elem(&io, &of);
	}
	if (histogram)
		observe(histogram, now);
	return 0;
}
