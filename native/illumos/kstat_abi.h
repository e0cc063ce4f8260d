/* The interface of illumos' libkstat and of /dev/kstat, as a 64-bit little-endian program sees it
 * (uts/common/sys/kstat.h, lib/libkstat). Ours, so that it compiles on any system; every offset is asserted. */
#ifndef PYMON_KSTAT_ABI_H
#define PYMON_KSTAT_ABI_H

#include <stddef.h>
#include <stdint.h>
#ifdef __sun
#include <sys/time.h> /* hrtime_t */
#endif

enum { KSTAT_STRLEN = 31 }; /* of module, class and names: 30 bytes and a NUL, which a foreign name may lack */

enum {
	KSTAT_TYPE_RAW = 0,
	KSTAT_TYPE_NAMED = 1,
	KSTAT_TYPE_INTR = 2,
	KSTAT_TYPE_IO = 3,
	KSTAT_TYPE_TIMER = 4,
};

enum {
	KSTAT_DATA_CHAR = 0,
	KSTAT_DATA_INT32 = 1,
	KSTAT_DATA_UINT32 = 2,
	KSTAT_DATA_INT64 = 3,
	KSTAT_DATA_UINT64 = 4,
	KSTAT_DATA_FLOAT = 5,
	KSTAT_DATA_DOUBLE = 6,
	KSTAT_DATA_STRING = 9,
};

enum {
	KSTAT_FLAG_VIRTUAL = 0x01,
	KSTAT_FLAG_VAR_SIZE = 0x02,
	KSTAT_FLAG_WRITABLE = 0x04,
	KSTAT_FLAG_PERSISTENT = 0x08,
	KSTAT_FLAG_DORMANT = 0x10,
	KSTAT_FLAG_INVALID = 0x20,
	KSTAT_FLAG_LONGSTRINGS = 0x40,
};

/* Of /dev/kstat. Each answers the id of the kernel's chain. READ takes a kstat_t with ks_data, ks_data_size and the
 * identity of the kstat (kid, module, instance, name) filled in. */
enum {
	KSTAT_IOC_CHAIN_ID = 0x4b01,
	KSTAT_IOC_READ = 0x4b02,
	KSTAT_IOC_WRITE = 0x4b03,
};

typedef int kid_t;
#ifndef __sun
typedef long long hrtime_t; /* ns since an arbitrary moment, mostly boot */
#endif

typedef struct kstat {
	hrtime_t ks_crtime;
	struct kstat *ks_next;
	kid_t ks_kid;
	char ks_module[KSTAT_STRLEN];
	uint8_t ks_resv;
	int ks_instance;
	char ks_name[KSTAT_STRLEN];
	uint8_t ks_type;
	char ks_class[KSTAT_STRLEN];
	uint8_t ks_flags;
	void *ks_data;
	uint32_t ks_ndata;
	size_t ks_data_size;
	hrtime_t ks_snaptime;
	int (*ks_update)(struct kstat *, int);
	void *ks_private;
	int (*ks_snapshot)(struct kstat *, void *, int);
	void *ks_lock;
} kstat_t;

typedef struct {
	kid_t kc_chain_id;
	kstat_t *kc_chain;
	int kc_kd; /* descriptor of /dev/kstat */
} kstat_ctl_t;

typedef struct {
	char name[KSTAT_STRLEN];
	uint8_t data_type;
	union {
		char c[16]; /* no NUL when all 16 are used */
		int32_t i32;
		uint32_t ui32;
		int64_t i64;
		uint64_t ui64;
		float f;
		double d;
		struct {
			char *ptr;
			uint32_t len; /* with the NUL */
		} str;
	} value;
} kstat_named_t;

typedef struct {
	uint32_t intrs[5]; /* hard soft watchdog spurious multsvc */
} kstat_intr_t;

typedef struct {
	uint64_t nread;
	uint64_t nwritten;
	uint32_t reads;
	uint32_t writes;
	hrtime_t wtime;
	hrtime_t wlentime;
	hrtime_t wlastupdate;
	hrtime_t rtime;
	hrtime_t rlentime;
	hrtime_t rlastupdate;
	uint32_t wcnt;
	uint32_t rcnt;
} kstat_io_t;

typedef struct {
	char name[KSTAT_STRLEN];
	uint8_t resv;
	uint64_t num_events;
	hrtime_t elapsed_time;
	hrtime_t min_time;
	hrtime_t max_time;
	hrtime_t start_time;
	hrtime_t stop_time;
} kstat_timer_t;

