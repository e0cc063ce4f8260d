/* Zones. One thread changes them name by name while others read them without locks.
 *
 * A zone is a tree of nodes below its apex, with a hash index. A node holds one label, so common suffixes are stored
 * once. A node without records is an empty non-terminal. A change of a name is atomic for readers. */
#ifndef PYMON_DNS_ZONE_H
#define PYMON_DNS_ZONE_H

#include "name.h"
#include "records.h"

typedef struct pm_node {
	struct pm_node *parent; /* NULL for the apex */
	_Atomic(pm_records *) records;
	_Atomic uint32_t children;
	uint32_t tag, mark;
	uint8_t shard, len;
	uint8_t label[];
} pm_node;

/* A SOA record. Immutable. */
typedef struct {
	uint32_t ttl, negative_ttl;
	pm_name primary, mailbox;
	uint8_t numbers[20]; /* serial, refresh, retry, expire, minimum */
} pm_soa;

typedef struct pm_zone {
	struct pm_zones *zones;
	pm_name name;
	uint64_t hash;
	pm_node *apex;
	_Atomic(pm_soa *) soa; /* NULL: queries get SERVFAIL */
	pm_index nodes;
	size_t records; /* number of records without SOA */
	uint32_t mark;	/* incremented by pm_zone_begin; nodes with another mark are removed by pm_zone_sweep */
	pm_builder builder;
	pm_records *taken; /* the last block made from the builder; NULL once a name has dropped it */
} pm_zone;

typedef struct {
	uint32_t mask;
	pm_zone *slots[];
} pm_zone_table;

typedef struct pm_zones {
	uint64_t key[2];
	pm_epoch epoch;
	pm_pool pool;
	_Atomic(pm_zone_table *) table;
	uint32_t count;
} pm_zones;

/* Returns NULL with errno set on failure. */
pm_zones *pm_zones_new(void);
/* Free the set and all zones in it. */
void pm_zones_free(pm_zones *zones);
/* Returns NULL with errno set to EEXIST or ENOMEM on failure. */
pm_zone *pm_zones_add(pm_zones *zones, const pm_name *name);
/* Remove a zone, and free it when no reader can see it. Returns 0, or -1 if out of memory. */
int pm_zones_remove(pm_zones *zones, pm_zone *zone);
/* The closest enclosing zone of a name, NULL if there is none. */
const pm_zone *pm_zones_find(const pm_zones *zones, const pm_name *name, const uint64_t *hashes);

/* The node of a name, or NULL. The name must be inside the zone. */
const pm_node *pm_zone_find(const pm_zone *zone, const pm_name *name, const uint64_t *hashes);
/* Returns whether a name is the zone's name or below it. */
int pm_zone_has(const pm_zone *zone, const pm_name *name);
/* The records of any name, or NULL. Only for the writer. */
const pm_records *pm_zone_records(const pm_zone *zone, const pm_name *name);

/* The records that a change removed and added, in wire form. Owner names end in a pointer to offset 12, so the records
 * can be copied into a message whose question is the zone's name. */
typedef struct {
	pm_buffer removed, added;
	uint64_t removed_count, added_count;
	size_t limit; /* octets after which nothing more is recorded; 0: no limit */
} pm_difference;

typedef enum {
	PM_PUT_FAILED = -1, /* out of memory */
	PM_PUT_SAME,
	PM_PUT_CHANGED,
} pm_put;

/* The reason why the name cannot have the builder's records, NULL if it can. */
const char *pm_zone_refusal(const pm_zone *zone, const pm_name *name);
/* Set the records of a name to those of the builder; an empty builder removes the name. `difference` may be NULL. The
 * name counts as seen since pm_zone_begin. */
pm_put pm_zone_put(pm_zone *zone, const pm_name *name, pm_difference *difference);
/* Start the replacement of the whole content, which pm_zone_sweep completes. */
void pm_zone_begin(pm_zone *zone);
/* Remove every name that was not seen since pm_zone_begin. Returns 0, or -1 if out of memory. */
int pm_zone_sweep(pm_zone *zone, pm_difference *difference);
/* Set the SOA record. Takes ownership of `soa`, which is from malloc(). */
void pm_zone_set_soa(pm_zone *zone, pm_soa *soa);

/* A snapshot of a zone, which can be read in parts while the zone changes. */
typedef struct {
	pm_zone *zone;
	int reader;
	size_t at, count;
	uint32_t offset; /* in block `at`, from `set` on; 0: before its first record */
	struct {
		const pm_node *node;
		const pm_records *block;
	} items[];
} pm_snapshot;

/* Returns NULL with errno set on failure: EBUSY if too many snapshots are open, ENOMEM. */
pm_snapshot *pm_snapshot_new(pm_zone *zone);
void pm_snapshot_free(pm_snapshot *snapshot);
/* Append records in the form of pm_difference: as many as fit into `limit` octets, but at least one. Returns their
 * number, 0 at the end, or -1 if out of memory. */
int64_t pm_snapshot_read(pm_snapshot *snapshot, pm_buffer *out, size_t limit);

#endif
