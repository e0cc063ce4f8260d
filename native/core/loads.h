/* Averages that decay: of the numbers of threads of containers, as load averages are. */
#ifndef PYMON_LOADS_H
#define PYMON_LOADS_H

#include "table.h"

typedef struct pm_loads pm_loads;

/* Averages of `series` numbers of each container. NULL if out of memory. */
pm_loads *pm_loads_new(uint32_t series);
void pm_loads_free(pm_loads *loads);

/* Forget a container: its row is another's now. */
void pm_loads_forget(pm_loads *loads, uint32_t row);

/* Take a sample of a number: a column of a table that has a row for each container. rows: number of containers. keep:
 * the share, of 0 to 1, that the average before has in the new one. The first number of a container is its average, and
 * one that is absent is like none before. Returns 0, or -1 if out of memory. */
int pm_loads_take(pm_loads *loads, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows, double keep);

/* Set a cell of each container to its average in thousandths, or none where there is none. */
void pm_loads_write(const pm_loads *loads, uint32_t series, pm_table *table, uint32_t column);

#endif
