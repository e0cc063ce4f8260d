/* Zones that one thread changes name by name while others answer from them without waiting.
 *
 * A zone is a tree of names under its apex, found by hash: a node holds one label, so what names have in common is
 * there once. A node without records is an empty non-terminal. Every change is seen at once or not at all for its name.
 */
#ifndef PYMON_ZONE_H
#define PYMON_ZONE_H

#include "name.h"
#include "records.h"

typedef struct pm_node {
	struct pm_node *parent; /* NULL: the apex */
	_Atomic(pm_records *) records;
	_Atomic uint32_t children;
	uint32_t tag, mark;
	uint8_t shard, len;
	uint8_t label[];
} pm_node;

/* The SOA record. Never changes. */
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
	_Atomic(pm_soa *) soa; /* NULL: nothing is served yet */
	pm_index nodes;
	size_t records; /* without SOA */
	uint32_t mark;
	pm_builder builder;
	pm_records *taken; /* the last block made of what the builder has; a name in the zone has it */
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

/* NULL with errno set. */
pm_zones *pm_zones_new(void);
/* With all zones that are left in it. */
void pm_zones_free(pm_zones *zones);
/* NULL with errno set: EEXIST, ENOMEM. */
pm_zone *pm_zones_add(pm_zones *zones, const pm_name *name);
/* Take a zone out and free it when no reader is inside. 0, or -1 when memory is out. */
int pm_zones_remove(pm_zones *zones, pm_zone *zone);
/* The zone that a name lies in, the longest; NULL for none. */
const pm_zone *pm_zones_find(const pm_zones *zones, const pm_name *name, const uint64_t *hashes);

/* The node of a name that lies in the zone, or NULL. */
const pm_node *pm_zone_find(const pm_zone *zone, const pm_name *name, const uint64_t *hashes);
int pm_zone_has(const pm_zone *zone, const pm_name *name);
/* The records of any name, or NULL; for the writer. */
const pm_records *pm_zone_records(const pm_zone *zone, const pm_name *name);

/* What a change took away and brought, as records whose owners end in a pointer to octet 12: they fit into a message
 * whose question is the zone's name. */
typedef struct {
	pm_buffer removed, added;
	uint64_t removed_count, added_count;
	size_t limit; /* octets after which nothing more is added; 0: none */
} pm_difference;

typedef enum {
	PM_PUT_FAILED = -1, /* memory is out */
	PM_PUT_SAME,
	PM_PUT_CHANGED,
} pm_put;

/* Why the records in the zone's builder cannot be those of this name, or NULL. */
const char *pm_zone_refusal(const pm_zone *zone, const pm_name *name);
/* Make the records in the builder those of a name; none removes it. `difference` may be NULL. The name is marked as
 * seen since pm_zone_begin. */
pm_put pm_zone_put(pm_zone *zone, const pm_name *name, pm_difference *difference);
void pm_zone_begin(pm_zone *zone);
/* Remove every name not seen since pm_zone_begin. 0, or -1 when memory is out. */
int pm_zone_sweep(pm_zone *zone, pm_difference *difference);
/* Takes over `soa`, of malloc. */
void pm_zone_set_soa(pm_zone *zone, pm_soa *soa);

/* The state of a zone at one moment, to be read in parts while the zone changes. */
typedef struct {
	pm_zone *zone;
	int reader;
	size_t at, count;
	uint32_t offset; /* in the records of the block at `at` */
	struct {
		const pm_node *node;
		const pm_records *block;
	} items[];
} pm_snapshot;

/* NULL with errno set: EBUSY when too many are open, ENOMEM. */
pm_snapshot *pm_snapshot_new(pm_zone *zone);
void pm_snapshot_free(pm_snapshot *snapshot);
/* Append records, owners as in a difference, as many as fit into `limit` octets but at least one; their number, 0 at
 * the end, -1 when memory is out. */
int64_t pm_snapshot_read(pm_snapshot *snapshot, pm_buffer *out, size_t limit);

#endif
