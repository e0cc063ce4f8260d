/* Changes of zones and links, for the user of the reader. */
#ifndef PYMON_KSTAT_EVENTS_H
#define PYMON_KSTAT_EVENTS_H

#include "state.h"

/* The changes since the events were cleared, in order. */
const pm_kstat_event *pm_kstat_events(const pm_kstat *kstat, size_t *count, const char **names);
void pm_kstat_clear_events(pm_kstat *kstat);

/* Reserve memory for `count` events with `name_bytes` of names. Returns 0, or -1 if out of memory. */
int pm_kstat_events_reserve(pm_kstat *kstat, uint32_t count, size_t name_bytes);

/* Add an event. The caller has reserved memory for it; for a live zone that has gone, memory is always reserved. */
void pm_kstat_event_zone(pm_kstat *kstat, uint32_t row);
void pm_kstat_event_gone(pm_kstat *kstat, uint32_t row);
void pm_kstat_event_link(pm_kstat *kstat, const pm_kstat_slot *slot);

#endif
