#include "fill.h"

#include <stdlib.h>

void pm_fill_begin(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns)
{
	const pm_filler *filler = context->plan->filler;
	uint32_t count = context->plan->table_count;
	size_t cells = rows;
	const char **paths;
	uint8_t **columns, *flags;
	pm_fill *fill;

	if (filler == NULL)
		return;
	for (uint32_t i = 0; i < count; i++)
		cells += tables[i] ? tables[i]->columns : 0;
	fill = calloc(1, sizeof(*fill) + rows * sizeof(*paths) + count * sizeof(*columns) + cells);
	if (fill == NULL) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	paths = (const char **)(fill + 1);
	columns = (uint8_t **)(paths + rows);
	flags = (uint8_t *)(columns + count);
	*fill = (pm_fill){
		.tables = tables,
		.rows = rows,
		.paths = paths,
		.deadline_ns = deadline_ns,
		.failures = context->result->failures,
		.columns = columns,
		.filled = flags,
	};
	flags += rows;
	for (uint32_t i = 0; i < count; i++) {
		columns[i] = flags;
		flags += tables[i] ? tables[i]->columns : 0;
	}
	for (uint32_t row = 0; row < rows; row++)
		paths[row] = pm_entry_at(context, row) ? context->entries[row]->path : NULL;
	filler->fill(filler->state, fill);
	context->fill = fill;
}

void pm_fill_end(pm_context *context)
{
	free(context->fill);
	context->fill = NULL;
}

int pm_fill_covers(const pm_context *context, const pm_file *file, pm_table *const *tables, uint32_t row)
{
	const pm_fill *fill = context->fill;

	if (fill == NULL || !fill->filled[row])
		return 0;
	for (uint32_t i = 0; i < file->target_count; i++) {
		uint32_t table = file->targets[i].table;
		uint32_t count = file->kind->columns > 0 ? (uint32_t)file->kind->columns : file->keys.count;

		if (tables[table] == NULL)
			continue;
		if (file->kind->columns == PM_COLUMNS_ALL)
			count = tables[table]->columns - file->column;
		for (uint32_t n = 0; n < count; n++)
			if (!fill->columns[table][file->kind->columns ? file->column + n : file->keys.columns[n]])
				return 0;
	}
	return 1;
}
