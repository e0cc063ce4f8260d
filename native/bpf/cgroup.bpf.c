// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Programs of a cgroup iterator. Each writes one record for every cgroup that it is shown, into an array that the
 * loader has mapped: the buffer of an iterator holds no more than 32 KiB and cannot be read twice.
 *
 * The loader flushes what the kernel counts for each CPU before it runs a program, where that is not done here. */
#include "items.h"
#include "program.h"

/* Nothing is kept in it: it says where each CPU has its part of what is allocated for every CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, 8);
} of_cpus SEC(".maps");

/* The state of a controller in a cgroup, or NULL. `id` is a name of enum cgroup_subsys_id. */
#define STATE_OF(cgroup_, id)                                                                                          \
	({                                                                                                             \
		void *state_ = NULL;                                                                                   \
		if (bpf_core_enum_value_exists(enum cgroup_subsys_id, id))                                             \
			READ(state_, (char *)__builtin_preserve_access_index(&(cgroup_)->subsys) +                     \
					     8 * bpf_core_enum_value(enum cgroup_subsys_id, id));                      \
		state_;                                                                                                \
	})

/* Structs of which several members are wanted are copied whole: a read costs more than what it copies. Where `object`
 * has more than COPIED bytes the rest is left out, and with it members that are there: they are unknown. */
enum { COPIED = 384 };

#define COPY(copy, object)                                                                                             \
	bpf_probe_read_kernel(copy, bpf_core_field_size(object) < COPIED ? bpf_core_field_size(object) : COPIED,       \
			      __builtin_preserve_access_index(&(object)))

/* The member of a struct of this type that was copied; PM_BPF_UNKNOWN as MEMBER says it. */
#define COPIED_MEMBER(copy, type, member)                                                                              \
	({                                                                                                             \
		__u64 value_ = PM_BPF_UNKNOWN;                                                                         \
		type *at_ = NULL;                                                                                      \
		if (bpf_core_field_exists(at_->member) && bpf_core_field_offset(at_->member) <= COPIED - 8)            \
			value_ = (__u64) *                                                                             \
				 (typeof(at_->member) *)((char *)(copy) + bpf_core_field_offset(at_->member));         \
		value_;                                                                                                \
	})

static __always_inline void set_all(pm_bpf_record *record, int count, __u64 value)
{
	for (int i = 0; i < count; i++)
		record->values[i] = value;
}

static __always_inline __u64 bytes_of(__u64 pages)
{
	return pages == PM_BPF_UNKNOWN ? pages : pages * given.page_size;
}

/* A limit in pages; the kernel's unlimited, LONG_MAX / page size, is absent. */
static __always_inline __u64 limit_of(__u64 pages)
{
	if (pages == PM_BPF_UNKNOWN)
		return pages;
	return pages > (1ull << 62) / given.page_size ? PM_BPF_ABSENT : pages * given.page_size;
}

/* Begin a program, with `state` as what the controller keeps of the cgroup. Where there is no such controller, end the
 * program: all `count` values are absent. */
#define BEGIN_WITH(state, ctx, id, count)                                                                              \
	BEGIN(ctx);                                                                                                    \
	(state) = STATE_OF(cgroup, id);                                                                                \
	if ((state) == NULL) {                                                                                         \
		set_all(record, count, PM_BPF_ABSENT);                                                                 \
		return 0;                                                                                              \
	}

/* Memory. */

#define ADD_NODE(name)                                                                                                 \
	if (bpf_core_enum_value_exists(enum node_stat_item, name))                                                     \
		count++;
#define ADD_MEMCG(name)                                                                                                \
	if (bpf_core_enum_value_exists(enum memcg_stat_item, name))                                                    \
		count++;
#define ADD_EVENT(name)                                                                                                \
	if (bpf_core_enum_value_exists(enum vm_event_item, name))                                                      \
		count++;
#define ADD_FIRST(name) count += has_v1;
#define ADD_LATER(name)                                                                                                \
	if (later && bpf_core_enum_value_exists(enum vm_event_item, name))                                             \
		count++;

/* How many numbers the kernel has of each list. */
static __always_inline __u32 node_items(void)
{
	__u32 count = 0;

	PM_NODE_ITEMS(ADD_NODE)
	return count;
}

