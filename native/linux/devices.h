/* Names of block devices by number, as cAdvisor spells them: /dev/NAME. */
#ifndef PYMON_DEVICES_H
#define PYMON_DEVICES_H

#include "scan_group.h"

typedef struct pm_devices pm_devices;

/* Looked up in `sysfs`, a descriptor or -1, once for each number, and forgotten after ttl_ns, because the numbers of
 * removable devices are used again. NULL when memory is out. */
pm_devices *pm_devices_new(int sysfs, int64_t ttl_ns);
void pm_devices_free(pm_devices *devices);

/* `/dev/sda`, or `8:0` where sysfs does not have the number; good until the next call. */
const char *pm_devices_name(pm_devices *devices, unsigned major, unsigned minor);

#endif
