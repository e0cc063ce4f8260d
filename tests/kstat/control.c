/* What tests in the same process say to the double. A kstat is named by module, instance and name; what is not there
 * answers -1. */
#include <errno.h>
#include <string.h>

#include "kernel.h"

static record *find(const char *module, int instance, const char *name)
{
	char m[KSTAT_STRLEN];
	char n[KSTAT_STRLEN];
	spec_name(m, module, strlen(module));
	spec_name(n, name, strlen(name));
	return kernel_find(m, instance, n);
}

/* In the records of the data, whatever type it was said to be. */
static kstat_named_t *find_stat(record *item, const char *stat)
{
	char wanted[KSTAT_STRLEN];
	spec_name(wanted, stat, strlen(stat));
	kstat_named_t *stats = item ? (kstat_named_t *)item->data : NULL;
	for (uint32_t i = 0; item && i < item->ndata && (i + 1) * sizeof(*stats) <= item->size; i++) {
		if (memcmp(stats[i].name, wanted, KSTAT_STRLEN) == 0) {
			return &stats[i];
		}
	}
	return NULL;
}

EXPORT void double_reset(void)
{
	kernel_lock();
	kernel_reset();
	kernel_unlock();
}

/* With `all`, the chain is that of the text; else its kstats come on top. */
EXPORT int double_load(const char *text, size_t len, int all)
{
	kernel_lock();
	int status = json_load(text, len, all);
	kernel_unlock();
	return status;
}

EXPORT const char *double_error(void)
{
	return json_error;
}

EXPORT void double_generate(int first, int count, unsigned salt)
{
	kernel_lock();
	zones_generate(first, count, salt);
	kernel_unlock();
}

EXPORT int double_remove_zone(int zone)
{
	kernel_lock();
	int gone = kernel_remove_zone(zone);
	kernel_unlock();
	return gone;
}

EXPORT int double_remove(const char *module, int instance, const char *name)
{
	kernel_lock();
	record *item = find(module, instance, name);
	if (item) {
		kernel_remove(item);
	}
	kernel_unlock();
	return item ? 0 : -1;
}

/* The value of a statistic, cut to its type. */
EXPORT int double_set(const char *module, int instance, const char *name, const char *stat, uint64_t value)
{
	kernel_lock();
	kstat_named_t *found = find_stat(find(module, instance, name), stat);
	if (found) {
		bool narrow = found->data_type == KSTAT_DATA_INT32 || found->data_type == KSTAT_DATA_UINT32;
		memcpy(&found->value, &value, narrow ? 4 : 8);
	}
	kernel_unlock();
	return found ? 0 : -1;
}

/* The data type of a statistic, whatever its value. */
EXPORT int double_set_data_type(const char *module, int instance, const char *name, const char *stat, uint8_t type)
{
	kernel_lock();
	kstat_named_t *found = find_stat(find(module, instance, name), stat);
	if (found) {
		found->data_type = type;
	}
	kernel_unlock();
	return found ? 0 : -1;
}

/* Pointer (relative to the data that is read, or as it stands) and length that a STRING tells. */
EXPORT int double_set_string(const char *module, int instance, const char *name, const char *stat, int relative,
			     uintptr_t pointer, uint32_t len)
{
	kernel_lock();
	record *item = find(module, instance, name);
	kstat_named_t *found = find_stat(item, stat);
	string_ref *ref = NULL;
	for (uint32_t i = 0; found && i < item->nrefs; i++) {
		if (&((kstat_named_t *)item->data)[item->refs[i].stat] == found) {
			ref = &item->refs[i];
		}
	}
	if (ref) {
		ref->wild = !relative;
		ref->at = pointer;
		found->value.str.len = len;
	}
	kernel_unlock();
	return ref ? 0 : -1;
}

/* Type of a kstat, as headers made from now on have it. */
EXPORT int double_set_type(const char *module, int instance, const char *name, uint8_t type)
{
	kernel_lock();
	record *item = find(module, instance, name);
	if (item) {
		item->type = type;
	}
	kernel_unlock();
	return item ? 0 : -1;
}

EXPORT int double_set_flags(const char *module, int instance, const char *name, uint8_t flags)
{
	kernel_lock();
	record *item = find(module, instance, name);
	if (item) {
		kernel_set_flags(item, flags);
	}
	kernel_unlock();
	return item ? 0 : -1;
}

/* What reads tell as ks_ndata and ks_data_size, whatever the data is; below 0: the truth. */
EXPORT int double_tell(const char *module, int instance, const char *name, int64_t ndata, int64_t data_size)
{
	kernel_lock();
	record *item = find(module, instance, name);
	if (item) {
		item->tells_ndata = ndata >= 0;
		item->told_ndata = (uint32_t)ndata;
		item->tells_size = data_size >= 0;
		item->told_size = (size_t)data_size;
	}
	kernel_unlock();
	return item ? 0 : -1;
}

/* The next reads of a kstat fail: so many times, or -1 for ever. */
EXPORT int double_fail(const char *module, int instance, const char *name, int error, int times)
{
	kernel_lock();
	record *item = find(module, instance, name);
	if (item) {
		item->error = error;
		item->error_times = times;
	}
	kernel_unlock();
	return item ? 0 : -1;
}

EXPORT void double_fail_open(int error)
{
	kernel_lock();
	kernel.open_error = error;
	kernel_unlock();
}

EXPORT void double_fail_update(int error, int times)
{
	kernel_lock();
	kernel.update_error = error;
	kernel.update_error_times = times;
	kernel_unlock();
}

/* After so many reads from now a zone goes, and, if it returns, another one comes with its id. */
EXPORT void double_vanish_after(int reads, int zone, int returns)
{
	kernel_lock();
	kernel.vanish_in = reads;
	kernel.vanish_zone = zone;
	kernel.vanish_returns = returns;
	kernel_unlock();
}

/* Whether the descriptor answers KSTAT_IOC_*; without, only kstat_read reads. */
EXPORT void double_direct(int on)
{
	kernel_lock();
	kernel.no_direct = !on;
	kernel_unlock();
}

/* Whether the chain changes right behind every kstat_open. */
EXPORT void double_busy(int on)
{
	kernel_lock();
	kernel.busy = on;
	kernel_unlock();
}

/* The descriptor that the next kstat_open gives; below -1: one of its own. */
EXPORT void double_descriptor(int fd)
{
	kernel_lock();
	kernel.descriptor = fd;
	kernel_unlock();
}

/* Reads of a kstat since it is there. */
EXPORT int64_t double_reads(const char *module, int instance, const char *name)
{
	kernel_lock();
	const record *item = find(module, instance, name);
	int64_t reads = item ? (int64_t)item->reads : -1;
	kernel_unlock();
	return reads;
}

EXPORT void double_counters(counters *target)
{
	kernel_lock();
	*target = kernel.count;
	kernel_unlock();
}