static __always_inline __u32 memcg_items(void)
{
	__u32 count = 0;

	PM_MEMCG_ITEMS(ADD_MEMCG)
	return count;
}

static __always_inline __u32 event_items(int has_v1, int later)
{
	__u32 count = 0;

	PM_EVENT_ITEMS(ADD_EVENT, ADD_FIRST, ADD_LATER)
	return count;
}

/* The kernel's arrays, copied. */
enum { ITEMS = 128 };

typedef struct {
	long state[ITEMS], events[ITEMS], events_local[ITEMS];
	char counter[COPIED];
} copied_stats;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__uint(value_size, sizeof(copied_stats));
} copies SEC(".maps");

typedef struct {
	copied_stats *copy;
	int compact;  /* whether `state` holds the items of the lists, else all */
	int state_ok; /* whether it is known what `state` holds */
	int has_v1, later, events_ok, local_ok;
} vmstats;

static __always_inline __u64 number_at(const long *array, __u32 place)
{
	if (place >= ITEMS)
		return PM_BPF_UNKNOWN;
	return array[place] < 0 ? 0 : array[place]; /* as the kernel's memcg_page_state */
}

/* The place of an item: how many the kernel has of those that come before it. */
#define COUNT_NODE_BEFORE(name)                                                                                        \
	passed |= item == name;                                                                                        \
	if (!passed && bpf_core_enum_value_exists(enum node_stat_item, name))                                          \
		count++;
#define COUNT_MEMCG_BEFORE(name)                                                                                       \
	passed |= item == name;                                                                                        \
	if (!passed && bpf_core_enum_value_exists(enum memcg_stat_item, name))                                         \
		count++;
#define COUNT_EVENT_BEFORE(name)                                                                                       \
	passed |= item == name;                                                                                        \
	if (!passed && bpf_core_enum_value_exists(enum vm_event_item, name))                                           \
		count++;
#define COUNT_FIRST_BEFORE(name)                                                                                       \
	passed |= item == name;                                                                                        \
	if (!passed)                                                                                                   \
		count += has_v1;
#define COUNT_LATER_BEFORE(name)                                                                                       \
	passed |= item == name;                                                                                        \
	if (!passed && later && bpf_core_enum_value_exists(enum vm_event_item, name))                                  \
		count++;

static __always_inline int node_place(int item)
{
	int count = 0, passed = 0;

	PM_NODE_ITEMS(COUNT_NODE_BEFORE)
	return count;
}

static __always_inline int memcg_place(int item)
{
	int count = node_items(), passed = 0;

	PM_MEMCG_ITEMS(COUNT_MEMCG_BEFORE)
	return count;
}

static __always_inline int event_place(int item, int has_v1, int later)
{
	int count = 0, passed = 0;

	PM_EVENT_ITEMS(COUNT_EVENT_BEFORE, COUNT_FIRST_BEFORE, COUNT_LATER_BEFORE)
	return count;
}

#define NODE_STAT(stats, name)                                                                                         \
	(!(stats)->state_ok || !bpf_core_enum_value_exists(enum node_stat_item, name)                                  \
		 ? PM_BPF_UNKNOWN                                                                                      \
		 : number_at((stats)->copy->state,                                                                     \
			     (stats)->compact ? node_place(name) : bpf_core_enum_value(enum node_stat_item, name)))
#define MEMCG_STAT(stats, name)                                                                                        \
	(!(stats)->state_ok || !bpf_core_enum_value_exists(enum memcg_stat_item, name)                                 \
		 ? PM_BPF_UNKNOWN                                                                                      \
		 : number_at((stats)->copy->state,                                                                     \
			     (stats)->compact ? memcg_place(name) : bpf_core_enum_value(enum memcg_stat_item, name)))
#define EVENT(stats, array, name)                                                                                      \
	(!(stats)->events_ok || !bpf_core_enum_value_exists(enum vm_event_item, name)                                  \
		 ? PM_BPF_UNKNOWN                                                                                      \
		 : number_at((stats)->copy->array, event_place(name, (stats)->has_v1, (stats)->later)))
