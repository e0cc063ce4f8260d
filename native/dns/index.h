/* A hash table of pointers. One thread changes it while others search it without locks.
 *
 * The table is split into shards by the top bits of the hash, so that growing copies only a small part. A slot is
 * filled at most once and emptied at most once. Its tag is written before its item and does not change as long as the
 * shard exists. */
#ifndef PYMON_INDEX_H
#define PYMON_INDEX_H

#include "epoch.h"

enum { PM_SHARD_BITS = 8, PM_SHARDS = 1 << PM_SHARD_BITS };

typedef struct {
	_Atomic(void *) item;
	uint32_t tag;
} pm_slot;

typedef struct {
	uint32_t size, used, live; /* number of slots, of slots ever filled, and of slots that hold an item */
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

/* The shard for a hash. Within the shard, the lower 32 bits of the hash are the tag. */
static inline unsigned pm_index_shard(uint64_t hash)
{
	return (unsigned)(hash >> (64 - PM_SHARD_BITS));
}

/* The slot at which the search for a tag starts. */
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

/* The next item with the tag, NULL after the last. The caller must compare it, as tags are not unique. */
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

/* Returns 0, or -1 if out of memory. */
int pm_index_add(pm_index *index, pm_epoch *epoch, unsigned shard, uint32_t tag, void *item);
void pm_index_remove(pm_index *index, unsigned shard, uint32_t tag, const void *item);
/* Call `call` for each item, in no certain order. The callback may remove the item. */
void pm_index_each(pm_index *index, void (*call)(void *item, void *context), void *context);
/* Free the shards, not the items. All readers must have left. */
void pm_index_free(pm_index *index);

#endif
