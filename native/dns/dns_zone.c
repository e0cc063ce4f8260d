#include "dns_zone.h"

#include <errno.h>
#include <sys/random.h>

#include "rdata.h"
#include "wire.h"

static pm_node *new_node(pm_node *parent, const uint8_t *label, uint64_t hash, uint32_t mark)
{
	size_t len = label ? label[0] : 0;
	size_t size = offsetof(pm_node, label) + len;
	pm_node *node = malloc(size > sizeof(*node) ? size : sizeof(*node));

	if (node == NULL)
		return NULL;
	node->parent = parent;
	atomic_init(&node->records, NULL);
	atomic_init(&node->children, 0);
	node->tag = (uint32_t)hash;
	node->shard = (uint8_t)pm_index_shard(hash);
	node->mark = mark;
	node->len = (uint8_t)len;
	if (len)
		memcpy(node->label, label + 1, len);
	return node;
}

/* Returns whether a node has the name that starts at label `label` of `name`. */
static int is_named(const pm_zone *zone, const pm_node *node, const pm_name *name, unsigned label)
{
	unsigned end = name->labels - zone->name.labels;

	for (; node->parent; node = node->parent, label++) {
		const uint8_t *wire = name->wire + name->at[label];
		if (label == end || wire[0] != node->len || memcmp(wire + 1, node->label, node->len) != 0)
			return 0;
	}
	return label == end;
}

static pm_node *find(const pm_zone *zone, const pm_name *name, unsigned label, uint64_t hash)
{
	pm_cursor cursor;
	pm_node *node;

	if (label + zone->name.labels == name->labels)
		return zone->apex;
	cursor = pm_index_find(&zone->nodes, pm_index_shard(hash), (uint32_t)hash);
	while ((node = pm_cursor_next(&cursor)) != NULL)
		if (is_named(zone, node, name, label))
			return node;
	return NULL;
}

const pm_node *pm_zone_find(const pm_zone *zone, const pm_name *name, const uint64_t *hashes)
{
	return find(zone, name, 0, hashes[0]);
}

int pm_zone_has(const pm_zone *zone, const pm_name *name)
{
	size_t from = (size_t)name->len - zone->name.len;

	return name->len >= zone->name.len && name->labels >= zone->name.labels &&
	       name->at[name->labels - zone->name.labels] == from &&
	       memcmp(name->wire + from, zone->name.wire, zone->name.len) == 0;
}

const pm_records *pm_zone_records(const pm_zone *zone, const pm_name *name)
{
	uint64_t hashes[PM_LABELS_MAX + 1];
	const pm_node *node;

	if (!pm_zone_has(zone, name))
		return NULL;
	pm_name_hashes(name, zone->zones->key, hashes);
	node = pm_zone_find(zone, name, hashes);
	return node ? atomic_load(&node->records) : NULL;
}

/* The set of zones. */

pm_zones *pm_zones_new(void)
{
	pm_zones *zones = calloc(1, sizeof(*zones));

	if (zones == NULL)
		return NULL;
	if (getrandom(zones->key, sizeof(zones->key), 0) != sizeof(zones->key)) {
		free(zones);
		return NULL;
	}
	zones->key[0] |= 1;
	zones->key[1] |= 1;
	memcpy(zones->pool.key, zones->key, sizeof(zones->key));
	pm_epoch_init(&zones->epoch);
	return zones;
}

/* Publish a new table: the current zones plus `with` and minus `without`, each of which may be NULL. */
static int publish(pm_zones *zones, pm_zone *with, const pm_zone *without)
{
	pm_zone_table *old = atomic_load(&zones->table), *table;
	uint32_t slots = 4, count = zones->count + (with != NULL) - (without != NULL);

	while (slots < 2 * count + 2)
		slots *= 2;
	table = calloc(1, sizeof(*table) + slots * sizeof(*table->slots));
	if (table == NULL)
		return -1;
	table->mask = slots - 1;
	for (uint32_t i = 0; i <= (old ? old->mask : 0) + 1; i++) {
		pm_zone *zone = i == 0 ? with : old ? old->slots[i - 1] : NULL;
		uint32_t at;

		if (zone == NULL || zone == without)
			continue;
		for (at = (uint32_t)zone->hash & table->mask; table->slots[at]; at = (at + 1) & table->mask)
			;
		table->slots[at] = zone;
	}
	zones->count = count;
	atomic_store_explicit(&zones->table, table, memory_order_release);
	pm_epoch_retire(&zones->epoch, old);
	return 0;
}

