#include "read.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	FIRST_BUFFER_BYTES = 16384,
	MAX_DATA_BYTES = 1 << 20, /* of one kstat; a larger size is malformed */
	EAGAIN_TRIES = 5,
	EAGAIN_PAUSE_NS = 200 * 1000,
	EAGAIN_PATIENCE_NS = 20 * 1000 * 1000, /* time for retries in one collection */
};

void pm_kstat_reading_start(pm_kstat_reading *reading, const pm_kstat_library *library, kstat_ctl_t *ctl)
{
	struct stat status;

	memset(reading, 0, sizeof(*reading));
	reading->library = library;
	reading->ctl = ctl;
	pm_kstat_reading_renew(reading);
	if (library->ioctl == NULL || ctl->kc_kd < 0 || fstat(ctl->kc_kd, &status) < 0 || !S_ISCHR(status.st_mode) ||
	    isatty(ctl->kc_kd))
		return;
	/* The id itself is ignored, because it changes when kstats are created meanwhile. */
	reading->direct = library->ioctl(ctl->kc_kd, KSTAT_IOC_CHAIN_ID, NULL) != -1;
}

void pm_kstat_reading_stop(pm_kstat_reading *reading)
{
	free(reading->buffer);
	memset(reading, 0, sizeof(*reading));
}

void pm_kstat_reading_renew(pm_kstat_reading *reading)
{
	reading->patience_ns = EAGAIN_PATIENCE_NS;
}

static int reserve(pm_kstat_reading *reading, size_t size)
{
	size_t cap = reading->cap ? reading->cap : FIRST_BUFFER_BYTES;
	char *buffer;

	if (size <= reading->cap)
		return 0;
	if (size > MAX_DATA_BYTES)
		return PM_KSTAT_MALFORMED;
	while (cap < size)
		cap *= 2;
	buffer = realloc(reading->buffer, cap);
	if (buffer == NULL)
		return ENOMEM;
	reading->buffer = buffer;
	reading->cap = cap;
	return 0;
}

static int read_directly(pm_kstat_reading *reading, pm_kstat_ref kstat, pm_kstat_data *data)
{
	kstat_t *header = &reading->header;

	for (size_t wanted = 1;;) {
		int reason = reserve(reading, wanted);

		if (reason)
			return reason;
		header->ks_kid = kstat.kid;
		header->ks_data = reading->buffer;
		header->ks_data_size = reading->cap;
		if (reading->library->ioctl(reading->ctl->kc_kd, KSTAT_IOC_READ, header) != -1) {
			*data = (pm_kstat_data){reading->buffer, header->ks_data_size, header->ks_ndata, kstat.type};
			return header->ks_data_size <= reading->cap ? 0 : PM_KSTAT_MALFORMED;
		}
		if (errno != ENOMEM || reading->cap >= MAX_DATA_BYTES)
			return errno;
		/* The kernel has stored the size it needs. It can grow again before the next try. */
		wanted = header->ks_data_size > reading->cap ? header->ks_data_size : reading->cap * 2;
	}
}

/* Read into the library's own memory. ks_data is never set to our memory, because the library may free it. */
static int read_by_library(const pm_kstat_reading *reading, kstat_t *kstat, pm_kstat_data *data)
{
	size_t told = kstat->ks_data_size;

	if (reading->library->read(reading->ctl, kstat, NULL) == -1) {
		/* The kernel has stored the size it needs, which is not that of ks_data. */
		kstat->ks_data_size = told;
		return errno;
	}
	*data = (pm_kstat_data){kstat->ks_data, kstat->ks_data_size, kstat->ks_ndata, kstat->ks_type};
	if (data->size > MAX_DATA_BYTES || (data->data == NULL && data->count > 0))
		return PM_KSTAT_MALFORMED;
	return 0;
}

int pm_kstat_read(pm_kstat_reading *reading, pm_kstat_ref kstat, pm_kstat_data *data)
{
	static const struct timespec pause = {.tv_nsec = EAGAIN_PAUSE_NS};
	int reason;

	for (int tries = 1;; tries++) {
		errno = 0;
		reason = reading->direct ? read_directly(reading, kstat, data)
					 : read_by_library(reading, kstat.header, data);
		if (reason != EAGAIN || tries == EAGAIN_TRIES || reading->patience_ns <= 0)
			break;
		nanosleep(&pause, NULL);
		reading->patience_ns -= EAGAIN_PAUSE_NS;
	}
	if (reason < 0 || reason >= PM_KSTAT_REASONS)
		return EIO;
	return reason;
}
