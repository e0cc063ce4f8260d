/* What the writers of a parsed exposition share: the samples by family, numbers, and the series of which a histogram or
 * summary consists. */
#ifndef PYMON_EXPOSITION_GROUPS_H
#define PYMON_EXPOSITION_GROUPS_H

#include "buffer.h"
#include "exposition_labels.h"

/* The histograms or summaries of a family so far, by the hash of their labels. */
typedef struct {
	uint64_t *slots;
	size_t mask;
} pm_exposition_groups;

/* Forget all, and make room for those of a family with this number of samples. Returns 0, or -1 if out of memory. */
int pm_exposition_groups_clear(pm_exposition_groups *groups, uint32_t samples);

/* Add one by its hash, which is not 0. Returns 1, or 0 if it was there before. */
int pm_exposition_groups_add(pm_exposition_groups *groups, uint64_t hash);

/* The hash of a label, 0 without a value. The sum of those of a series does not depend on their order. */
uint64_t pm_exposition_label_hash(const pm_exposition *reader, const pm_exposition_label *label);

/* Whether a label is the bound of a bucket of a histogram, or of a quantile of a summary. */
int pm_exposition_is_bound(pm_family_type kind, pm_suffix suffix, const pm_exposition_label *label);

/* Return the indexes of the samples, family by family in their order. The caller frees them. NULL if out of memory. */
uint32_t *pm_exposition_by_family(const pm_exposition *reader);

/* Get a number that was parsed. `scratch` is changed. LC_NUMERIC must be that of C. Returns 0, or -1 if out of memory.
 */
int pm_exposition_real(pm_buffer *scratch, const char *data, size_t len, double *value);

/* Whether a count is an integer that 64 bits hold. */
static inline int pm_exposition_is_integer(double count)
{
	return count >= 0 && count < 0x1p64 && count == (double)(uint64_t)count;
}

#endif