pm_zone *pm_zones_add(pm_zones *zones, const pm_name *name)
{
	uint64_t hashes[PM_LABELS_MAX + 1];
	const pm_zone *there;
	pm_zone *zone;

	pm_name_hashes(name, zones->key, hashes);
	there = pm_zones_find(zones, name, hashes);
	if (there && there->name.len == name->len) {
		errno = EEXIST;
		return NULL;
	}
	zone = calloc(1, sizeof(*zone));
	if (zone == NULL)
		return NULL;
	zone->zones = zones;
	zone->name = *name;
	zone->hash = hashes[0];
	zone->apex = new_node(NULL, NULL, hashes[0], 0);
	if (zone->apex == NULL || publish(zones, zone, NULL) < 0) {
		free(zone->apex);
		free(zone);
		errno = ENOMEM;
		return NULL;
	}
	return zone;
}

static void drop_records(pm_zone *zone, pm_records *block)
{
	if (block == zone->taken)
		zone->taken = NULL;
	pm_pool_drop(&zone->zones->pool, &zone->zones->epoch, block);
}

static void drop_node(void *item, void *context)
{
	pm_node *node = item;
	pm_zone *zone = context;

	drop_records(zone, atomic_load(&node->records));
	pm_epoch_retire(&zone->zones->epoch, node);
}

static void free_zone(pm_zone *zone)
{
	pm_epoch *epoch = &zone->zones->epoch;

	pm_index_each(&zone->nodes, drop_node, zone);
	drop_node(zone->apex, zone);
	for (unsigned i = 0; i < PM_SHARDS; i++)
		pm_epoch_retire(epoch, atomic_load(&zone->nodes.shards[i]));
	pm_epoch_retire(epoch, atomic_load(&zone->soa));
	pm_builder_free(&zone->builder);
	pm_epoch_retire(epoch, zone);
	pm_epoch_reclaim(epoch);
}

int pm_zones_remove(pm_zones *zones, pm_zone *zone)
{
	if (publish(zones, NULL, zone) < 0)
		return -1;
	free_zone(zone);
	return 0;
}

void pm_zones_free(pm_zones *zones)
{
	pm_zone_table *table;

	if (zones == NULL)
		return;
	table = atomic_load(&zones->table);
	for (uint32_t i = 0; table && i <= table->mask; i++)
		if (table->slots[i])
			free_zone(table->slots[i]);
	free(table);
	pm_epoch_free(&zones->epoch);
	pm_index_free(&zones->pool.index);
	free(zones);
}

const pm_zone *pm_zones_find(const pm_zones *zones, const pm_name *name, const uint64_t *hashes)
{
	const pm_zone_table *table = atomic_load_explicit(&zones->table, memory_order_acquire);

	for (unsigned label = 0; table && label <= name->labels; label++) {
		const pm_zone *zone;

		for (uint32_t at = (uint32_t)hashes[label] & table->mask; (zone = table->slots[at]) != NULL;
		     at = (at + 1) & table->mask)
			if (zone->hash == hashes[label] && pm_zone_has(zone, name) &&
			    zone->name.labels == name->labels - label)
				return zone;
	}
	return NULL;
}

/* Differences. */

/* Append one record of a block with the node's name as its owner. Returns the octets of the record in the block, 0 if
 * out of memory. */
static size_t append_record(pm_buffer *out, const pm_node *node, const uint8_t *record)
{
	size_t len = PM_RR_HEAD + pm_get16(record + 10);

	if (pm_buffer_reserve(out, PM_NAME_MAX + len) < 0)
		return 0;
	for (; node->parent; node = node->parent) {
		out->data[out->len++] = (char)node->len;
		memcpy(out->data + out->len, node->label, node->len);
		out->len += node->len;
	}
	memcpy(out->data + out->len, record, len);
	out->len += len;
	return len;
}

static int append_all(pm_buffer *out, uint64_t *count, const pm_node *node, const pm_records *block)
{
	const uint8_t *record = pm_records_wire(block), *end = (const uint8_t *)block->set + block->size;

	while (record < end) {
		size_t len = append_record(out, node, record);
		if (len == 0)
			return -1;
		record += len;
		++*count;
	}
	return 0;
}

/* Compare two records by type, then data: the order within a block. If both are equal, *ttl_differs tells whether their
 * TTLs differ. */
static int order(const uint8_t *a, const uint8_t *b, int *ttl_differs)
{
	size_t a_len = pm_get16(a + 10), b_len = pm_get16(b + 10);
	int result = memcmp(a + 2, b + 2, 2);

	if (result == 0)
		result = memcmp(a + PM_RR_HEAD, b + PM_RR_HEAD, a_len < b_len ? a_len : b_len);
	if (result == 0)
		result = a_len < b_len ? -1 : a_len > b_len;
	*ttl_differs = result == 0 && memcmp(a + 6, b + 6, 4) != 0;
	return result;
}

