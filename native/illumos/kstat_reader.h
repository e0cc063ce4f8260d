/* Reads the statistics of all zones from the kstat chain. Only one thread may use a reader at a time.
 *
 * The chain is walked once after each change. The kstats of the configured families are indexed by (module, class,
 * instance, name), each with the row that it fills, so a collection is a loop over reads. A kstat is identified by its
 * id: an update by the library can free and move the headers of kstats that still exist. No header is accessed between
 * an update and the walk that follows it. */
#ifndef PYMON_KSTAT_READER_H
#define PYMON_KSTAT_READER_H

#include "state.h"

/* Returns NULL if out of memory. */
pm_kstat *pm_kstat_new(void);
void pm_kstat_free(pm_kstat *kstat);

/* Use these functions in place of a library's. */
void pm_kstat_use(pm_kstat *kstat, const pm_kstat_library *library);
/* Open the library, as pm_kstat_library_open does. */
int pm_kstat_load(pm_kstat *kstat, const char *name, char *text, size_t size, int *symbol);

/* Add a family that fills `table`, which must outlive the reader. `status` is the first of its three columns
 * (available, cached, timer_ns) in the status table of zones or of the node. The first family must be that of class
 * zone_misc, by which zones are found. Returns the number of the family, or -1 if out of memory, or if it is a family
 * of zones whose kstats can have any name. */
int pm_kstat_add_family(pm_kstat *kstat, pm_kstat_rows rows, const char *module, const char *class, const char *name,
			int instance, const char *const *statistics, uint32_t columns, pm_table *table,
			uint32_t status);
/* Returns 0, or -1 if out of memory or beyond PM_KSTAT_LABELS or PM_KSTAT_NOTHINGS. */
int pm_kstat_add_label(pm_kstat *kstat, int family, const char *name, pm_kstat_label_from from, const char *statistic);
int pm_kstat_add_nothing(pm_kstat *kstat, int family, uint32_t column, uint64_t value);

/* Open the chain, after all families have been added. Returns 0 or an errno. */
int pm_kstat_open(pm_kstat *kstat);

/* Return the number of failures in the last collection by reason: an errno or PM_KSTAT_…. */
const uint64_t *pm_kstat_failures(const pm_kstat *kstat);
/* Return the number of rows that tables of zones have. */
uint32_t pm_kstat_zone_rows(const pm_kstat *kstat);
/* Return how long the last update of the index took: the walk, and reads that find the zone of new kstats. */
int64_t pm_kstat_index_ns(const pm_kstat *kstat);

#endif
