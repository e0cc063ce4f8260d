#include "bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "cputime.h"
#include "record.h"

enum { NOWHERE = UINT32_MAX };

typedef struct {
	pm_bpf_program program;
	char *path; /* of the root */
	int root;
	pm_bpf_walk *walk; /* NULL: to be opened */
	uint32_t capacity;
	pm_bpf_records records;
	int is_wanted; /* in this collection */
	atomic_int is_refused;
	int error;
	char log[PM_BPF_LOG_BYTES];
	/* Where the record of an id is, by hash; made when a record is not where it was in the last walk. */
	uint32_t *index;
	uint32_t index_size; /* a power of two */
	int is_indexed;
} part;

typedef struct {
	const pm_bpf_column *of;
	uint32_t part, table, column, width;
	atomic_uchar on;
	atomic_int is_lacking; /* the kernel's structs do not have it */
	int is_wanted;	       /* in this collection: it is on, and its table is wanted */
} column;

typedef struct {
	char *path;
	uint64_t ids[PM_BPF_PARTS]; /* of the group in each part, 0: not known */
	uint32_t at[PM_BPF_PARTS];  /* its record in the last walk */
	pm_cputime_shown shown;
} row;

struct pm_bpf_bulk {
	pm_filler filler;
	const pm_bpf_walker *walker;
	pm_bpf_walk_plan plan;
	part parts[PM_BPF_PARTS];
	uint32_t part_count;
	uint32_t processes; /* the part that tells of network namespaces, or NOWHERE */
	column *columns;
	uint32_t column_count;
	row *rows;
	uint32_t row_count;
	atomic_ullong counts[PM_BPF_REASONS];
};

static const char *const reason_names[PM_BPF_REASONS] = {
	[PM_BPF_REFUSED] = "refused", [PM_BPF_FAILED] = "failed", [PM_BPF_ABORTED] = "aborted",
	[PM_BPF_FULL] = "full",	      [PM_BPF_GONE] = "gone",	  [PM_BPF_NO_MEMBER] = "no_member",
};

const char *pm_bpf_reason_name(pm_bpf_reason reason)
{
	return reason_names[reason];
}

static void count(pm_bpf_bulk *bulk, pm_bpf_reason reason)
{
	atomic_fetch_add_explicit(&bulk->counts[reason], 1, memory_order_relaxed);
}

/* Walks. */

static void close_part(pm_bpf_bulk *bulk, part *item)
{
	if (item->walk)
		bulk->walker->close(item->walk);
	if (item->root >= 0)
		close(item->root);
	item->walk = NULL;
	item->root = -1;
}

static void close_parts(void *state)
{
	pm_bpf_bulk *bulk = state;

	for (uint32_t i = 0; i < bulk->part_count; i++)
		close_part(bulk, &bulk->parts[i]);
}

static int refuse(pm_bpf_bulk *bulk, part *item, int error)
{
	item->error = error;
	atomic_store(&item->is_refused, 1);
	count(bulk, PM_BPF_REFUSED);
	return -1;
}