static int compare_records(pm_difference *difference, const pm_node *node, const pm_records *old, const pm_records *new)
{
	const uint8_t *a = pm_records_wire(old), *a_end = (const uint8_t *)old->set + old->size;
	const uint8_t *b = pm_records_wire(new), *b_end = (const uint8_t *)new->set + new->size;

	while (a < a_end || b < b_end) {
		int ttl_differs = 0;
		int way = a == a_end ? 1 : b == b_end ? -1 : order(a, b, &ttl_differs);

		if (way < 0 || ttl_differs) {
			if (append_record(&difference->removed, node, a) == 0)
				return -1;
			difference->removed_count++;
		}
		if (way > 0 || ttl_differs) {
			if (append_record(&difference->added, node, b) == 0)
				return -1;
			difference->added_count++;
		}
		if (way <= 0)
			a += PM_RR_HEAD + pm_get16(a + 10);
		if (way >= 0)
			b += PM_RR_HEAD + pm_get16(b + 10);
	}
	return 0;
}

static int record_difference(pm_difference *difference, const pm_node *node, const pm_records *old,
			     const pm_records *new)
{
	if (difference == NULL ||
	    (difference->limit && difference->removed.len + difference->added.len > difference->limit))
		return 0;
	if (old && new)
		return compare_records(difference, node, old, new);
	if (old)
		return append_all(&difference->removed, &difference->removed_count, node, old);
	return new ? append_all(&difference->added, &difference->added_count, node, new) : 0;
}

/* Changes. */

static size_t records_of(const pm_records *block)
{
	size_t count = 0;

	for (uint32_t i = 0; block && i < block->sets; i++)
		count += block->set[i].count;
	return count;
}

/* Remove the node and its ancestors from the tree, as long as they have neither records nor children. */
static void prune(pm_zone *zone, pm_node *node)
{
	while (node->parent && atomic_load(&node->records) == NULL && atomic_load(&node->children) == 0) {
		pm_node *parent = node->parent;

		pm_index_remove(&zone->nodes, node->shard, node->tag, node);
		pm_epoch_retire(&zone->zones->epoch, node);
		atomic_fetch_sub(&parent->children, 1);
		node = parent;
	}
}

/* Return the node of a name. Missing nodes between it and the apex are created. Returns NULL if out of memory. */
static pm_node *insert_node(pm_zone *zone, const pm_name *name, const uint64_t *hashes)
{
	unsigned label = 0;
	pm_node *node;

	while ((node = find(zone, name, label, hashes[label])) == NULL)
		label++;
	while (label > 0) {
		pm_node *child;

		label--;
		child = new_node(node, name->wire + name->at[label], hashes[label], zone->mark);
		if (child == NULL ||
		    pm_index_add(&zone->nodes, &zone->zones->epoch, child->shard, child->tag, child) < 0) {
			free(child);
			prune(zone, node);
			return NULL;
		}
		atomic_fetch_add(&node->children, 1);
		node = child;
	}
	return node;
}

static int change(pm_zone *zone, pm_node *node, pm_records *block, pm_difference *difference)
{
	pm_records *old = atomic_load_explicit(&node->records, memory_order_relaxed);

	if (record_difference(difference, node, old, block) < 0)
		return -1;
	zone->records += records_of(block) - records_of(old);
	atomic_store_explicit(&node->records, block, memory_order_release);
	drop_records(zone, old);
	if (block == NULL)
		prune(zone, node);
	return 0;
}

const char *pm_zone_refusal(const pm_zone *zone, const pm_name *name)
{
	const pm_builder *builder = &zone->builder;
	int apex = name->len == zone->name.len;

	if (!pm_zone_has(zone, name))
		return "not in the zone";
	if (name->labels && name->wire[0] == 1 && name->wire[1] == '*')
		return "a wildcard, which is not served";
	for (uint32_t i = 0; i < builder->count; i++) {
		const struct pm_builder_record *record = &builder->records[i];

		if (record->type == PM_TYPE_SOA)
			return apex ? "more than one SOA" : "SOA below the zone's name";
		if (record->type == PM_TYPE_NS && !apex)
			return "NS below the zone's name";
		if (record->type == PM_TYPE_DNAME || record->type == 0 || record->type == PM_TYPE_OPT ||
		    (record->type >= 128 && record->type < 256))
			return "a record of a type that is not served";
		if (record->len > PM_RDATA_MAX)
			return "a record of more than 8192 octets";
		if (record->type == PM_TYPE_CNAME && (builder->count > 1 || apex))
			return "CNAME and other records";
	}
	return NULL;
}

/* Return the block of the builder's records with a reference for the caller. The pool is asked only once for a series
 * of names with the same records. */
