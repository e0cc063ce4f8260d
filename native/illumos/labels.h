/* Builds the labels of a kstat. */
#ifndef PYMON_KSTAT_LABELS_H
#define PYMON_KSTAT_LABELS_H

#include "state.h"

/* Write the label block of a kstat to kstat->labels. plain: do not change the name of the interface. Returns 0, or -1
 * if out of memory. */
int pm_kstat_label_block(pm_kstat *kstat, const pm_kstat_family *family, const kstat_t *header,
			 const pm_kstat_texts *texts, int zone_id, int plain);
/* Return whether two links of a zone would get the same label. */
int pm_kstat_same_interface(const kstat_t *one, const kstat_t *other, int zone_id);

#endif