/* 0, or -1: counted. A part that had too little room gets more. */
static int open_part(pm_bpf_bulk *bulk, part *item, uint32_t rows)
{
	enum { LEAST = 512 };
	const pm_bpf_program_kind *kind = &pm_bpf_programs[item->program];
	pm_bpf_walk_plan plan = bulk->plan;
	uint64_t needed = (uint64_t)rows * 2, capacity = item->capacity ? item->capacity : LEAST;

	if (item->records.dropped && item->capacity < PM_BPF_CGROUPS) {
		close_part(bulk, item);
		needed = (uint64_t)item->records.count + item->records.dropped;
		capacity *= 2;
		item->records = (pm_bpf_records){0};
	}
	if (item->walk)
		return 0;
	while (capacity < needed && capacity < PM_BPF_CGROUPS)
		capacity *= 2;
	plan.objects += kind->first_object;
	plan.object_count = kind->object_count;
	plan.program = kind->function;
	plan.flush = kind->flush;
	plan.values = kind->values;
	plan.cpus = kind->has_cpus ? (uint32_t)sysconf(_SC_NPROCESSORS_CONF) : 0;
	plan.root = item->path;
	item->capacity = (uint32_t)capacity;
	item->root = open(item->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (item->root < 0)
		return refuse(bulk, item, errno);
	item->walk = bulk->walker->open(&plan, item->capacity, item->log, sizeof(item->log));
	if (item->walk == NULL)
		return refuse(bulk, item, errno);
	return 0;
}

static const char *record_at(const pm_bpf_records *records, uint32_t at)
{
	return records->first + at * records->size;
}

static uint64_t word(const char *record, uint32_t index)
{
	uint64_t value;

	memcpy(&value, record + index * sizeof(value), sizeof(value));
	return value;
}

static uint32_t slot_of(uint64_t id, uint32_t size)
{
	return (uint32_t)(id * 0x9e3779b97f4a7c15u >> 32) & (size - 1);
}

/* 0, or -1 when memory is out. */
static int make_index(part *item)
{
	uint32_t size = 64, at;

	while (size < 2 * (uint64_t)item->records.count)
		size *= 2;
	if (size > item->index_size) {
		uint32_t *index = realloc(item->index, size * sizeof(*index));

		if (index == NULL)
			return -1;
		item->index = index;
		item->index_size = size;
	}
	memset(item->index, 0xff, item->index_size * sizeof(*item->index));
	for (uint32_t i = 0; i < item->records.count; i++) {
		at = slot_of(word(record_at(&item->records, i), 0), item->index_size);
		while (item->index[at] != NOWHERE)
			at = (at + 1) & (item->index_size - 1);
		item->index[at] = i;
	}
	item->is_indexed = 1;
	return 0;
}

static uint32_t find(part *item, uint64_t id)
{
	uint32_t at;

	if (!item->is_indexed && make_index(item) < 0)
		return NOWHERE;
	for (at = slot_of(id, item->index_size); item->index[at] != NOWHERE; at = (at + 1) & (item->index_size - 1))
		if (word(record_at(&item->records, item->index[at]), 0) == id)
			return item->index[at];
	return NOWHERE;
}

/* Run every walk that is wanted. 0, or -1: counted. */
static int walk(pm_bpf_bulk *bulk, uint32_t rows, int64_t deadline_ns)
{
	for (uint32_t i = 0; i < bulk->part_count; i++) {
		part *item = &bulk->parts[i];
		int error;

		if (!item->is_wanted)
			continue;
		if (open_part(bulk, item, rows) < 0 || pm_monotonic_ns() > deadline_ns)
			return -1;
		item->is_indexed = 0;
		error = bulk->walker->run(item->walk, &item->records);
		if (error < 0) {
			count(bulk, error == -ECANCELED ? PM_BPF_ABORTED : PM_BPF_FAILED);
			return -1;
		}
	}
	return 0;
}

/* Rows. */

static int reserve_rows(pm_bpf_bulk *bulk, uint32_t rows)
{
	size_t size = bulk->row_count ? bulk->row_count : 64;
	row *memory;

	if (rows <= bulk->row_count)
		return 0;
	while (size < rows)
		size *= 2;
	memory = realloc(bulk->rows, size * sizeof(*memory));
	if (memory == NULL)
		return -1;
	memset(memory + bulk->row_count, 0, (size - bulk->row_count) * sizeof(*memory));
	bulk->rows = memory;
	bulk->row_count = (uint32_t)size;
	return 0;
}

static void forget(row *item)
{
	memset(item->ids, 0, sizeof(item->ids));
	item->shown = (pm_cputime_shown){0};
}

static int is_where_it_was(const part *of, const row *item, uint32_t index)
{
	return item->ids[index] && item->at[index] < of->records.count &&
	       word(record_at(&of->records, item->at[index]), 0) == item->ids[index];
}

/* The record of a part: of the group that the row had, or else of the one that has its path now. 1, or 0: none. */
static int find_record(pm_bpf_bulk *bulk, row *item, uint32_t index)
{
	part *of = &bulk->parts[index];
	struct stat status;

	if (is_where_it_was(of, item, index))
		return 1;
	item->at[index] = item->ids[index] ? find(of, item->ids[index]) : NOWHERE;
	if (item->at[index] != NOWHERE)
		return 1;
	item->shown = (pm_cputime_shown){0};
	item->ids[index] = 0;
	if (fstatat(of->root, item->path, &status, 0) < 0)
		return 0;
	item->ids[index] = status.st_ino;
	item->at[index] = find(of, status.st_ino);
	return item->at[index] != NOWHERE;
}

/* 1, or 0 where the row cannot be filled in this collection: counted. */
static int find_records(pm_bpf_bulk *bulk, row *item)
{
	for (uint32_t i = 0; i < bulk->part_count; i++) {
		if (bulk->parts[i].is_wanted && !find_record(bulk, item, i)) {
			count(bulk, bulk->parts[i].records.dropped ? PM_BPF_FULL : PM_BPF_GONE);
			return 0;
		}
	}
	return 1;
}

static const char *record_of(const pm_bpf_bulk *bulk, const row *item, uint32_t index)
{
	return record_at(&bulk->parts[index].records, item->at[index]);
}

static uint64_t value_of(const pm_bpf_bulk *bulk, const row *item, const column *wanted)
{
	return word(record_of(bulk, item, wanted->part), 1 + wanted->of->value);
}

/* Whether each column that is wanted can be told of the row. What the kernel lacks is not wanted from now on. */
static int is_known(pm_bpf_bulk *bulk, const row *item)
{
	int known = 1;

	for (uint32_t i = 0; i < bulk->column_count; i++) {
		column *wanted = &bulk->columns[i];
		uint64_t value;

		if (!wanted->is_wanted)
			continue;
		value = value_of(bulk, item, wanted);
		if (value == PM_BPF_UNKNOWN) {
			atomic_store(&wanted->is_lacking, 1);
			count(bulk, PM_BPF_NO_MEMBER);
		}
		if (value == PM_BPF_UNKNOWN || value == PM_BPF_IN_FILES)
			known = 0;
	}
	return known;
}

/* Divide the run time of the part, as it was shown before or elsewhere. */
static void divide(row *item, const char *record)
{
	pm_cputime counted = {word(record, 1 + PM_TIME_RUN), word(record, 1 + PM_TIME_USER),
			      word(record, 1 + PM_TIME_SYSTEM)};
	uint64_t user = word(record, 1 + PM_TIME_SHOWN_USER), system = word(record, 1 + PM_TIME_SHOWN_SYSTEM);

	if (user < PM_BPF_UNKNOWN && user > item->shown.user)
		item->shown.user = user;
	if (system < PM_BPF_UNKNOWN && system > item->shown.system)
		item->shown.system = system;
	pm_cputime_adjust(&counted, &item->shown);
}

static uint64_t shaped(row *item, const char *record, const pm_bpf_column *of)
{
	enum { TICK_NS = 10000000, US_NS = 1000 }; /* USER_HZ is 100 */
	uint64_t value = word(record, 1 + of->value);

	if (value == PM_BPF_ABSENT || of->shape == PM_BPF_PLAIN)
		return value;
	if (of->shape == PM_BPF_MICROSECONDS)
		return value / US_NS;
	divide(item, record);
	switch (of->shape) {
	case PM_BPF_USER_TICKS:
		return item->shown.user / TICK_NS;
	case PM_BPF_SYSTEM_TICKS:
		return item->shown.system / TICK_NS;
	case PM_BPF_USER_MICROSECONDS:
		return item->shown.user / US_NS;
	default:
		return item->shown.system / US_NS;
	}
}

/* A row for each CPU that has counted anything, as pm_scan_percpu adds them. 0, or -1 when memory is out. */
static int add_cpus(const char *record, const column *wanted, pm_table *table, uint32_t parent)
{
	uint64_t cpus = word(record, 1 + wanted->of->value);

	for (uint32_t cpu = 0; cpus != PM_BPF_ABSENT && cpu < cpus; cpu++) {
		uint64_t value = word(record, 2 + wanted->of->value + cpu);
		char name[16];
		int len = snprintf(name, sizeof(name), "cpu%02u", cpu);
		int64_t row;

		if (value == 0)
			continue;
		row = pm_table_append(table, parent);
		if (row < 0 || pm_table_label(table, "cpu", 3, name, (size_t)len) < 0)
			return -1;
		pm_table_set(table, (uint32_t)row, wanted->column, value);
	}
	return 0;
}

static void set_row(pm_bpf_bulk *bulk, const pm_fill *fill, uint32_t at)
{
	for (uint32_t i = 0; i < bulk->column_count; i++) {
		const column *wanted = &bulk->columns[i];
		uint64_t value;

		if (!wanted->is_wanted || wanted->of->shape == PM_BPF_NOTHING)
			continue;
		if (wanted->of->shape == PM_BPF_OF_CPUS) {
			if (add_cpus(record_of(bulk, &bulk->rows[at], wanted->part), wanted,
				     fill->tables[wanted->table], at) < 0)
				fill->failures[PM_REASON_ENOMEM]++;
			continue;
		}
		value = shaped(&bulk->rows[at], record_of(bulk, &bulk->rows[at], wanted->part), wanted->of);
		if (value != PM_BPF_ABSENT)
			pm_table_set(fill->tables[wanted->table], at, wanted->column, value);
	}
	if (bulk->processes != NOWHERE && bulk->parts[bulk->processes].is_wanted)
		fill->namespaces[at] =
			word(record_of(bulk, &bulk->rows[at], bulk->processes), 1 + PM_PROCESSES_NAMESPACE);
	fill->filled[at] = 1;
}

static void note_columns(pm_bpf_bulk *bulk, const pm_fill *fill)
{
	for (uint32_t i = 0; i < bulk->part_count; i++)
		bulk->parts[i].is_wanted = 0;
	for (uint32_t i = 0; i < bulk->column_count; i++) {
		column *wanted = &bulk->columns[i];

		wanted->is_wanted = fill->tables[wanted->table] != NULL && !wanted->is_lacking &&
				    !bulk->parts[wanted->part].is_refused &&
				    atomic_load_explicit(&wanted->on, memory_order_relaxed);
		if (!wanted->is_wanted)
			continue;
		bulk->parts[wanted->part].is_wanted = 1;
		for (uint32_t n = 0; n < wanted->width; n++)
			fill->columns[wanted->table][wanted->column + n] = 1;
	}
}

static void fill_rows(void *state, const pm_fill *fill)
{
	pm_bpf_bulk *bulk = state;
	int any = 0;

	note_columns(bulk, fill);
	for (uint32_t i = 0; i < bulk->part_count; i++)
		any |= bulk->parts[i].is_wanted;
	if (!any || reserve_rows(bulk, fill->rows) < 0 || walk(bulk, fill->rows, fill->deadline_ns) < 0)
		return;
	for (uint32_t at = 0; at < fill->rows; at++) {
		row *item = &bulk->rows[at];
		const char *path = fill->paths[at];

		/* The kernel computes the numbers of a root in other ways. */
		if (path == NULL || path[0] == 0)
			continue;
		if (item->path == NULL || strcmp(item->path, path) != 0) {
			forget(item);
			free(item->path);
			item->path = strdup(path);
			if (item->path == NULL)
				continue;
		}
		if (find_records(bulk, item) && is_known(bulk, item))
			set_row(bulk, fill, at);
	}
}

/* The interface. */

pm_bpf_bulk *pm_bpf_bulk_new(const pm_bpf_walker *walker, const pm_libbpf *library, const pm_bpf_object *objects)
{
	pm_bpf_bulk *bulk = calloc(1, sizeof(*bulk));

	if (bulk == NULL)
		return NULL;
	bulk->filler = (pm_filler){fill_rows, close_parts, bulk};
	bulk->walker = walker ? walker : &pm_bpf_kernel;
	bulk->plan = (pm_bpf_walk_plan){.library = library, .objects = objects};
	bulk->processes = NOWHERE;
	return bulk;
}

void pm_bpf_bulk_free(pm_bpf_bulk *bulk)
{
	if (bulk == NULL)
		return;
	for (uint32_t i = 0; i < bulk->part_count; i++) {
		free(bulk->parts[i].path);
		free(bulk->parts[i].index);
	}
	for (uint32_t i = 0; i < bulk->row_count; i++)
		free(bulk->rows[i].path);
	free(bulk->rows);
	free(bulk->columns);
	free(bulk);
}

int pm_bpf_bulk_add_part(pm_bpf_bulk *bulk, pm_bpf_program program, const char *root)
{
	part *item = &bulk->parts[bulk->part_count];

	if (bulk->part_count == PM_BPF_PARTS)
		return -1;
	*item = (part){.program = program, .path = strdup(root), .root = -1};
	if (item->path == NULL)
		return -1;
	if (program == PM_BPF_PROCESSES)
		bulk->processes = bulk->part_count;
	return (int)bulk->part_count++;
}

int pm_bpf_bulk_add_column(pm_bpf_bulk *bulk, uint32_t part_index, const pm_bpf_column *of, uint32_t table,
			   uint32_t first, uint32_t width)
{
	column *columns = realloc(bulk->columns, (bulk->column_count + 1) * sizeof(*columns));

	if (columns == NULL)
		return -1;
	bulk->columns = columns;
	columns[bulk->column_count] =
		(column){.of = of, .part = part_index, .table = table, .column = first, .width = width};
	return (int)bulk->column_count++;
}

void pm_bpf_bulk_enable(pm_bpf_bulk *bulk, uint32_t index, int on)
{
	atomic_store_explicit(&bulk->columns[index].on, on != 0, memory_order_relaxed);
}

int pm_bpf_bulk_lacks(const pm_bpf_bulk *bulk, uint32_t index)
{
	return atomic_load(&bulk->columns[index].is_lacking);
}

const pm_filler *pm_bpf_bulk_filler(const pm_bpf_bulk *bulk)
{
	return &bulk->filler;
}

void pm_bpf_bulk_fill(pm_bpf_bulk *bulk, pm_table *const *tables, uint32_t table_count, uint32_t rows,
		      const char *const *paths, uint8_t *filled)
{
	uint64_t failures[32] = {0};
	uint32_t cells = 0;
	uint8_t **columns, *flags;
	uint64_t *namespaces;

	for (uint32_t i = 0; i < table_count; i++)
		cells += tables[i]->columns;
	columns = calloc(1, table_count * sizeof(*columns) + rows * sizeof(*namespaces) + cells);
	if (columns == NULL)
		return;
	namespaces = (uint64_t *)(columns + table_count);
	flags = (uint8_t *)(namespaces + rows);
	for (uint32_t i = 0; i < table_count; i++) {
		columns[i] = flags;
		flags += tables[i]->columns;
	}
	/* As if each row were new: run time is divided as the kernel has divided it last, not as this has. */
	for (uint32_t i = 0; i < bulk->row_count; i++)
		bulk->rows[i].shown = (pm_cputime_shown){0};
	fill_rows(bulk, &(pm_fill){tables, rows, paths, INT64_MAX, failures, columns, filled, namespaces});
	free(columns);
}

void pm_bpf_bulk_close(pm_bpf_bulk *bulk)
{
	close_parts(bulk);
}

uint64_t pm_bpf_bulk_count(const pm_bpf_bulk *bulk, pm_bpf_reason reason)
{
	return atomic_load(&((pm_bpf_bulk *)bulk)->counts[reason]);
}

int pm_bpf_bulk_refused(const pm_bpf_bulk *bulk, uint32_t index, int *error, const char **log)
{
	const part *item = &bulk->parts[index];

	/* What else there is of it was written before that. */
	if (!atomic_load(&((part *)item)->is_refused))
		return 0;
	*error = item->error;
	*log = item->log;
	return 1;
}
