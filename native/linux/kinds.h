/* The kinds of kernel files that a reader knows: the one place where they are listed. */
#ifndef PYMON_KINDS_H
#define PYMON_KINDS_H

#include "scan_group.h"

enum { PM_COLUMNS_ALL = -1 }; /* every column of the table */

/* One of `line` and `scan` is set, or neither: a process list, which proclist.h reads. */
typedef struct {
	const char *name;
	int columns;   /* that it fills, from the file's first one on; 0: those of the file's keys */
	int adds_rows; /* also where a target has no labels */
	int least;     /* the lowest number of the group and of those above it, see above.h */
	pm_scan_result (*line)(const char *data, size_t len, pm_values *out); /* may be read rarely and kept */
	pm_scanner scan;
} pm_kind;

/* Ended by one without a name. */
extern const pm_kind pm_kinds[];

/* NULL when there is none of this name. */
const pm_kind *pm_kind_find(const char *name);

static inline int pm_kind_is_procs(const pm_kind *kind)
{
	return kind->line == NULL && kind->scan == NULL;
}

#endif
