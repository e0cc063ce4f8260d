/* The bulk filler of a reader (native/linux/filler.h) that takes columns from BPF walks. */
#ifndef PYMON_BPF_BULK_H
#define PYMON_BPF_BULK_H

#include "columns.h"
#include "filler.h"
#include "walk.h"

enum { PM_BPF_PARTS = 4, PM_BPF_LOG_BYTES = 2048, PM_BPF_CGROUPS = 65536 };

/* Why files were read instead, for one collection or for one row of it. */
typedef enum {
	PM_BPF_REFUSED,	  /* the kernel or libbpf has refused a program */
	PM_BPF_FAILED,	  /* a walk has failed */
	PM_BPF_ABORTED,	  /* a walk has ended before its end */
	PM_BPF_FULL,	  /* no room for the cgroup */
	PM_BPF_GONE,	  /* the cgroup was not in the walk */
	PM_BPF_NO_MEMBER, /* this kernel's structs lack a member */
	PM_BPF_REASONS,
} pm_bpf_reason;

const char *pm_bpf_reason_name(pm_bpf_reason reason);

typedef struct pm_bpf_bulk pm_bpf_bulk;

/* Nothing is opened before the first collection, whose thread is the one that opens. The library and the PM_BPF_OBJECTS
 * objects stay the caller's, and stay. `walker`: NULL is the kernel. NULL when memory is out. */
pm_bpf_bulk *pm_bpf_bulk_new(const pm_bpf_walker *walker, const pm_libbpf *library, const pm_bpf_object *objects);
/* After the thread of the collections has called the `end` of its filler. */
void pm_bpf_bulk_free(pm_bpf_bulk *bulk);

/* A walk of `program` over the hierarchy of the directory `root`; its index, or -1 when memory is out. */
int pm_bpf_bulk_add_part(pm_bpf_bulk *bulk, pm_bpf_program program, const char *root);
/* Column `column` of table `table` is `of`, from a part; PM_BPF_NOTHING is for `width` columns. Its index, or -1. */
int pm_bpf_bulk_add_column(pm_bpf_bulk *bulk, uint32_t part, const pm_bpf_column *of, uint32_t table, uint32_t column,
			   uint32_t width);
/* Whether a column is filled, from the next collection on; none is at first. Any thread. */
void pm_bpf_bulk_enable(pm_bpf_bulk *bulk, uint32_t column, int on);

/* Whether this kernel's structs were found to lack a column, which is not filled. Any thread. */
int pm_bpf_bulk_lacks(const pm_bpf_bulk *bulk, uint32_t column);

/* For the plan of a reader. */
const pm_filler *pm_bpf_bulk_filler(const pm_bpf_bulk *bulk);

/* Fill `rows` rows of tables by hand. `filled`: set to 1 for each row that is. One thread, which ends with
 * pm_bpf_bulk_close. */
void pm_bpf_bulk_fill(pm_bpf_bulk *bulk, pm_table *const *tables, uint32_t table_count, uint32_t rows,
		      const char *const *paths, uint8_t *filled);

void pm_bpf_bulk_close(pm_bpf_bulk *bulk);

/* How often files were read for a reason. Any thread. */
uint64_t pm_bpf_bulk_count(const pm_bpf_bulk *bulk, pm_bpf_reason reason);
/* Whether a part was refused, which is not tried again; errno, and what was said of it. Any thread. */
int pm_bpf_bulk_refused(const pm_bpf_bulk *bulk, uint32_t part, int *error, const char **log);

#endif