/* What kernels count in several numbers, of which they have some. */
#define EVENT_IF(stats, name) (bpf_core_enum_value_exists(enum vm_event_item, name) ? EVENT(stats, events, name) : 0)

static __always_inline void look_at_vmstats(struct mem_cgroup *memcg, vmstats *stats)
{
	struct memcg_vmstats *at = NULL;
	__u32 states, events;

	if (!bpf_core_field_exists(memcg->vmstats) || !bpf_core_field_exists(at->state) ||
	    !bpf_core_field_exists(at->events))
		return;
	states = bpf_core_field_size(at->state) / 8u;
	events = bpf_core_field_size(at->events) / 8u;
	if (states > ITEMS || events > ITEMS)
		return;
	READ(at, __builtin_preserve_access_index(&memcg->vmstats));
	bpf_probe_read_kernel(stats->copy->state, 8 * states, __builtin_preserve_access_index(&at->state));
	bpf_probe_read_kernel(stats->copy->events, 8 * events, __builtin_preserve_access_index(&at->events));
	if (bpf_core_field_exists(at->events_local)) {
		bpf_probe_read_kernel(stats->copy->events_local, 8 * events,
				      __builtin_preserve_access_index(&at->events_local));
		stats->local_ok = 1;
	}
	stats->compact = states != bpf_core_enum_value(enum memcg_stat_item, MEMCG_NR_STAT);
	stats->state_ok = !stats->compact || states == node_items() + memcg_items();
	stats->has_v1 = bpf_core_field_exists(memcg->soft_limit);
	stats->later = events == event_items(stats->has_v1, 1);
	stats->events_ok = stats->later || events == event_items(stats->has_v1, 0);
}

#define OF_COUNTER(member) COPIED_MEMBER(stats.copy->counter, struct page_counter, member)

