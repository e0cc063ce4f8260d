/* Converts the data of a kstat to cells of a table. */
#ifndef PYMON_KSTAT_CELLS_H
#define PYMON_KSTAT_CELLS_H

#include "family.h"

/* Set the cells of `row` from data, and let `texts` point into the data. Returns 0, or the reason why no cell was set.
 * Reasons why single cells are absent are counted in `failures`. */
int pm_kstat_family_set(pm_kstat_family *family, const pm_kstat_data *data, pm_table *table, uint32_t row,
			pm_kstat_texts *texts, uint64_t *failures);

#endif
