/* A sample, and what it is in a row, for the renderers of all formats. */
#ifndef PYMON_RENDER_ROW_H
#define PYMON_RENDER_ROW_H

#include "decimal.h"
#include "table.h"

#define PM_NO_COLUMN UINT32_MAX

/* The label block of a parent, without braces and without a trailing comma. `data` is NULL if there is none. */
typedef struct {
	const char *data;
	uint32_t len;
} pm_block;

/* A series for each row of a table. */
typedef struct {
	uint32_t table;
	uint32_t column;
	uint32_t minus; /* column to subtract, or PM_NO_COLUMN; a negative difference counts as 0 */
	uint32_t plus;	/* column to add, or PM_NO_COLUMN */
	uint32_t when;	/* column that must have a value, or PM_NO_COLUMN */
	pm_scale scale;
	const char *prefix; /* `name{` and the constant labels, each followed by a comma */
	uint32_t prefix_len;
	const char *bare; /* `name` or `name{constant="labels"}`, for rows without labels */
	uint32_t bare_len;
} pm_sample;

/* Get the cell of a sample in a row, before it is scaled. Returns whether there is one. */
static inline int pm_row_cell(const pm_sample *sample, const pm_table *table, uint32_t row, uint64_t *cell)
{
	uint64_t value;

	if (!pm_table_has(table, row, sample->column))
		return 0;
	if (sample->when != PM_NO_COLUMN && !pm_table_has(table, row, sample->when))
		return 0;
	value = pm_table_get(table, row, sample->column);
	if (sample->minus != PM_NO_COLUMN) {
		uint64_t minus;
		if (!pm_table_has(table, row, sample->minus))
			return 0;
		minus = pm_table_get(table, row, sample->minus);
		value = value > minus ? value - minus : 0;
	}
	if (sample->plus != PM_NO_COLUMN) {
		if (!pm_table_has(table, row, sample->plus))
			return 0;
		value += pm_table_get(table, row, sample->plus);
	}
	*cell = value;
	return 1;
}

/* Returns whether the parent of a row is there. It may have been removed, or added after `parents` was made. */
static inline int pm_row_parent(const pm_row_labels *labels, const pm_block *parents, uint32_t parent_count)
{
	return labels->parent == PM_NO_PARENT ||
	       (labels->parent < parent_count && parents[labels->parent].data != NULL);
}

#endif
