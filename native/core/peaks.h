/* The highest rates of counters in the last seconds, from samples that are taken about every second. */
#ifndef PYMON_PEAKS_H
#define PYMON_PEAKS_H

#include "table.h"

enum { PM_PEAKS_SECONDS = 60 }; /* the longest window */

typedef struct pm_peaks pm_peaks;

/* Peaks of `series` counters of each container. NULL if out of memory. */
pm_peaks *pm_peaks_new(uint32_t series);
void pm_peaks_free(pm_peaks *peaks);

/* Forget a container: its row is another's now. */
void pm_peaks_forget(pm_peaks *peaks, uint32_t row);

#define PM_PEAKS_LEAST_NS 200000000
#define PM_PEAKS_MOST_NS 5000000000

/* Take a sample of a counter: a column of a table, summed over the rows of each container. rows: number of containers.
 * now_ns: on a monotonic clock. A rate is known from the second sample on. None is taken over less than
 * PM_PEAKS_LEAST_NS or more than PM_PEAKS_MOST_NS, nor of a counter that has become less. scale: what rates are
 * multiplied with. Returns 0, or -1 if out of memory. */
int pm_peaks_take(pm_peaks *peaks, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows,
		  int64_t now_ns, double scale);

/* Set a cell of each container to the highest rate, per second, of the last `seconds`, or none where there is none. */
void pm_peaks_write(const pm_peaks *peaks, uint32_t series, uint32_t seconds, int64_t now_ns, pm_table *table,
		    uint32_t column);

#endif
