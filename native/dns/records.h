/* The records of an owner name in wire form. A block never changes, and owner names with equal records share it. */
#ifndef PYMON_RECORDS_H
#define PYMON_RECORDS_H

#include "buffer.h"
#include "index.h"

enum { PM_RR_HEAD = 12 }; /* octets before the data: pointer to the owner name, type, class, TTL, length */

typedef struct {
	uint16_t type;
	uint32_t count;
	uint32_t ttl;
	uint32_t offset, len; /* of its records in the block; each starts with a pointer to the question's name */
} pm_rrset;

typedef struct {
	uint64_t hash;
	uint32_t refs; /* only used by the writer */
	uint32_t size; /* octets of `set` and the records */
	uint32_t sets;
	pm_rrset set[]; /* sorted by type; after them the records, sorted by data */
} pm_records;

static inline const uint8_t *pm_records_wire(const pm_records *block)
{
	return (const uint8_t *)(block->set + block->sets);
}

/* Collects the records of an owner name. Its memory is reused. */
typedef struct {
	struct pm_builder_record {
		uint32_t ttl, offset, len;
		uint16_t type;
	} *records;
	uint32_t count, cap;
	int made; /* a block was made of exactly these records */
	pm_buffer rdata, block;
} pm_builder;

void pm_builder_free(pm_builder *builder);
void pm_builder_clear(pm_builder *builder);
/* Returns 0, or -1 if out of memory. */
int pm_builder_add(pm_builder *builder, uint16_t type, uint32_t ttl, const uint8_t *rdata, size_t len);

/* All blocks, found by their content. */
typedef struct {
	pm_index index;
	uint64_t key[2];
} pm_pool;

/* Return a block with the builder's records, of which there must be at least one. Duplicates are removed, and a set
 * gets the smallest TTL of its records. The caller gets one reference. Returns NULL if out of memory. */
pm_records *pm_pool_take(pm_pool *pool, pm_epoch *epoch, pm_builder *builder);
void pm_pool_drop(pm_pool *pool, pm_epoch *epoch, pm_records *block);

#endif
