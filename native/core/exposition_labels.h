/* The labels of samples that were parsed. */
#ifndef PYMON_EXPOSITION_LABELS_H
#define PYMON_EXPOSITION_LABELS_H

#include "buffer.h"
#include "exposition_types.h"

typedef struct {
	const char *name;
	size_t name_len;
	const char *value; /* escaped */
	size_t value_len;
} pm_exposition_label;

/* Get the next label from the text between the braces of a sample. Returns 1, or 0 at the end. */
int pm_exposition_next_label(const char **cursor, const char *end, pm_exposition_label *label);

/* The name of a label that is put in front of a sample's own labels, so that these must not have the name. */
typedef struct {
	const char *name;
	size_t len;
} pm_exposition_taken;

/* Append the samples of a family that was parsed in the strict dialect. Each sample has a newline before it, and
 * `front`, labels separated by commas, before its own labels. As in Prometheus, own labels with one of the `taken`
 * names, at most 8, are renamed to exported_..., which is chosen so that no sample of the family has the name. Returns
 * 0, or -1 if out of memory. */
int pm_exposition_labelled(const pm_exposition *reader, uint32_t family, const char *front, size_t front_len,
			   const pm_exposition_taken *taken, size_t taken_count, pm_buffer *out);

#endif
