/* Renders tables as an exposition. The catalogue is compiled to bytes once; cells are written as exact decimals. */
#ifndef PYMON_RENDER_H
#define PYMON_RENDER_H

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

typedef struct {
	const char *header; /* HELP and TYPE lines */
	uint32_t header_len;
	uint32_t first; /* index of its first sample */
	uint32_t count;
	int by_row; /* its samples, which are all of one table, are written row by row, as those of a histogram must be
		     */
} pm_family;

/* Append the exposition of `families` to `out`, and set *lines to the number of samples. A table pointer may be NULL;
 * then its samples are left out. Families without samples are left out. `selected` has a byte for each family that
 * tells whether it is wanted; NULL for all. Returns 0, or -1 if out of memory; then `out` has its previous content. */
int pm_render(pm_buffer *out, const pm_family *families, uint32_t family_count, const pm_sample *samples,
	      const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
	      const unsigned char *selected, uint64_t *lines);

#endif
