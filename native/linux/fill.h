/* Asking the filler of a plan, and what it has spared. */
#ifndef PYMON_FILL_H
#define PYMON_FILL_H

#include "context.h"

/* Have the filler fill what it can. What it filled is known in context->fill until pm_fill_end. */
void pm_fill_begin(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns);
void pm_fill_end(pm_context *context);

/* Whether all that a file would set in a row has been filled. `file` is an index in the plan; those of the namespace
 * follow the others. */
static inline int pm_fill_covers(const pm_context *context, uint32_t file, uint32_t row)
{
	return context->fill && context->covered[file] && context->fill->filled[row];
}

#endif