SEC("iter/cgroup")
int walk_memory(struct bpf_iter__cgroup *ctx)
{
	struct mem_cgroup *memcg;
	vmstats stats = {0};
	__u32 first = 0;

	BEGIN_WITH(memcg, ctx, memory_cgrp_id, PM_MEMORY_VALUES);
	stats.copy = bpf_map_lookup_elem(&copies, &first);
	if (stats.copy == NULL) {
		set_all(record, PM_MEMORY_VALUES, PM_BPF_UNKNOWN);
		return 0;
	}
	COPY(stats.copy->counter, memcg->memory);
	values[PM_MEMORY_USAGE] = bytes_of(OF_COUNTER(usage.counter));
	values[PM_MEMORY_PEAK] = bytes_of(OF_COUNTER(watermark));
	values[PM_MEMORY_MAX] = limit_of(OF_COUNTER(max));
	values[PM_MEMORY_MIN] = limit_of(OF_COUNTER(min));
	values[PM_MEMORY_LOW] = limit_of(OF_COUNTER(low));
	values[PM_MEMORY_HIGH] = limit_of(OF_COUNTER(high));
	values[PM_MEMORY_FAILCNT] = OF_COUNTER(failcnt);
	values[PM_MEMORY_SWAP_USAGE] = bytes_of(MEMBER(memcg, swap.usage.counter));
	values[PM_MEMORY_SWAP_MAX] = limit_of(MEMBER(memcg, swap.max));
	values[PM_MEMORY_MEMSW_MAX] = limit_of(MEMBER(memcg, memsw.max));
	values[PM_MEMORY_KMEM_USAGE] = bytes_of(MEMBER(memcg, kmem.usage.counter));
	values[PM_MEMORY_SOFT_LIMIT] = limit_of(MEMBER(memcg, soft_limit));
	look_at_vmstats(memcg, &stats);
	values[PM_MEMORY_FILE] = bytes_of(NODE_STAT(&stats, NR_FILE_PAGES));
	values[PM_MEMORY_ANON] = bytes_of(NODE_STAT(&stats, NR_ANON_MAPPED));
	values[PM_MEMORY_FILE_MAPPED] = bytes_of(NODE_STAT(&stats, NR_FILE_MAPPED));
	values[PM_MEMORY_INACTIVE_FILE] = bytes_of(NODE_STAT(&stats, NR_INACTIVE_FILE));
	values[PM_MEMORY_ACTIVE_FILE] = bytes_of(NODE_STAT(&stats, NR_ACTIVE_FILE));
	values[PM_MEMORY_INACTIVE_ANON] = bytes_of(NODE_STAT(&stats, NR_INACTIVE_ANON));
	values[PM_MEMORY_ACTIVE_ANON] = bytes_of(NODE_STAT(&stats, NR_ACTIVE_ANON));
	values[PM_MEMORY_ANON_THP] = bytes_of(NODE_STAT(&stats, NR_ANON_THPS));
	values[PM_MEMORY_SEC_PAGETABLES] = bytes_of(NODE_STAT(&stats, NR_SECONDARY_PAGETABLE));
	values[PM_MEMORY_FILE_DIRTY] = bytes_of(NODE_STAT(&stats, NR_FILE_DIRTY));
	values[PM_MEMORY_WRITEBACK] = bytes_of(NODE_STAT(&stats, NR_WRITEBACK));
	values[PM_MEMORY_REFAULT_FILE] = NODE_STAT(&stats, WORKINGSET_REFAULT_FILE);
	values[PM_MEMORY_REFAULT_ANON] = NODE_STAT(&stats, WORKINGSET_REFAULT_ANON);
	values[PM_MEMORY_SWAP] = bytes_of(MEMCG_STAT(&stats, MEMCG_SWAP));
	values[PM_MEMORY_KERNEL] = bytes_of(MEMCG_STAT(&stats, MEMCG_KMEM));
	values[PM_MEMORY_PGFAULT] = EVENT(&stats, events, PGFAULT);
	values[PM_MEMORY_PGMAJFAULT] = EVENT(&stats, events, PGMAJFAULT);
	values[PM_MEMORY_LOCAL_PGFAULT] = stats.local_ok ? EVENT(&stats, events_local, PGFAULT) : PM_BPF_UNKNOWN;
	values[PM_MEMORY_LOCAL_PGMAJFAULT] = stats.local_ok ? EVENT(&stats, events_local, PGMAJFAULT) : PM_BPF_UNKNOWN;
	values[PM_MEMORY_PGSCAN] = PM_BPF_UNKNOWN;
	values[PM_MEMORY_PGSTEAL] = PM_BPF_UNKNOWN;
	if (stats.events_ok) {
		values[PM_MEMORY_PGSCAN] = EVENT_IF(&stats, PGSCAN_KSWAPD) + EVENT_IF(&stats, PGSCAN_DIRECT) +
					   EVENT_IF(&stats, PGSCAN_KHUGEPAGED) + EVENT_IF(&stats, PGSCAN_PROACTIVE);
		values[PM_MEMORY_PGSTEAL] = EVENT_IF(&stats, PGSTEAL_KSWAPD) + EVENT_IF(&stats, PGSTEAL_DIRECT) +
					    EVENT_IF(&stats, PGSTEAL_KHUGEPAGED) + EVENT_IF(&stats, PGSTEAL_PROACTIVE);
	}
	return 0;
}

enum { EVENTS = 16 };

#define MEMORY_EVENT(numbers, name)                                                                                    \
	(bpf_core_enum_value_exists(enum memcg_memory_event, name)                                                     \
		 ? (numbers)[bpf_core_enum_value(enum memcg_memory_event, name) & (EVENTS - 1)]                        \
		 : PM_BPF_UNKNOWN)

/* Copy an array of the kernel's numbers; all are unknown where there is none, or it is longer. */
#define COPY_EVENTS(numbers, array)                                                                                    \
	do {                                                                                                           \
		for (int i_ = 0; i_ < EVENTS; i_++)                                                                    \
			(numbers)[i_] = PM_BPF_UNKNOWN;                                                                \
		if (bpf_core_field_exists(array) && bpf_core_field_size(array) <= sizeof(numbers))                     \
			bpf_probe_read_kernel(numbers, bpf_core_field_size(array),                                     \
					      __builtin_preserve_access_index(&(array)));                              \
	} while (0)

