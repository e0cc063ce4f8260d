/* Finds the zones, and assigns kstats to them. */
#ifndef PYMON_KSTAT_ZONES_H
#define PYMON_KSTAT_ZONES_H

#include "state.h"

/* Assign a kstat of PM_KSTAT_ZONE to its zone, if the zone is known. */
void pm_kstat_join(pm_kstat *kstat, uint32_t slot);
/* Remove a kstat, which may not exist any more, from its zone. Without its zone_misc kstat the zone is removed too. */
void pm_kstat_detach(pm_kstat *kstat, uint32_t slot);
/* Report a zone that has booted as a new one. Returns 0, or -1 if out of memory; then nothing has changed. */
int pm_kstat_restart(pm_kstat *kstat, uint32_t row, uint64_t boot_time_seconds);
/* Read the pending kstats to find zones and the owners of links. Returns 0 or an errno. What fails stays pending. */
int pm_kstat_resolve(pm_kstat *kstat);

#endif
