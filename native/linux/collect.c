#include "collect.h"

#include "above.h"
#include "clock.h"
#include "descriptors.h"
#include "entry.h"
#include "fill.h"
#include "netns.h"
#include "processes.h"
#include "proclist.h"

/* A runtime makes a group first and writes its settings then: while a container is starting they are
 * read again soon. */
static const int64_t STARTING_SLOW_NS = 1000000000;

/* Files of the group. */

static void store(const pm_file *file, pm_table *const *tables, uint32_t row, const pm_values *values)
{
	pm_table *table = tables[file->targets[0].table];

	if (table == NULL)
		return;
	for (int i = 0; i < file->kind->columns; i++)
		if (values->set[i])
			pm_table_set(table, row, file->column + (uint32_t)i, values->values[i]);
}

static const char *device_name(void *state, unsigned major, unsigned minor)
{
	pm_context *context = state;

	if (context->devices == NULL)
		context->devices = pm_devices_new(context->sysfs, context->plan->slow_ns);
	return context->devices ? pm_devices_name(context->devices, major, minor) : NULL;
}

/* `firsts`: by table, where the rows of this container begin in tables whose rows are added. */
static pm_scan_result scan(pm_context *context, const pm_file *file, pm_table *const *tables, const uint32_t *firsts,
			   uint32_t row)
{
	pm_sink sink = {
		.row = row,
		.column = file->column,
		.keys = &file->keys,
		.target_count = file->target_count,
		.rest = file->rest,
		.devices = {device_name, context},
		.scratch = &context->scratch,
	};

	for (uint32_t i = 0; i < file->target_count; i++) {
		const pm_file_target *target = &file->targets[i];

		sink.targets[i] = (pm_target){
			.table = tables[target->table],
			.label_count = target->label_count,
			.labels = target->labels,
			.first = firsts[target->table],
		};
	}
	return file->kind->scan(&sink, context->buffer.data, context->buffer.len);
}

/* 0 for a failure, which is counted; a file that is not there is none. */
static int read_file(pm_context *context, pm_entry *entry, uint32_t slot, int keep, pm_table *const *tables,
		     const uint32_t *firsts, uint32_t row)
{
	const pm_file *file = &context->plan->files[slot];
	pm_values *values = &entry->kept[slot].values;
	pm_scan_result result = PM_OK;
	int first;

	if (file->kind->least) {
		pm_above_read(context, entry, slot, values);
		return 1;
	}
	*values = (pm_values){0};
	if (!pm_read_file(context, entry, slot, keep))
		return entry->fds[slot] == PM_FD_ABSENT;
	if (file->kind->line) {
		result = file->kind->line(context->buffer.data, context->buffer.len, values);
	} else if (file->kind->scan) {
		result = scan(context, file, tables, firsts, row);
	} else {
		values->values[0] = pm_proclist_count(context, entry, file, &first);
		values->set[0] = 1;
		if (context->plan->net_file_count)
			pm_netns_find(context, entry, first);
	}
	if (result != PM_OK)
		pm_fail(context, pm_reason_of_scan(result));
	return result == PM_OK;
}

static int is_due(pm_context *context, pm_entry *entry)
{
	const pm_plan *plan = context->plan;

	if (context->now_ns < entry->slow_due_ns)
		return 0;
	/* Spread by the row, so that the settings of all containers are not due in one scrape. */
	entry->slow_due_ns = context->now_ns + plan->slow_ns - plan->slow_ns / 4 * (entry->row % 16) / 16;
	if (context->now_ns < entry->starting_until_ns && plan->slow_ns > STARTING_SLOW_NS)
		entry->slow_due_ns = context->now_ns + STARTING_SLOW_NS;
	pm_descriptors_retry(context, entry);
	pm_proclist_look(context, entry);
	return 1;
}