SEC("iter/cgroup")
int walk_events(struct bpf_iter__cgroup *ctx)
{
	__u64 numbers[EVENTS];
	struct mem_cgroup *memcg;

	BEGIN_WITH(memcg, ctx, memory_cgrp_id, PM_EVENTS_VALUES);
	COPY_EVENTS(numbers, memcg->memory_events);
	values[PM_EVENTS_HIGH] = MEMORY_EVENT(numbers, MEMCG_HIGH);
	values[PM_EVENTS_MAX] = MEMORY_EVENT(numbers, MEMCG_MAX);
	values[PM_EVENTS_LOW] = MEMORY_EVENT(numbers, MEMCG_LOW);
	values[PM_EVENTS_OOM] = MEMORY_EVENT(numbers, MEMCG_OOM);
	values[PM_EVENTS_OOM_GROUP_KILL] = MEMORY_EVENT(numbers, MEMCG_OOM_GROUP_KILL);
	values[PM_EVENTS_OOM_KILL] = MEMORY_EVENT(numbers, MEMCG_OOM_KILL);
	COPY_EVENTS(numbers, memcg->memory_events_local);
	values[PM_EVENTS_LOCAL_OOM_KILL] = MEMORY_EVENT(numbers, MEMCG_OOM_KILL);
	values[PM_EVENTS_FAILCNT] = MEMBER(memcg, memory.failcnt);
	return 0;
}

/* CPU. */

static __always_inline __u64 us_of(__u64 ns)
{
	return ns == PM_BPF_UNKNOWN ? ns : ns / 1000;
}

#define OF_BANDWIDTH(member) COPIED_MEMBER(bandwidth, struct cfs_bandwidth, member)

SEC("iter/cgroup")
int walk_cpu(struct bpf_iter__cgroup *ctx)
{
	enum { SCALE = 1024, WEIGHT_DEFAULT = 100, WEIGHT_MAX = 10000, SHIFT = 10 };
	struct task_group *group;
	__u64 shares, bandwidth[COPIED / 8];

	BEGIN_WITH(group, ctx, cpu_cgrp_id, PM_CPU_VALUES);
	if (bpf_core_field_exists(group->cfs_bandwidth))
		COPY(bandwidth, group->cfs_bandwidth);
	values[PM_CPU_NR_PERIODS] = OF_BANDWIDTH(nr_periods);
	values[PM_CPU_NR_THROTTLED] = OF_BANDWIDTH(nr_throttled);
	values[PM_CPU_THROTTLED_NS] = OF_BANDWIDTH(throttled_time);
	values[PM_CPU_THROTTLED_US] = us_of(values[PM_CPU_THROTTLED_NS]);
	values[PM_CPU_NR_BURSTS] = OF_BANDWIDTH(nr_burst);
	values[PM_CPU_BURST_US] = us_of(OF_BANDWIDTH(burst_time));
	values[PM_CPU_QUOTA_US] = OF_BANDWIDTH(quota);
	values[PM_CPU_QUOTA_US] = values[PM_CPU_QUOTA_US] == ~0ull ? PM_BPF_ABSENT : us_of(values[PM_CPU_QUOTA_US]);
	values[PM_CPU_PERIOD_US] = us_of(OF_BANDWIDTH(period));
	shares = MEMBER(group, shares);
	if (shares != PM_BPF_UNKNOWN) {
		/* kernel/sched/sched.h: scale_load_down, sched_weight_to_cgroup */
		shares >>= SHIFT;
		values[PM_CPU_SHARES] = shares;
		shares = (shares * WEIGHT_DEFAULT + SCALE / 2) / SCALE;
		values[PM_CPU_WEIGHT] = shares < 1 ? 1 : shares > WEIGHT_MAX ? WEIGHT_MAX : shares;
	} else {
		values[PM_CPU_SHARES] = values[PM_CPU_WEIGHT] = PM_BPF_UNKNOWN;
	}
	return 0;
}

/* What a CPU has of anything is as far from the common address as it is for the map, of which both addresses are known.
 */

static __always_inline __u64 common_address(void)
{
	void *map = &of_cpus;
	struct bpf_array *array = NULL;
	__u64 address = 0;

	READ(array, &map);
	READ(address, __builtin_preserve_access_index(&array->pptrs));
	return address;
}

