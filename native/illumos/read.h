/* One kstat read into memory. */
#ifndef PYMON_KSTAT_READ_H
#define PYMON_KSTAT_READ_H

#include "library.h"

/* Reasons beside errno, and above every errno, why something is absent. */
enum {
	PM_KSTAT_MALFORMED = 160, /* sizes that contradict one another */
	PM_KSTAT_STRING,	  /* a string that is not inside the data */
	PM_KSTAT_FLOAT,		  /* a floating point number that is no integer of 64 bits */
	PM_KSTAT_TYPE,		  /* text, or an unknown type, where a number is wanted */
	PM_KSTAT_REASONS,
};

typedef struct {
	const pm_kstat_library *library;
	kstat_ctl_t *ctl;
	int direct;	     /* there is a kernel behind the descriptor: read by ioctl */
	int lends;	     /* the library may be lent `buffer` */
	int64_t patience_ns; /* left for kstats that answer EAGAIN */
	char *buffer;
	size_t cap;
	kstat_t header; /* of what is being read by ioctl */
} pm_kstat_reading;

/* What was read; memory of the reading or of the library, good until the next read of it. */
typedef struct {
	const char *data;
	size_t size;
	uint32_t count;
	uint8_t type;
} pm_kstat_data;

/* Find out whether reads can go past the library: its kstat_read waits for ever on EAGAIN, and keeps memory for each
 * kstat. A descriptor that is no device of the kernel's is left alone. */
void pm_kstat_reading_start(pm_kstat_reading *reading, const pm_kstat_library *library, kstat_ctl_t *ctl);
void pm_kstat_reading_stop(pm_kstat_reading *reading);

/* Give kstats that answer EAGAIN a new chance in this collection. */
void pm_kstat_reading_renew(pm_kstat_reading *reading);

/* Which kstat: the kernel goes by the id alone, so that the header, which is far away in memory, is only touched where
 * the library reads. */
typedef struct {
	kstat_t *header;
	kid_t kid;
	uint8_t type;
} pm_kstat_ref;

/* 0, or a reason. ENXIO: it has gone since the chain was updated. EAGAIN: its owner is still busy with it. */
int pm_kstat_read(pm_kstat_reading *reading, pm_kstat_ref kstat, pm_kstat_data *data);

#endif
