/* A hash index of pointers that one thread changes while others look things up without waiting.
 *
 * Items lie in many small tables by the top bits of their hash, so the table that has to grow is always small. A slot
 * is filled once and emptied once: its tag, written before the item, holds as long as the table does. */
#ifndef PYMON_INDEX_H
#define PYMON_INDEX_H

#include "epoch.h"

enum { PM_SHARD_BITS = 8, PM_SHARDS = 1 << PM_SHARD_BITS };

typedef struct {
	_Atomic(void *) item;
	uint32_t tag;
} pm_slot;

typedef struct {
	uint32_t size, used, live; /* slots, those that were filled, and those that still are */
	pm_slot slots[];
} pm_shard;

typedef struct {
	_Atomic(pm_shard *) shards[PM_SHARDS];
	size_t count;
} pm_index;

typedef struct {
	const pm_shard *shard;
	uint32_t at, left, tag;
} pm_cursor;

extern const char pm_emptied;

/* Which shard has a hash, and the tag by which it is found there. */
static inline unsigned pm_index_shard(uint64_t hash)
{
	return (unsigned)(hash >> (64 - PM_SHARD_BITS));
}

/* Where in a table of so many slots the search for a tag begins. */
static inline uint32_t pm_index_start(uint32_t tag, uint32_t size)
{
	return (uint32_t)((uint64_t)tag * size >> 32);
}

static inline pm_cursor pm_index_find(const pm_index *index, unsigned shard, uint32_t tag)
{
	const pm_shard *found = atomic_load_explicit(&index->shards[shard], memory_order_acquire);

	uint32_t size = found ? found->size : 0;

	return (pm_cursor){found, pm_index_start(tag, size), size, tag};
}

/* The next item that may be the one looked for, NULL after the last. */
static inline void *pm_cursor_next(pm_cursor *cursor)
{
	while (cursor->left) {
		const pm_slot *slot = &cursor->shard->slots[cursor->at];
		void *item = atomic_load_explicit(&slot->item, memory_order_acquire);

		cursor->left--;
		if (++cursor->at == cursor->shard->size)
			cursor->at = 0;
		if (item == NULL)
			return NULL;
		if (slot->tag == cursor->tag && item != &pm_emptied)
			return item;
	}
	return NULL;
}

/* 0, or -1 when memory is out. */
int pm_index_add(pm_index *index, pm_epoch *epoch, unsigned shard, uint32_t tag, void *item);
void pm_index_remove(pm_index *index, unsigned shard, uint32_t tag, const void *item);
/* Call for each item, in no order; the callback may remove it. */
void pm_index_each(pm_index *index, void (*call)(void *item, void *context), void *context);
/* Free the tables, not the items. No reader may be left. */
void pm_index_free(pm_index *index);

#endif
