/* Walks the kstat chain and keeps an index of its kstats. */
#ifndef PYMON_KSTAT_CHAIN_H
#define PYMON_KSTAT_CHAIN_H

#include "state.h"

/* Update the chain and the index. Returns 0 or an errno. */
int pm_kstat_update(pm_kstat *kstat);
/* Schedule another update of the chain, even if its id does not change. */
void pm_kstat_look_again(pm_kstat *kstat);
void pm_kstat_chain_free(pm_kstat_chain *chain);

#endif
