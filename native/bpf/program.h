/* What all programs of a cgroup iterator share: the maps, and the record that each writes. */
#ifndef PYMON_BPF_PROGRAM_H
#define PYMON_BPF_PROGRAM_H

#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "record.h"

char _license[] SEC("license") = "GPL";

/* Its value size names the version to the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PM_BPF_VERSION);
	__uint(key_size, 4);
	__uint(value_size, 8);
} version SEC(".maps");

/* Sizes are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__uint(key_size, 4);
	__uint(value_size, sizeof(pm_bpf_record));
} records SEC(".maps");

/* From the loader. */
const volatile pm_bpf_given given = {.page_size = 4096};

#define READ(value, address) bpf_probe_read_kernel(&(value), sizeof(value), address)

/* The member of a kernel's struct, or PM_BPF_UNKNOWN where the struct has none of this name. */
#define MEMBER(object, member)                                                                                         \
	({                                                                                                             \
		__u64 value_ = PM_BPF_UNKNOWN;                                                                         \
		if (bpf_core_field_exists((object)->member)) {                                                         \
			typeof((object)->member) read_ = 0;                                                            \
			READ(read_, __builtin_preserve_access_index(&(object)->member));                               \
			value_ = (__u64)read_;                                                                         \
		}                                                                                                      \
		value_;                                                                                                \
	})

/* The cgroup that the iterator has come to; NULL: the walk ends. Loaded once, or the verifier does not know that the
 * pointer that is used is the one that was compared with NULL. */
static __always_inline struct cgroup *cgroup_of(struct bpf_iter__cgroup *ctx)
{
	struct cgroup *cgroup = ctx->cgroup;

	asm volatile("" : "+r"(cgroup));
	return cgroup;
}

/* The record of a cgroup, or NULL: the walk ends, or there is no room. */
static __always_inline pm_bpf_record *record_of(struct cgroup *cgroup)
{
	__u32 at = 0;
	pm_bpf_head *head = bpf_map_lookup_elem(&records, &at);
	pm_bpf_record *record;

	if (head == NULL)
		return NULL;
	if (cgroup == NULL) {
		head->done = 1;
		return NULL;
	}
	at = (__u32)head->records + 1;
	record = bpf_map_lookup_elem(&records, &at);
	if (record == NULL) {
		head->dropped++;
		return NULL;
	}
	head->records = at;
	record->id = cgroup->kn->id;
	return record;
}

/* Begin a program: declare `cgroup`, its `record`, and the `values` of that. Where there is no record, end the program.
 */
#define BEGIN(ctx)                                                                                                     \
	struct cgroup *cgroup = cgroup_of(ctx);                                                                        \
	pm_bpf_record *record = record_of(cgroup);                                                                     \
	__u64 *values;                                                                                                 \
	if (cgroup == NULL || record == NULL)                                                                          \
		return 0;                                                                                              \
	values = record->values

static __always_inline void set_shown(__u64 *values, struct cgroup *cgroup)
{
	values[PM_TIME_SHOWN_USER] = MEMBER(cgroup, prev_cputime.utime);
	values[PM_TIME_SHOWN_SYSTEM] = MEMBER(cgroup, prev_cputime.stime);
}

#endif