void pm_collect_files(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row)
{
	const pm_plan *plan = context->plan;
	int net = pm_netns_is_wanted(plan, tables) && !pm_netns_is_as_before(context, entry, row);
	int due = is_due(context, entry);
	uint32_t firsts[PM_TABLES], fast = 0;
	int was_read = 1; /* the file before */

	for (uint32_t i = 0; i < plan->table_count; i++)
		firsts[i] = tables[i] ? tables[i]->rows : 0;
	for (uint32_t i = 0; i < plan->file_count; i++) {
		const pm_file *file = &plan->files[i];
		pm_kept *kept = &entry->kept[i];
		uint32_t nth = fast;
		int leads_to_net = net && pm_kind_is_procs(file->kind), keep, wanted;

		fast += !file->slow;
		if (!leads_to_net && pm_fill_covers(context, i, row)) {
			pm_descriptors_drop(context, entry, i);
			if (file->slow && due)
				kept->is_skipped = 1;
			continue;
		}
		keep = !file->slow && pm_descriptors_keep(context, entry, nth, i);
		wanted = leads_to_net || pm_file_is_wanted(file, tables);
		if (pm_kind_is_procs(file->kind) && pm_entry_is_root(entry))
			continue;
		context->place = pm_kind_is_procs(file->kind) ? PM_PLACE_PROCESSES : file->targets[0].table;
		/* Settings are read when they are due even if this collection wants none of them: the next may. */
		if ((file->slow ? due || kept->is_skipped : wanted) && !(file->rest && !was_read))
			was_read = read_file(context, entry, i, keep, tables, firsts, row);
		kept->is_skipped = 0;
		if (wanted && file->kind->scan == NULL)
			store(file, tables, row, &kept->values);
	}
	context->place = PM_PLACE_ALL;
}

/* Collections. */

/* Rows of devices, CPUs or interfaces are appended. */
static void clear_added(const pm_file *files, uint32_t count, pm_table *const *tables)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t n = 0; n < files[i].target_count; n++)
			if (pm_file_adds_rows(&files[i], n) && tables[files[i].targets[n].table])
				pm_table_clear(tables[files[i].targets[n].table]);
}

/* 0, or -1 when memory is out, which is counted. */
static int begin(pm_context *context, pm_table *const *tables, uint32_t rows)
{
	const pm_plan *plan = context->plan;

	for (uint32_t i = 0; i < plan->table_count; i++) {
		if (tables[i] && pm_table_clear_to(tables[i], rows) < 0) {
			pm_fail(context, PM_REASON_ENOMEM);
			return -1;
		}
	}
	clear_added(plan->files, plan->file_count, tables);
	clear_added(plan->net_files, plan->net_file_count, tables);
	pm_entry_admit(context);
	pm_descriptors_share(context);
	return 0;
}

/* The walk over processes leaves a part of the time, so that what was read before it is answered in time. */
static int64_t walk_deadline(const pm_context *context, int64_t deadline_ns)
{
	return deadline_ns - (deadline_ns - context->result->started_ns) / 8;
}

/* Do the same for every container. 1, or 0 when the deadline came first, which is counted. */
static int for_each(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns,
		    void (*collect)(pm_context *, pm_entry *, pm_table *const *, uint32_t row))
{
	for (uint32_t row = 0; row < rows && row < context->entry_count; row++) {
		if (context->entries[row] == NULL)
			continue;
		context->now_ns = pm_monotonic_ns();
		if (context->now_ns > deadline_ns) {
			pm_fail(context, PM_REASON_DEADLINE);
			return 0;
		}
		collect(context, context->entries[row], tables, row);
	}
	return 1;
}

void pm_collect(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns)
{
	int in_time;

	if (begin(context, tables, rows) < 0)
		return;
	pm_fill_begin(context, tables, rows, deadline_ns);
	in_time = for_each(context, tables, rows, deadline_ns, pm_collect_files);
	if (in_time && pm_netns_is_wanted(context->plan, tables)) {
		if (pm_netns_share(context) < 0)
			pm_fail(context, PM_REASON_ENOMEM);
		in_time = for_each(context, tables, rows, deadline_ns, pm_netns_collect);
	}
	if (in_time && pm_processes_are_wanted(context, tables)) {
		context->deadline_ns = walk_deadline(context, deadline_ns);
		for_each(context, tables, rows, context->deadline_ns, pm_processes_collect);
	}
	pm_fill_end(context);
}

void pm_collect_row(pm_context *context, pm_table *const *tables, uint32_t row, int64_t deadline_ns)
{
	pm_entry *entry;

	if (begin(context, tables, 1) < 0)
		return;
	context->now_ns = pm_monotonic_ns();
	if (context->now_ns > deadline_ns) {
		pm_fail(context, PM_REASON_DEADLINE);
		return;
	}
	entry = pm_entry_at(context, row);
	if (entry == NULL)
		return;
	pm_collect_files(context, entry, tables, 0);
	if (pm_netns_is_wanted(context->plan, tables)) {
		/* Who shares the namespace can only be said when everybody's is known. */
		for (uint32_t i = 0; entry->net.inode && i < context->entry_count; i++)
			if (context->entries[i])
				pm_netns_look(context, context->entries[i]);
		pm_netns_share_one(context, entry);
		pm_netns_collect(context, entry, tables, 0);
	}
	if (pm_processes_are_wanted(context, tables)) {
		context->deadline_ns = walk_deadline(context, deadline_ns);
		pm_processes_collect(context, entry, tables, 0);
	}
}
