/* The kstats of all families, by number, and the list of those that are to be resolved. */
#ifndef PYMON_KSTAT_SLOTS_H
#define PYMON_KSTAT_SLOTS_H

#include "state.h"

/* Return the hash of a kstat in the index. */
uint64_t pm_kstat_key(uint32_t family, int instance, const char *name, size_t len);
/* Return the number of a new slot, or -1 if out of memory. Memory for it in `pending` is reserved. */
int pm_kstat_slot_new(pm_kstat *kstat);
void pm_kstat_slot_free(pm_kstat *kstat, uint32_t slot);
/* Put a slot on the list that the next pm_kstat_resolve works through. */
void pm_kstat_pend(pm_kstat *kstat, uint32_t slot);

/* Grow an array of *cap items to at least `count`. Returns 0, or -1 if out of memory. */
int pm_kstat_reserve(void *array, uint32_t *cap, uint32_t count, size_t size);

#endif
