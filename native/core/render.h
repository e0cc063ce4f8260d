/* Exposition of tables: a catalogue compiled to bytes once, cells written as exact decimals. */
#ifndef PYMON_RENDER_H
#define PYMON_RENDER_H

#include "decimal.h"
#include "table.h"

#define PM_NO_COLUMN UINT32_MAX

/* Label blocks of parents: without braces and without a trailing comma. An absent one has data NULL. */
typedef struct {
	const char *data;
	uint32_t len;
} pm_block;

/* One line for each row of a table. */
typedef struct {
	uint32_t table;
	uint32_t column;
	uint32_t minus; /* column to subtract with a floor of 0, or PM_NO_COLUMN */
	uint32_t plus;	/* column to add, or PM_NO_COLUMN */
	uint32_t when;	/* column that must be present, or PM_NO_COLUMN */
	pm_scale scale;
	const char *prefix; /* `name{` and the constant labels, each followed by a comma */
	uint32_t prefix_len;
	const char *bare; /* the whole of `name` or `name{constant="labels"}`, for rows without labels */
	uint32_t bare_len;
} pm_sample;

typedef struct {
	const char *header; /* HELP and TYPE lines */
	uint32_t header_len;
	uint32_t first; /* samples first .. first + count - 1 */
	uint32_t count;
} pm_family;

/* Append the exposition of `families` to `out`. A table pointer may be NULL: its samples are left out, as are
 * families without a line. `selected` is NULL or a byte for each family that says whether it is wanted.
 * 0 or -1 (out of memory; `out` keeps its earlier content). */
int pm_render(pm_buffer *out, const pm_family *families, uint32_t family_count, const pm_sample *samples,
	      const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
	      const unsigned char *selected, uint64_t *lines);

#endif
