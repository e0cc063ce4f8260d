/* A table of 64-bit integers, with a presence bit for each cell and labels for each row. */
#ifndef PYMON_TABLE_H
#define PYMON_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

#define PM_NO_PARENT UINT32_MAX

/* The labels of a row: own ones in the arena, each followed by a comma, then those of its parent, a container, which
 * are given to the renderer. */
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
	size_t garbage; /* bytes of the arena that no row uses */
} pm_table;

/* Initialize an empty table. Always returns 0. */
int pm_table_init(pm_table *table, uint32_t columns);
void pm_table_free(pm_table *table);

/* Remove all rows and keep the memory. */
void pm_table_clear(pm_table *table);

/* Replace all rows by `rows` rows of absent cells, row i with parent i. Returns 0, or -1 if out of memory. */
int pm_table_clear_to(pm_table *table, uint32_t rows);

/* Add rows of absent cells until there are `rows`, row i with parent i. Existing rows stay. Returns 0, or -1 if out of
 * memory. */
int pm_table_grow(pm_table *table, uint32_t rows);

/* Make all cells of a row absent. */
void pm_table_unset_row(pm_table *table, uint32_t row);

/* Replace the rows of `target` by one row with parent 0 and the cells and own labels of a row of `source`. Both tables
 * must have the same columns. Returns 0, or -1 if out of memory. */
int pm_table_copy_row(pm_table *target, const pm_table *source, uint32_t row);

/* Replace the rows of `target` by those of `source`. Both tables must have the same columns. Returns 0, or -1 if out of
 * memory. */
int pm_table_copy(pm_table *target, const pm_table *source);

/* Append a row of absent cells. Returns its index, or -1 if out of memory. */
int64_t pm_table_append(pm_table *table, uint32_t parent);

/* Remove each row from `first` on that has the labels of an earlier one of them: no exposition may have a series twice.
 * Takes linear time. Returns 0, or -1 if out of memory. */
int pm_table_drop_repeated(pm_table *table, uint32_t first);

/* Append the label `name="value",` to the own labels of the last row. The value is escaped by pm_escape. Returns 0, or
 * -1 if out of memory. */
int pm_table_label(pm_table *table, const char *name, size_t name_len, const char *value, size_t value_len);

/* Set the own labels of a row. `block` is escaped, has the form `name="value",…`, and must not be in this table's
 * arena. The parent stays. The arena is compacted when more than half of it is unused. Returns 0, or -1 if out of
 * memory. */
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

/* Append a label value with escapes for backslash, double quote and newline, as in the text format 0.0.4 and
 * OpenMetrics 1.0.0. Bytes that are not UTF-8, which names of cgroups and interfaces may contain, become the text \xNN.
 * Returns 0, or -1 if out of memory. */
int pm_escape(pm_buffer *buffer, const char *value, size_t len);

/* Append the label `name="value",` with its value escaped. 0 or -1. */
int pm_label_append(pm_buffer *buffer, const char *name, size_t name_len, const char *value, size_t value_len);

#endif
