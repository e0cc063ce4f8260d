/* One collection: every container, or one, into the tables of a job. */
#include "entry.h"

/* How many files of each container may stay open: the first ones of the plan, the same number for all. */
static void share_budget(pm_context *context)
{
	uint32_t files = 0, budget = context->plan->budget;

	for (uint32_t i = 0; i < context->plan->file_count; i++)
		files += !context->plan->files[i].slow;
	if (context->plan->net.network != PM_NO_TABLE)
		files++; /* the directory of the process */
	context->level = files;
	context->extra = 0;
	if (context->alive && (uint64_t)context->alive * files > budget) {
		context->level = budget / context->alive;
		context->extra = budget % context->alive;
	}
}

static int collects_net(const pm_net_plan *net)
{
	return net->network != PM_NO_TABLE || net->sockstat != PM_NO_TABLE || net->tcp != PM_NO_TABLE ||
	       net->tcp6 != PM_NO_TABLE || net->udp != PM_NO_TABLE || net->udp6 != PM_NO_TABLE ||
	       net->advtcp != PM_NO_TABLE;
}

static int tables_reset(const pm_plan *plan, pm_table **tables, uint32_t rows)
{
	for (uint32_t i = 0; i < plan->table_count; i++) {
		if (tables[i] == NULL)
			continue;
		if (pm_table_clear_to(tables[i], rows) < 0)
			return -1;
	}
	/* Rows of these tables are devices, CPUs or interfaces: they are appended. */
	for (uint32_t i = 0; i < plan->file_count; i++) {
		const pm_file *file = &plan->files[i];
		if ((file->kind == PM_FILE_IO || file->kind == PM_FILE_BLKIO || file->kind == PM_FILE_PERCPU ||
		     file->kind == PM_FILE_NUMA) &&
		    tables[file->table])
			pm_table_clear(tables[file->table]);
	}
	if (plan->io_numbered != PM_NO_TABLE && tables[plan->io_numbered])
		pm_table_clear(tables[plan->io_numbered]);
	if (plan->net.network != PM_NO_TABLE && tables[plan->net.network])
		pm_table_clear(tables[plan->net.network]);
	return 0;
}

/* The walk over processes leaves a part of the time, so that what was read before it is answered in time. */
static int64_t walk_deadline(const pm_context *context, int64_t deadline_ns)
{
	return deadline_ns - (deadline_ns - context->result->started_ns) / 8;
}

void pm_collect(pm_context *context, pm_table **tables, uint32_t rows, int64_t deadline_ns)
{
	int net = collects_net(&context->plan->net);
	uint32_t row = 0;

	if (tables_reset(context->plan, tables, rows) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	share_budget(context);
	if (rows > context->entry_count)
		rows = context->entry_count;
	for (; row < rows; row++) {
		pm_entry *entry = &context->entries[row];
		if (entry->path == NULL)
			continue;
		context->now_ns = pm_monotonic_ns();
		if (context->now_ns > deadline_ns)
			break;
		pm_collect_files(context, entry, row, tables, row);
	}
	if (net && row == rows) {
		if (pm_netns_owners(context) < 0)
			pm_fail(context, PM_REASON_ENOMEM);
		for (row = 0; row < rows; row++) {
			if (context->entries[row].path == NULL)
				continue;
			context->now_ns = pm_monotonic_ns();
			if (context->now_ns > deadline_ns)
				break;
			pm_collect_net(context, &context->entries[row], tables, row);
		}
	}
	if (row == rows && pm_collects_processes(context, tables)) {
		context->deadline_ns = walk_deadline(context, deadline_ns);
		for (row = 0; row < rows; row++) {
			if (context->entries[row].path == NULL)
				continue;
			context->now_ns = pm_monotonic_ns();
			if (context->now_ns > context->deadline_ns)
				break;
			pm_collect_processes(context, &context->entries[row], tables, row);
		}
	}
	if (row < rows)
		pm_fail(context, PM_REASON_DEADLINE);
}

void pm_collect_row(pm_context *context, pm_table **tables, uint32_t row, int64_t deadline_ns)
{
	pm_entry *entry;

	if (tables_reset(context->plan, tables, 1) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	context->now_ns = pm_monotonic_ns();
	if (context->now_ns > deadline_ns) {
		pm_fail(context, PM_REASON_DEADLINE);
		return;
	}
	if (row >= context->entry_count || context->entries[row].path == NULL)
		return;
	share_budget(context);
	entry = &context->entries[row];
	pm_collect_files(context, entry, row, tables, 0);
	if (collects_net(&context->plan->net)) {
		/* Who shares the namespace can only be said when everybody's is known. */
		for (uint32_t i = 0; entry->net.inode && i < context->entry_count; i++)
			if (context->entries[i].path)
				pm_look_for_netns(context, &context->entries[i]);
		pm_netns_owner(context, entry);
		pm_collect_net(context, entry, tables, 0);
	}
	if (pm_collects_processes(context, tables)) {
		context->deadline_ns = walk_deadline(context, deadline_ns);
		pm_collect_processes(context, entry, tables, 0);
	}
}
