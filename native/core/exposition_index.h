/* The families, samples and series of a text, and the labels of a line, by their hash. */
#ifndef PYMON_EXPOSITION_INDEX_H
#define PYMON_EXPOSITION_INDEX_H

#include "exposition_types.h"

/* The labels of a line. bound: the value of le or quantile, NULL without one. */
typedef struct {
	pm_span labels;
	uint64_t hash; /* of the labels that are not empty, independent of their order */
	const char *bound;
	const char *bound_end;
} pm_exposition_line_labels;

/* Find a family by name. Returns 1 and sets *index if it exists, 0 if not, -2 if out of memory. create: if the family
 * does not exist, add it and set *index; the result is 0. */
int pm_exposition_find_family(pm_exposition *reader, const char *name, size_t len, int create, uint32_t *index);

/* Add the name of a label of this line by its hash. Returns 0, 1 if it was there before, -2 if out of memory. */
int pm_exposition_remember_label(pm_exposition *reader, uint64_t hash);

/* Add a sample to its family. Returns 0, -2 if out of memory. A duplicate series is noted as a problem, or marked if
 * these are allowed. */
int pm_exposition_add_sample(pm_exposition *reader, uint32_t index, pm_suffix suffix, pm_span name,
			     const pm_exposition_line_labels *labels, pm_span value);

#endif