/* The distance for a CPU; -1: there is no such CPU. */
static __always_inline __u64 distance_to(__u32 cpu, __u64 common)
{
	__u32 first = 0;
	void *of_cpu = bpf_map_lookup_percpu_elem(&of_cpus, &first, cpu);
	__u64 address = 0;

	if (of_cpu == NULL)
		return -1;
	READ(address, &of_cpu);
	return address - common;
}

enum { CPUS = 8192 };

/* Version 1: the controller cpuacct counts for each CPU. */

typedef struct {
	__u64 common, usage, stat; /* addresses: of of_cpus, of what the group has */
	__u64 run, user, system, cpus;
	__u64 *of_cpus; /* values of the record */
} cpu_times;

enum { CPU_TIMES = 16 };

#define CPU_TIME(name) times_of[bpf_core_enum_value(enum cpu_usage_stat, name) & (CPU_TIMES - 1)]

/* Add what one CPU has counted; 1: there are no more CPUs. */
static long add_cpu(__u32 cpu, void *context)
{
	cpu_times *times = context;
	__u64 distance = distance_to(cpu, times->common), run = 0, times_of[CPU_TIMES] = {0};
	struct kernel_cpustat *stat;

	if (distance == -1ull)
		return 1;
	READ(run, (void *)(times->usage + distance));
	stat = (void *)(times->stat + distance);
	times->run += run;
	if (cpu < given.cpus)
		times->of_cpus[cpu] = run;
	times->cpus = cpu + 1;
	if (bpf_core_field_size(stat->cpustat) <= sizeof(times_of))
		bpf_probe_read_kernel(times_of, bpf_core_field_size(stat->cpustat),
				      __builtin_preserve_access_index(&stat->cpustat));
	times->user += CPU_TIME(CPUTIME_USER) + CPU_TIME(CPUTIME_NICE);
	times->system += CPU_TIME(CPUTIME_SYSTEM) + CPU_TIME(CPUTIME_IRQ) + CPU_TIME(CPUTIME_SOFTIRQ);
	return 0;
}

SEC("iter/cgroup")
int walk_cpuacct(struct bpf_iter__cgroup *ctx)
{
	struct cpuacct *group;
	cpu_times times = {0};

	BEGIN_WITH(group, ctx, cpuacct_cgrp_id, PM_CPUACCT_VALUES);
	if (!bpf_core_field_exists(group->cpuusage) || !bpf_core_field_exists(group->cpustat)) {
		set_all(record, PM_CPUACCT_VALUES, PM_BPF_UNKNOWN);
		return 0;
	}
	times.common = common_address();
	times.of_cpus = values + PM_CPUACCT_VALUES;
	READ(times.usage, __builtin_preserve_access_index(&group->cpuusage));
	READ(times.stat, __builtin_preserve_access_index(&group->cpustat));
	bpf_loop(CPUS, add_cpu, &times, 0);
	values[PM_TIME_RUN] = times.run;
	values[PM_TIME_USER] = times.user;
	values[PM_TIME_SYSTEM] = times.system;
	values[PM_CPUACCT_CPUS] = times.cpus <= given.cpus ? times.cpus : PM_BPF_UNKNOWN;
	set_shown(values, cgroup);
	return 0;
}

SEC("iter/cgroup")
int walk_pids(struct bpf_iter__cgroup *ctx)
{
	enum { UNLIMITED = 1 << 22 }; /* PID_MAX_LIMIT */
	struct pids_cgroup *pids;

	BEGIN_WITH(pids, ctx, pids_cgrp_id, PM_PIDS_VALUES);
	values[PM_PIDS_CURRENT] = MEMBER(pids, counter.counter);
	values[PM_PIDS_MAX] = MEMBER(pids, limit.counter);
	if (values[PM_PIDS_MAX] != PM_BPF_UNKNOWN && values[PM_PIDS_MAX] > UNLIMITED)
		values[PM_PIDS_MAX] = PM_BPF_ABSENT;
	return 0;
}

SEC("iter/cgroup")
int walk_blkio(struct bpf_iter__cgroup *ctx)
{
	struct blkcg *blkcg;
	__u64 first;

	BEGIN(ctx);
	blkcg = STATE_OF(cgroup, io_cgrp_id);
	first = blkcg ? MEMBER(blkcg, blkg_list.first) : 0;
	values[PM_BLKIO_NONE] = first == 0 || first == PM_BPF_UNKNOWN ? first : PM_BPF_IN_FILES;
	return 0;
}

