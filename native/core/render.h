/* Renders tables as an exposition. The catalogue is compiled to bytes once; cells are written as exact decimals. */
#ifndef PYMON_RENDER_H
#define PYMON_RENDER_H

#include "render_row.h"

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
