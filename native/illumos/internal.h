/* What the files of the reader share. */
#ifndef PYMON_KSTAT_INTERNAL_H
#define PYMON_KSTAT_INTERNAL_H

#include <time.h>

#include "kstat.h"
#include "lookup.h"

#define PM_NONE UINT32_MAX

typedef enum {
	SLOT_FREE,
	SLOT_INDEXED,  /* known; a kstat of a zone waits for its zone, or has it */
	SLOT_UNREAD,   /* it must be read to know whose it is */
	SLOT_WAITING,  /* it has been read; its zone has not come yet */
	SLOT_NOBODYS,  /* of no zone that is a container */
	SLOT_ATTACHED, /* a kstat of PM_KSTAT_OF_ZONE with a row, or that which makes a zone known */
} pm_kstat_state;

/* A kstat that some family wants. */
typedef struct {
	pm_kstat_ref kstat;
	uint64_t hash;
	uint64_t owner; /* PM_KSTAT_OF_ZONE: hash of the zone's name or id */
	uint32_t zone;	/* row of the zone or PM_NONE */
	uint32_t row;	/* PM_KSTAT_OF_ZONE: of the table */
	uint32_t next;	/* PM_KSTAT_OF_ZONE: the zone's next one; a free one: the next free one */
	uint16_t family;
	uint8_t state;
	uint8_t listed; /* in `pending` */
} pm_kstat_slot;

typedef struct {
	char *name;
	uint32_t name_len;
	int32_t id;
	uint64_t name_hash;
	uint64_t boot_time_seconds;
	uint32_t first_link;
	uint8_t live;
	uint8_t reported; /* the reader's user has been told */
} pm_kstat_zone;

struct pm_kstat {
	pm_kstat_library library;
	kstat_ctl_t *ctl;
	pm_kstat_reading reading;
	pm_kstat_family *families;
	uint32_t family_count;
	uint64_t failures[PM_KSTAT_REASONS];
	int64_t index_ns;

	/* The chain as it was walked last, position by position. */
	kstat_t **headers;
	kid_t *kids;
	uint32_t *slot_of;
	uint32_t chain_len;
	uint32_t chain_cap;
	int stale; /* it must be walked even though nothing changes any more */

	pm_kstat_slot *slots;
	uint32_t slot_count;
	uint32_t slot_cap;
	uint32_t free_slot;
	pm_lookup index; /* slots by (module, class, instance, name) */
	uint32_t *pending;
	uint32_t pending_count;
	uint32_t pending_cap;

	pm_kstat_zone *zones;
	uint32_t *zone_slots; /* of each zone, by family */
	uint32_t zone_rows;
	uint32_t zone_cap;
	uint32_t free_zone; /* the next one is its first_link */
	pm_lookup zone_ids;
	pm_lookup zone_names;
	int zone_appeared;  /* since links were last looked for their zones */
	pm_table scratch;   /* a row to read the identity of a zone into */
	uint32_t boot_time; /* its column, or PM_NONE */

	pm_kstat_event *events;
	size_t event_count;
	size_t event_cap;
	pm_buffer names;  /* of the events */
	pm_buffer labels; /* a block being put together */
};

/* chain.c: 0 or an errno. */
int pm_kstat_update(pm_kstat *kstat);
void pm_kstat_pend(pm_kstat *kstat, uint32_t slot);
uint64_t pm_kstat_key(uint32_t family, int instance, const char *name, size_t len);

/* zones.c */
uint32_t pm_kstat_zone_by_id(const pm_kstat *kstat, int id);
/* Give a kstat of PM_KSTAT_ZONE to its zone, if that is known. */
void pm_kstat_join(pm_kstat *kstat, uint32_t slot);
/* Take a kstat, which may be gone, from its zone; a zone goes with the one that makes it known. */
void pm_kstat_detach(pm_kstat *kstat, uint32_t slot);
/* A zone has booted, so that it is another one from now on. 0 or -1. */
int pm_kstat_restart(pm_kstat *kstat, uint32_t row, uint64_t boot_time_seconds);
/* Read what is pending: which zones there are, whose the links are. 0 or an errno. */
int pm_kstat_resolve(pm_kstat *kstat);

/* links.c: give a link to a zone, with a row and its labels (0 or -1); take it from its zone; only free its row. */
int pm_kstat_attach_link(pm_kstat *kstat, uint32_t slot, uint32_t row, const pm_kstat_texts *texts);
void pm_kstat_unlink_link(pm_kstat *kstat, uint32_t slot);
void pm_kstat_release_link(pm_kstat *kstat, pm_kstat_slot *slot);

/* events.c: note a change. 0 or -1 (out of memory). */
int pm_kstat_tell(pm_kstat *kstat, pm_kstat_event event, const char *name, size_t len);
int pm_kstat_tell_zone(pm_kstat *kstat, uint32_t row);
int pm_kstat_tell_link(pm_kstat *kstat, const pm_kstat_slot *slot);

/* labels.c: the label block of a kstat, in kstat->labels. plain: keep the name of the interface. 0 or -1. */
int pm_kstat_label_block(pm_kstat *kstat, const pm_kstat_family *family, const kstat_t *header,
			 const pm_kstat_texts *texts, int zone_id, int plain);
int pm_kstat_same_interface(const kstat_t *one, const kstat_t *other, int zone_id);

/* Make room in an array of *cap items for `count`. 0 or -1. */
int pm_kstat_reserve(void *array, uint32_t *cap, uint32_t count, size_t size);

static inline uint64_t pm_kstat_name_hash(pm_kstat_text name)
{
	return pm_lookup_hash(0, name.text, name.len);
}

static inline int64_t pm_kstat_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
