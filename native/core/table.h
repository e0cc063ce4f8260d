/* A table: rows x columns of 64-bit integers, a presence bit for each cell, a label block for each row. */
#ifndef PYMON_TABLE_H
#define PYMON_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

#define PM_NO_PARENT UINT32_MAX

/* Labels of a row: bytes of its own in the arena (each label followed by a comma), then the
 * block of the parent (a container), which the renderer is given from outside. */
typedef struct {
	uint32_t offset;
	uint32_t len;
	uint32_t parent;
} pm_row_labels;

typedef struct {
	uint32_t columns;
	uint32_t words; /* 64-bit words of presence bits in a row */
	uint32_t rows;
	uint32_t cap;
	uint64_t *cells;
	uint64_t *present;
	pm_row_labels *labels;
	pm_buffer arena;
	size_t garbage; /* bytes of the arena that belong to no row any more */
} pm_table;

int pm_table_init(pm_table *table, uint32_t columns);
void pm_table_free(pm_table *table);

/* Drop all rows, keep the memory. */
void pm_table_clear(pm_table *table);

/* Drop all rows, then have `rows` rows of absent cells, row i with parent i. 0 or -1 (out of memory). */
int pm_table_clear_to(pm_table *table, uint32_t rows);

/* Have at least `rows` rows: new ones have absent cells, row i parent i. Present ones stay. 0 or -1. */
int pm_table_grow(pm_table *table, uint32_t rows);

/* Make the cells of a row absent. */
void pm_table_unset_row(pm_table *table, uint32_t row);

/* Make `target`, of the same columns, one row with parent 0 and the cells of a row of `source`. 0 or -1. */
int pm_table_copy_row(pm_table *target, const pm_table *source, uint32_t row);

/* Make `target`, of the same columns, a copy of `source`. 0 or -1. */
int pm_table_copy(pm_table *target, const pm_table *source);

/* Append a row of absent cells; its index, or -1 when memory is out. */
int64_t pm_table_append(pm_table *table, uint32_t parent);

/* Append the label `name="value",` to the last row's own labels, escaping the value (text format
 * 0.0.4 and OpenMetrics 1.0.0 agree: backslash, double quote, newline). 0 or -1. */
int pm_table_label(pm_table *table, const char *name, size_t name_len, const char *value, size_t value_len);

/* Give a row this label block, escaped and of the form `name="value",…`, for its own; it is not in this table. The
 * parent stays. What no row uses any more is given back when it is more than half of the arena. 0 or -1. */
int pm_table_relabel(pm_table *table, uint32_t row, const char *block, size_t len);

static inline void pm_table_set(pm_table *table, uint32_t row, uint32_t column, uint64_t value)
{
	table->cells[(size_t)row * table->columns + column] = value;
	table->present[(size_t)row * table->words + (column >> 6)] |= 1ull << (column & 63);
}

static inline int pm_table_has(const pm_table *table, uint32_t row, uint32_t column)
{
	return (int)(table->present[(size_t)row * table->words + (column >> 6)] >> (column & 63) & 1);
}

static inline uint64_t pm_table_get(const pm_table *table, uint32_t row, uint32_t column)
{
	return table->cells[(size_t)row * table->columns + column];
}

/* Append `value` escaped as a label value. A byte that is no UTF-8 becomes the text \xNN: both formats are UTF-8, names
 * of groups and interfaces need not be. 0 or -1. */
int pm_escape(pm_buffer *buffer, const char *value, size_t len);

#endif
