/* Limits that a container has from the groups above it: the tightest of its own and theirs. */
#ifndef PYMON_ABOVE_H
#define PYMON_ABOVE_H

#include "context.h"

/* Read a file of kind `least` in the container's group and in every group above it but the root, which has no limits.
 * Sets values[0] to the lowest number; nothing is set if none has one, or if one cannot be read, which is counted. A
 * group without the file has no limit of this kind. What groups above say is kept for plan->slow_ns, because many
 * containers have the same. */
void pm_above_read(pm_context *context, const pm_entry *entry, uint32_t slot, pm_values *values);

void pm_above_free(pm_above *above);

#endif
