/* The records of one owner name, as the wire has them. They never change, and owners of equal records share them. */
#ifndef PYMON_RECORDS_H
#define PYMON_RECORDS_H

#include "buffer.h"
#include "index.h"

enum { PM_RR_HEAD = 12 }; /* octets in front of the data: a pointer to the owner, type, class, TTL, length */

typedef struct {
	uint16_t type;
	uint32_t count;
	uint32_t ttl;
	uint32_t offset, len; /* of its records: each begins with a pointer to the question's name */
} pm_rrset;

typedef struct {
	uint64_t hash;
	uint32_t refs; /* the writer's */
	uint32_t size; /* of everything behind the head */
	uint32_t sets;
	pm_rrset set[]; /* by type; then the records, by their data */
} pm_records;

static inline const uint8_t *pm_records_wire(const pm_records *block)
{
	return (const uint8_t *)(block->set + block->sets);
}

/* Gathers the records of an owner. Memory is kept between uses. */
typedef struct {
	struct pm_gathered {
		uint32_t ttl, offset, len;
		uint16_t type;
	} *records;
	uint32_t count, cap;
	int made; /* since the last was gathered, a block was made of them */
	pm_buffer rdata, block;
} pm_builder;

void pm_builder_free(pm_builder *builder);
void pm_builder_clear(pm_builder *builder);
/* 0, or -1 when memory is out. */
int pm_builder_add(pm_builder *builder, uint16_t type, uint32_t ttl, const uint8_t *rdata, size_t len);

/* Records by content. */
typedef struct {
	pm_index index;
	uint64_t key[2];
} pm_pool;

/* The records gathered, of which there is at least one; equal ones count once, and a set has its least TTL.
 * One reference is the caller's. NULL when memory is out. */
pm_records *pm_pool_take(pm_pool *pool, pm_epoch *epoch, pm_builder *builder);
void pm_pool_drop(pm_pool *pool, pm_epoch *epoch, pm_records *block);

#endif
