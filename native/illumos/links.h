/* Kstats of which a zone can have several, such as those of its links. Each has a row of its own. */
#ifndef PYMON_KSTAT_LINKS_H
#define PYMON_KSTAT_LINKS_H

#include "state.h"

/* Add a link to a zone, with a row and labels. Returns 0, or -1 if out of memory; then nothing has changed. */
int pm_kstat_attach_link(pm_kstat *kstat, uint32_t slot, uint32_t row, const pm_kstat_texts *texts);
/* Remove a link from its zone. */
void pm_kstat_unlink_link(pm_kstat *kstat, uint32_t slot);
/* Free the row of a link. */
void pm_kstat_release_link(pm_kstat *kstat, pm_kstat_slot *slot);

#endif