static pm_records *take(pm_zone *zone)
{
	if (zone->builder.made && zone->taken)
		zone->taken->refs++;
	else
		zone->taken = pm_pool_take(&zone->zones->pool, &zone->zones->epoch, &zone->builder);
	return zone->taken;
}

pm_put pm_zone_put(pm_zone *zone, const pm_name *name, pm_difference *difference)
{
	uint64_t hashes[PM_LABELS_MAX + 1];
	pm_records *block = NULL;
	pm_node *node;

	pm_name_hashes(name, zone->zones->key, hashes);
	node = find(zone, name, 0, hashes[0]);
	if (zone->builder.count == 0) {
		if (node == NULL || atomic_load(&node->records) == NULL)
			return PM_PUT_SAME;
		return change(zone, node, NULL, difference) < 0 ? PM_PUT_FAILED : PM_PUT_CHANGED;
	}
	block = take(zone);
	if (block == NULL)
		return PM_PUT_FAILED;
	if (node && atomic_load(&node->records) == block) {
		node->mark = zone->mark;
		block->refs--;
		return PM_PUT_SAME;
	}
	if (node == NULL)
		node = insert_node(zone, name, hashes);
	if (node == NULL || change(zone, node, block, difference) < 0) {
		drop_records(zone, block);
		if (node)
			prune(zone, node);
		return PM_PUT_FAILED;
	}
	node->mark = zone->mark;
	return PM_PUT_CHANGED;
}

void pm_zone_begin(pm_zone *zone)
{
	zone->mark++;
}

typedef struct {
	pm_zone *zone;
	pm_difference *difference;
	int failed;
} sweeping;

static void sweep_node(void *item, void *context)
{
	sweeping *sweep = context;
	pm_node *node = item;

	if (node->mark != sweep->zone->mark && atomic_load(&node->records) &&
	    change(sweep->zone, node, NULL, sweep->difference) < 0)
		sweep->failed = 1;
}

int pm_zone_sweep(pm_zone *zone, pm_difference *difference)
{
	sweeping sweep = {zone, difference, 0};

	sweep_node(zone->apex, &sweep);
	pm_index_each(&zone->nodes, sweep_node, &sweep);
	return sweep.failed ? -1 : 0;
}

void pm_zone_set_soa(pm_zone *zone, pm_soa *soa)
{
	pm_soa *old = atomic_exchange(&zone->soa, soa);

	pm_epoch_retire(&zone->zones->epoch, old);
	pm_epoch_reclaim(&zone->zones->epoch);
}

/* Snapshots. */

static void add_item(void *item, void *context)
{
	pm_snapshot *snapshot = context;
	const pm_node *node = item;
	const pm_records *block = atomic_load(&node->records);

	if (block == NULL)
		return;
	snapshot->items[snapshot->count].node = node;
	snapshot->items[snapshot->count++].block = block;
}

pm_snapshot *pm_snapshot_new(pm_zone *zone)
{
	pm_epoch *epoch = &zone->zones->epoch;
	pm_snapshot *snapshot = malloc(sizeof(*snapshot) + (zone->nodes.count + 1) * sizeof(*snapshot->items));

	if (snapshot == NULL)
		return NULL;
	*snapshot = (pm_snapshot){.zone = zone, .reader = pm_epoch_join(epoch)};
	if (snapshot->reader < 0) {
		free(snapshot);
		errno = EBUSY;
		return NULL;
	}
	pm_epoch_enter(epoch, snapshot->reader);
	add_item(zone->apex, snapshot);
	pm_index_each(&zone->nodes, add_item, snapshot);
	return snapshot;
}

void pm_snapshot_free(pm_snapshot *snapshot)
{
	pm_epoch *epoch;

	if (snapshot == NULL)
		return;
	epoch = &snapshot->zone->zones->epoch;
	pm_epoch_leave(epoch, snapshot->reader);
	free(snapshot);
	pm_epoch_reclaim(epoch);
}

int64_t pm_snapshot_read(pm_snapshot *snapshot, pm_buffer *out, size_t limit)
{
	size_t start = out->len;
	int64_t count = 0;

	while (snapshot->at < snapshot->count) {
		const pm_records *block = snapshot->items[snapshot->at].block;
		const uint8_t *records = (const uint8_t *)block->set;
		size_t before = out->len, len;

		if (snapshot->offset == 0)
			snapshot->offset = (uint32_t)(block->sets * sizeof(pm_rrset));
		len = append_record(out, snapshot->items[snapshot->at].node, records + snapshot->offset);
		if (len == 0)
			return -1;
		if (out->len - start > limit && count > 0) {
			out->len = before;
			return count;
		}
		count++;
		snapshot->offset += (uint32_t)len;
		if (snapshot->offset == block->size) {
			snapshot->at++;
			snapshot->offset = 0;
		}
	}
	return count;
}
