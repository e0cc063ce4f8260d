#include "fill.h"

#include <stdlib.h>

/* Whether all that the file would set in a row that is filled has been filled. */
static int is_covered(const pm_fill *fill, const pm_file *file)
{
	for (uint32_t i = 0; i < file->target_count; i++) {
		uint32_t table = file->targets[i].table;
		uint32_t count = file->kind->columns > 0 ? (uint32_t)file->kind->columns : file->keys.count;

		if (fill->tables[table] == NULL)
			continue;
		if (file->kind->columns == PM_COLUMNS_ALL)
			count = fill->tables[table]->columns - file->column;
		for (uint32_t n = 0; n < count; n++)
			if (!fill->columns[table][file->kind->columns ? file->column + n : file->keys.columns[n]])
				return 0;
	}
	return 1;
}

void pm_fill_begin(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns)
{
	const pm_plan *plan = context->plan;
	const pm_filler *filler = plan->filler;
	uint32_t count = plan->table_count;
	size_t cells = (size_t)rows + plan->file_count + plan->net_file_count;
	const char **paths;
	uint8_t **columns, *flags;
	uint64_t *namespaces;
	pm_fill *fill;

	if (filler == NULL)
		return;
	for (uint32_t i = 0; i < count; i++)
		cells += tables[i] ? tables[i]->columns : 0;
	fill = calloc(1, sizeof(*fill) + rows * (sizeof(*paths) + sizeof(uint64_t)) + count * sizeof(*columns) + cells);
	if (fill == NULL) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	paths = (const char **)(fill + 1);
	columns = (uint8_t **)(paths + rows);
	namespaces = (uint64_t *)(columns + count);
	flags = (uint8_t *)(namespaces + rows);
	*fill = (pm_fill){
		.tables = tables,
		.rows = rows,
		.paths = paths,
		.deadline_ns = deadline_ns,
		.failures = context->result->failures,
		.columns = columns,
		.filled = flags,
		.namespaces = namespaces,
	};
	flags += rows;
	context->covered = flags;
	flags += plan->file_count + plan->net_file_count;
	for (uint32_t i = 0; i < count; i++) {
		columns[i] = flags;
		flags += tables[i] ? tables[i]->columns : 0;
	}
	for (uint32_t row = 0; row < rows; row++)
		paths[row] = pm_entry_at(context, row) ? context->entries[row]->path : NULL;
	filler->fill(filler->state, fill);
	for (uint32_t i = 0; i < plan->file_count; i++)
		context->covered[i] = (uint8_t)is_covered(fill, &plan->files[i]);
	for (uint32_t i = 0; i < plan->net_file_count; i++)
		context->covered[plan->file_count + i] = (uint8_t)is_covered(fill, &plan->net_files[i]);
	context->fill = fill;
}

void pm_fill_end(pm_context *context)
{
	free(context->fill);
	context->fill = NULL;
}