/* kstat_chain_update: 0 the id of the chain has not changed, else the new id; -1 and errno. The chain is in the order
 * of ks_kid. Headers stay where they are up to the first id that is new; every one behind it is freed, with its data,
 * and made anew, as are those that went. The kernel leaves out kstats with the flag INVALID, so that a low id may come
 * when higher ones are there; that it is valid now does not change the id of the chain. kstat_read: id of the chain, or
 * -1 and errno: ENXIO, the kstat is gone. EAGAIN, it is INVALID or the kernel has no memory: the library sleeps 100 ms
 * and tries again, for ever. With a NULL buffer the data is the library's, at ks_data until the next read: allocated
 * when there is none, freed and allocated anew when it is too small for a kstat of variable size. */
typedef kstat_ctl_t *kstat_open_fn(void);
typedef int kstat_close_fn(kstat_ctl_t *);
typedef kid_t kstat_chain_update_fn(kstat_ctl_t *);
typedef kid_t kstat_read_fn(kstat_ctl_t *, kstat_t *, void *);
typedef void *kstat_data_lookup_fn(kstat_t *, char *);
typedef int kstat_ioctl_fn(int, int, ...);

#define KSTAT_AT(type, member, offset) _Static_assert(offsetof(type, member) == (offset), #type "." #member)

_Static_assert(sizeof(void *) == 8 && sizeof(int) == 4 && sizeof(size_t) == 8, "LP64");
_Static_assert(sizeof(kstat_t) == 184, "kstat_t");
KSTAT_AT(kstat_t, ks_crtime, 0);
KSTAT_AT(kstat_t, ks_next, 8);
KSTAT_AT(kstat_t, ks_kid, 16);
KSTAT_AT(kstat_t, ks_module, 20);
KSTAT_AT(kstat_t, ks_resv, 51);
KSTAT_AT(kstat_t, ks_instance, 52);
KSTAT_AT(kstat_t, ks_name, 56);
KSTAT_AT(kstat_t, ks_type, 87);
KSTAT_AT(kstat_t, ks_class, 88);
KSTAT_AT(kstat_t, ks_flags, 119);
KSTAT_AT(kstat_t, ks_data, 120);
KSTAT_AT(kstat_t, ks_ndata, 128);
KSTAT_AT(kstat_t, ks_data_size, 136);
KSTAT_AT(kstat_t, ks_snaptime, 144);
KSTAT_AT(kstat_t, ks_update, 152);
KSTAT_AT(kstat_t, ks_private, 160);
KSTAT_AT(kstat_t, ks_snapshot, 168);
KSTAT_AT(kstat_t, ks_lock, 176);
_Static_assert(sizeof(kstat_ctl_t) == 24, "kstat_ctl_t");
KSTAT_AT(kstat_ctl_t, kc_chain_id, 0);
KSTAT_AT(kstat_ctl_t, kc_chain, 8);
KSTAT_AT(kstat_ctl_t, kc_kd, 16);
_Static_assert(sizeof(kstat_named_t) == 48, "kstat_named_t");
KSTAT_AT(kstat_named_t, data_type, 31);
KSTAT_AT(kstat_named_t, value, 32);
KSTAT_AT(kstat_named_t, value.str.ptr, 32);
KSTAT_AT(kstat_named_t, value.str.len, 40);
_Static_assert(sizeof(kstat_intr_t) == 20, "kstat_intr_t");
_Static_assert(sizeof(kstat_io_t) == 80, "kstat_io_t");
KSTAT_AT(kstat_io_t, nread, 0);
KSTAT_AT(kstat_io_t, nwritten, 8);
KSTAT_AT(kstat_io_t, reads, 16);
KSTAT_AT(kstat_io_t, writes, 20);
KSTAT_AT(kstat_io_t, wtime, 24);
KSTAT_AT(kstat_io_t, wlentime, 32);
KSTAT_AT(kstat_io_t, wlastupdate, 40);
KSTAT_AT(kstat_io_t, rtime, 48);
KSTAT_AT(kstat_io_t, rlentime, 56);
KSTAT_AT(kstat_io_t, rlastupdate, 64);
KSTAT_AT(kstat_io_t, wcnt, 72);
KSTAT_AT(kstat_io_t, rcnt, 76);
_Static_assert(sizeof(kstat_timer_t) == 80, "kstat_timer_t");
KSTAT_AT(kstat_timer_t, num_events, 32);
KSTAT_AT(kstat_timer_t, elapsed_time, 40);
KSTAT_AT(kstat_timer_t, min_time, 48);
KSTAT_AT(kstat_timer_t, max_time, 56);
KSTAT_AT(kstat_timer_t, start_time, 64);
KSTAT_AT(kstat_timer_t, stop_time, 72);

#endif
