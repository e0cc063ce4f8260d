/* The state of a reader of kstats. */
#ifndef PYMON_KSTAT_STATE_H
#define PYMON_KSTAT_STATE_H

#include "family.h"
#include "lookup.h"

#define PM_NONE UINT32_MAX

typedef struct pm_kstat pm_kstat;

enum { PM_KSTAT_FAMILIES = 64 };

typedef enum {
	PM_KSTAT_ZONE_APPEARED,
	PM_KSTAT_ZONE_GONE,
	PM_KSTAT_LINK_APPEARED, /* a kstat of PM_KSTAT_OF_ZONE */
} pm_kstat_change;

typedef struct {
	pm_kstat_change change;
	uint32_t row;	   /* of the zone */
	uint32_t link_row; /* PM_KSTAT_LINK_APPEARED: of the table of its family */
	int32_t zone_id;
	uint64_t boot_time_seconds; /* 0 not known */
	uint32_t name_offset;	    /* into the names of the events: of the zone, or of the kstat */
	uint32_t name_len;
} pm_kstat_event;

typedef enum {
	SLOT_FREE,
	SLOT_INDEXED,  /* in the index. A kstat of PM_KSTAT_ZONE may have its zone or wait for it */
	SLOT_UNREAD,   /* must be read to find its zone */
	SLOT_WAITING,  /* has been read; its zone has not appeared yet */
	SLOT_UNOWNED,  /* belongs to no zone that is a container */
	SLOT_ATTACHED, /* a kstat of PM_KSTAT_OF_ZONE that has a row, or the zone_misc kstat of a zone */
} pm_kstat_state;

/* A kstat of a family. */
typedef struct {
	pm_kstat_ref kstat;
	uint64_t hash;
	uint64_t owner; /* PM_KSTAT_OF_ZONE: hash of the zone's name or id */
	uint32_t zone;	/* row of the zone or PM_NONE */
	uint32_t row;	/* PM_KSTAT_OF_ZONE: of the table */
	uint32_t next;	/* PM_KSTAT_OF_ZONE: the next one of the zone. In a free slot: the next free slot */
	uint16_t family;
	uint8_t state;
	uint8_t listed; /* it is in `pending` */
} pm_kstat_slot;

/* The chain by position: addresses of headers, ids, and slots (PM_NONE for a kstat of no family). */
typedef struct {
	kstat_t **headers;
	kid_t *kids;
	uint32_t *slots;
	uint32_t len;
	uint32_t cap;
} pm_kstat_chain;

typedef struct {
	char *name;
	uint32_t name_len;
	int32_t id;
	uint64_t name_hash;
	uint64_t boot_time_seconds;
	uint32_t first_link;
	uint8_t live;
	uint8_t reported; /* its event has been passed to the user of the reader */
} pm_kstat_zone;

struct pm_kstat {
	pm_kstat_library library;
	kstat_ctl_t *ctl;
	pm_kstat_reading reading;
	pm_kstat_family *families;
	uint32_t family_count;
	uint64_t failures[PM_KSTAT_REASONS];
	int64_t index_ns;

	pm_kstat_chain chain; /* as of the last walk */
	pm_kstat_chain spare; /* memory for the next walk */
	int stale;	      /* the chain must be walked even though its id stays the same */
	int64_t again_ns;     /* when to update it even if its id stays the same; 0: never */

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
	uint32_t live_zones;
	uint32_t free_zone; /* its first_link is the number of the next free one */
	pm_lookup zone_ids;
	pm_lookup zone_names;
	int zone_appeared;  /* since the zones of links were last looked up */
	pm_table scratch;   /* one row, for the identity of a zone that is being read */
	uint32_t boot_time; /* its column, or PM_NONE */

	pm_kstat_event *events; /* with memory reserved to report that every live zone has gone */
	uint32_t event_count;
	uint32_t event_cap;
	pm_buffer names;  /* of the events */
	pm_buffer labels; /* buffer for a label block */
};

static inline uint64_t pm_kstat_name_hash(pm_kstat_text name)
{
	return pm_lookup_hash(0, name.text, name.len);
}

#endif
