/* One kstat read into memory. */
#ifndef PYMON_KSTAT_READ_H
#define PYMON_KSTAT_READ_H

#include "library.h"

/* Reasons why a value is absent, in addition to errno. They are above every errno. */
enum {
	PM_KSTAT_MALFORMED = 160, /* sizes that contradict each other */
	PM_KSTAT_STRING,	  /* a string outside the data */
	PM_KSTAT_FLOAT,		  /* a floating point number that is not a 64-bit integer */
	PM_KSTAT_TYPE,		  /* a text or an unknown type where a number is expected */
	PM_KSTAT_REASONS,
};

typedef struct {
	const pm_kstat_library *library;
	kstat_ctl_t *ctl;
	int direct;	     /* the descriptor is the kernel's device: reads use ioctl */
	int64_t patience_ns; /* time left for retries after EAGAIN in this collection */
	/* Of reads by ioctl. */
	char *buffer;
	size_t cap;
	kstat_t header;
} pm_kstat_reading;

/* The data of a kstat. After a read by ioctl it is valid until the next read; otherwise it is the library's, and valid
 * until that kstat is read again or the chain is updated. */
typedef struct {
	const char *data;
	size_t size;
	uint32_t count;
	uint8_t type;
} pm_kstat_data;

/* Initialize, and find out whether reads can use the ioctl. The library's kstat_read retries forever on EAGAIN and
 * keeps memory for each kstat. No ioctl is tried on a descriptor that is not a character device. */
void pm_kstat_reading_start(pm_kstat_reading *reading, const pm_kstat_library *library, kstat_ctl_t *ctl);
void pm_kstat_reading_stop(pm_kstat_reading *reading);

/* Begin a collection: allow retries after EAGAIN again. */
void pm_kstat_reading_renew(pm_kstat_reading *reading);

/* Identifies a kstat. The kernel needs only the id, so the header is accessed only for reads by the library. */
typedef struct {
	kstat_t *header;
	kid_t kid;
	uint8_t type;
} pm_kstat_ref;

/* Read a kstat. Returns 0 or a reason. ENXIO: it was removed after the update of the chain. EAGAIN: the kernel is still
 * updating it. */
int pm_kstat_read(pm_kstat_reading *reading, pm_kstat_ref kstat, pm_kstat_data *data);

#endif
