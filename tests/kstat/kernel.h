/* The kernel's side of the double: kstats by kid, and what tests make of them. One for the process; every function but
 * kernel_lock's wants the lock held. */
#ifndef KSTAT_DOUBLE_KERNEL_H
#define KSTAT_DOUBLE_KERNEL_H

#include <stdbool.h>

#include "kstat_abi.h"

#define EXPORT __attribute__((visibility("default")))

enum { FOREVER = -1 };

/* From int (kid, zone id) to something that is not NULL. */
typedef struct {
	struct entry {
		int key;
		void *value;
	} *entries;
	uint32_t mask;
	uint32_t used;
} int_map;

void *map_get(const int_map *map, int key);
void map_put(int_map *map, int key, void *value); /* NULL removes */
void map_free(int_map *map);

/* A STRING of a kstat: where its bytes are in the data, or a pointer that is told as it stands. */
typedef struct {
	uint32_t stat;
	bool wild;
	uintptr_t at;
} string_ref;

/* A kstat in the making. The arrays are kept from one to the next. */
typedef struct {
	char module[KSTAT_STRLEN];
	char name[KSTAT_STRLEN];
	char class[KSTAT_STRLEN];
	int instance;
	uint8_t type;
	uint8_t flags;
	hrtime_t crtime;
	hrtime_t snaptime; /* 0: that of the last chain update */
	int error;	   /* errno of its reads, 0 none */
	int error_times;
	bool tells_ndata;
	uint32_t told_ndata;
	bool tells_size;
	size_t told_size;

	kstat_named_t *stats;
	uint32_t nstats, cap_stats;
	string_ref *refs; /* `at` counts from the start of the text; wild with 0: a NULL pointer */
	uint32_t nrefs, cap_refs;
	char *text;
	size_t text_len, cap_text;
	union { /* data of the types that are not NAMED */
		kstat_io_t io;
		kstat_intr_t intr;
		kstat_timer_t timer;
		uint8_t bytes[512];
	} other;
	uint32_t other_ndata;
	size_t other_size;
} spec;

void spec_clear(spec *made);
void spec_free(spec *made);
/* memcpy of at most 31 bytes, the rest zeros: 31 bytes have no terminator. */
void spec_name(char target[KSTAT_STRLEN], const char *text, size_t len);
/* Append a statistic with value 0; valid until the next is appended. */
kstat_named_t *spec_stat(spec *made, const char *name, size_t len, uint8_t type);
/* Append a CHAR (at most 16 bytes are kept) or STRING; a STRING of NULL is a NULL pointer. */
void spec_text(spec *made, const char *name, size_t name_len, uint8_t type, const char *text, size_t len);

typedef struct record {
	kid_t kid;
	uint8_t type;
	uint8_t flags;
	bool seen;
	bool tells_ndata;
	bool tells_size;
	int error;
	int error_times;
	uint32_t ndata;
	uint32_t nrefs;
	size_t size;
	uint8_t *data;
	string_ref *refs;
	hrtime_t snaptime;
	uint64_t reads;
	uint32_t told_ndata;
	size_t told_size;
	hrtime_t crtime;
	int instance;
	int zone; /* id, or -1 */
	char module[KSTAT_STRLEN];
	char name[KSTAT_STRLEN];
	char class[KSTAT_STRLEN];
	struct record *prev, *next; /* in the order of kids */
	struct record *bucket;
	struct record *of_zone;
} record;

typedef struct {
	uint64_t opens;
	uint64_t closes;
	uint64_t updates;	/* kstat_chain_update */
	uint64_t library_reads; /* kstat_read */
	uint64_t direct_reads;	/* ioctl(KSTAT_IOC_READ) */
	uint64_t chain_ids;	/* ioctl(KSTAT_IOC_CHAIN_ID) */
	uint64_t allocations;	/* of ks_data by kstat_read */
	uint64_t errors;	/* reads that failed, by whatever way */
	uint64_t eagain;	/* those with EAGAIN */
	uint64_t made;		/* headers, by chain updates */
	uint64_t headers;	/* alive in all handles */
	uint64_t records;	/* in the chain */
} counters;

typedef struct {
	record *first, *last;
	kid_t last_kid;
	kid_t chain_id;
	uint64_t turns; /* of kstats that became valid or INVALID */
	hrtime_t now;
	counters count;
	int open_error;
	int update_error, update_error_times;
	bool no_direct;
	int descriptor; /* that kstat_open gives; below -1: one of its own */
	int vanish_in;	/* reads until vanish_zone goes; 0 never */
	int vanish_zone;
	bool vanish_returns;
	bool busy;   /* the chain changes behind every kstat_open */
	bool loaded; /* the file, since the reset */
} kernel_state;

extern kernel_state kernel;

void kernel_lock(void);
void kernel_unlock(void);
void kernel_reset(void);
record *kernel_find(const char module[KSTAT_STRLEN], int instance, const char name[KSTAT_STRLEN]);
record *kernel_by_kid(kid_t kid);
void kernel_set_flags(record *item, uint8_t flags);
/* Add a kstat. One of the same module, instance and name keeps its kid and takes over the new values when class, type
 * and creation time are the same and so is the size (or the flags let it vary); else it goes first. */
record *kernel_put(const spec *made);
void kernel_remove(record *gone);
/* Number of kstats that went. */
int kernel_remove_zone(int zone);
/* What KSTAT_IOC_READ does to a kstat_t: the chain id, or -1 and errno. */
kid_t kernel_read(kstat_t *header);

/* JSON as `kstat -j` prints it. With `all`, kstats that it lacks go. 0, or -1 and json_error. */
int json_load(const char *text, size_t len, bool all);
extern char json_error[256];
/* The file that KSTAT_JSON names, when it has changed since. 0, or -1 and errno. */
int json_refresh(void);

/* Zones first..first+count-1, seven kstats each; `salt` makes other names and values. */
void zones_generate(int first, int count, unsigned salt);

/* The library's side: kid went. */
void library_removed(kid_t kid);

#endif
