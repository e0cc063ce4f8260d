/* One collection: every container, or one, into tables (one for each of the plan's; NULL: not wanted).
 * context->result is being filled. */
#ifndef PYMON_COLLECT_H
#define PYMON_COLLECT_H

#include "context.h"

/* Rows 0 .. rows-1, until the deadline. */
void pm_collect(pm_context *context, pm_table *const *tables, uint32_t rows, int64_t deadline_ns);
/* Row `row` alone, as row 0 of the tables. */
void pm_collect_row(pm_context *context, pm_table *const *tables, uint32_t row, int64_t deadline_ns);

/* Read the plan's files of one container into row `row` of the tables. */
void pm_collect_files(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row);

#endif