/* Pressure. The kernel adds the time of each CPU to its totals every two seconds, and when it is asked through a file.
 * The totals are right as they are where no CPU has anything to add. */

typedef struct {
	__u64 common, cpus; /* addresses: of of_cpus, of what the group has */
	__u32 is_pending;
} pending;

#define PRESSURES(X)                                                                                                   \
	X(PSI_CPU_SOME, PM_PRESSURE_CPU_SOME)                                                                          \
	X(PSI_CPU_FULL, PM_PRESSURE_CPU_FULL)                                                                          \
	X(PSI_MEM_SOME, PM_PRESSURE_MEMORY_SOME)                                                                       \
	X(PSI_MEM_FULL, PM_PRESSURE_MEMORY_FULL)                                                                       \
	X(PSI_IO_SOME, PM_PRESSURE_IO_SOME)                                                                            \
	X(PSI_IO_FULL, PM_PRESSURE_IO_FULL)

#define IS_PENDING(state, value)                                                                                       \
	number = bpf_core_enum_value(enum psi_states, state) & (STATES - 1);                                           \
	if (now[number] != added[number] || mask >> number & 1)                                                        \
		group->is_pending = 1;

enum { STATES = 16 };

static long look_at_cpu(__u32 cpu, void *context)
{
	pending *group = context;
	__u64 distance = distance_to(cpu, group->common);
	__u32 now[STATES] = {0}, added[STATES] = {0}, mask = 0, number;
	struct psi_group_cpu *at;

	if (distance == -1ull || group->is_pending)
		return 1;
	at = (void *)(group->cpus + distance);
	READ(mask, __builtin_preserve_access_index(&at->state_mask));
	/* The states of the averages come first in times_prev; what follows is for triggers. */
	if (bpf_core_field_size(at->times) <= sizeof(now) &&
	    bpf_core_field_size(at->times) <= bpf_core_field_size(at->times_prev)) {
		bpf_probe_read_kernel(now, bpf_core_field_size(at->times), __builtin_preserve_access_index(&at->times));
		bpf_probe_read_kernel(added, bpf_core_field_size(at->times),
				      __builtin_preserve_access_index(&at->times_prev));
	} else {
		group->is_pending = 1;
	}
	PRESSURES(IS_PENDING)
	return 0;
}

#define PRESSURE(state, value)                                                                                         \
	values[value] = totals[bpf_core_enum_value(enum psi_states, state) & (STATES - 1)] / 1000;

SEC("iter/cgroup")
int walk_pressure(struct bpf_iter__cgroup *ctx)
{
	pending group = {0};
	struct psi_group_cpu *at = NULL;
	struct psi_group *psi = NULL;
	__u64 totals[STATES] = {0};

	BEGIN(ctx);
	if (!bpf_core_field_exists(cgroup->psi) || !bpf_core_field_exists(psi->pcpu) ||
	    !bpf_core_field_exists(psi->total) || !bpf_core_field_exists(psi->enabled) ||
	    !bpf_core_field_exists(at->state_mask) || !bpf_core_field_exists(at->times) ||
	    !bpf_core_field_exists(at->times_prev)) {
		set_all(record, PM_PRESSURE_VALUES, PM_BPF_UNKNOWN);
		return 0;
	}
	READ(psi, __builtin_preserve_access_index(&cgroup->psi));
	if (psi == NULL || !MEMBER(psi, enabled)) {
		set_all(record, PM_PRESSURE_VALUES, PM_BPF_ABSENT);
		return 0;
	}
	group.common = common_address();
	READ(group.cpus, __builtin_preserve_access_index(&psi->pcpu));
	bpf_loop(CPUS, look_at_cpu, &group, 0);
	if (group.is_pending) {
		set_all(record, PM_PRESSURE_VALUES, PM_BPF_IN_FILES);
		return 0;
	}
	/* As for times_prev: the totals of the averages come first. */
	bpf_probe_read_kernel(totals, 8 * 6, __builtin_preserve_access_index(&psi->total));
	PRESSURES(PRESSURE)
	return 0;
}
