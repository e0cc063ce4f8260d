/* Reads the indexed kstats into tables. */
#ifndef PYMON_KSTAT_COLLECT_H
#define PYMON_KSTAT_COLLECT_H

#include "state.h"

/* Update the chain and the index. Then read each kstat of the families f with wanted[f] once, into the table of the
 * family; the other tables are cleared. Returns 0, or an errno if nothing was read. */
int pm_kstat_collect(pm_kstat *kstat, const uint8_t *wanted, pm_table *status, pm_table *node_status);

/* Do the same for one zone. `tables` has a table for each family, NULL for one that is not wanted. Returns 1, 0 if the
 * zone that was last reported for this row has gone, or -errno. */
int pm_kstat_collect_zone(pm_kstat *kstat, uint32_t row, pm_table *const *tables, pm_table *status);

#endif
