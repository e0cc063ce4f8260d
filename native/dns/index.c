#include "index.h"

#include <stdlib.h>

enum { FIRST_SLOTS = 8 };

const char pm_emptied = 0;

static pm_shard *new_shard(uint32_t size)
{
	pm_shard *shard = calloc(1, sizeof(*shard) + size * sizeof(pm_slot));

	if (shard)
		shard->size = size;
	return shard;
}

static void fill(pm_shard *shard, uint32_t tag, void *item)
{
	uint32_t at = pm_index_start(tag, shard->size);

	while (atomic_load_explicit(&shard->slots[at].item, memory_order_relaxed))
		at = at + 1 == shard->size ? 0 : at + 1;
	shard->slots[at].tag = tag;
	atomic_store_explicit(&shard->slots[at].item, item, memory_order_release);
	shard->used++;
	shard->live++;
}

int pm_index_add(pm_index *index, pm_epoch *epoch, unsigned at, uint32_t tag, void *item)
{
	pm_shard *shard = atomic_load_explicit(&index->shards[at], memory_order_relaxed);

	if (shard == NULL || shard->used + 1 > shard->size - shard->size / 4) {
		/* Grow when three quarters full, to three fifths full. This saves memory, and a shard is cheap to copy.
		 */
		uint32_t size = shard ? shard->live + shard->live / 3 * 2 + FIRST_SLOTS : FIRST_SLOTS;
		pm_shard *grown = new_shard(size);

		if (grown == NULL)
			return -1;
		for (uint32_t i = 0; shard && i < shard->size; i++) {
			void *kept = atomic_load_explicit(&shard->slots[i].item, memory_order_relaxed);
			if (kept && kept != &pm_emptied)
				fill(grown, shard->slots[i].tag, kept);
		}
		atomic_store_explicit(&index->shards[at], grown, memory_order_release);
		pm_epoch_retire(epoch, shard);
		shard = grown;
	}
	fill(shard, tag, item);
	index->count++;
	return 0;
}

void pm_index_remove(pm_index *index, unsigned at, uint32_t tag, const void *item)
{
	pm_shard *shard = atomic_load_explicit(&index->shards[at], memory_order_relaxed);

	uint32_t from = shard ? pm_index_start(tag, shard->size) : 0;

	for (uint32_t i = 0; shard && i < shard->size; i++) {
		pm_slot *slot = &shard->slots[from + i < shard->size ? from + i : from + i - shard->size];
		void *found = atomic_load_explicit(&slot->item, memory_order_relaxed);

		if (found == NULL)
			return;
		if (found != item)
			continue;
		atomic_store_explicit(&slot->item, (void *)(uintptr_t)&pm_emptied, memory_order_release);
		shard->live--;
		index->count--;
		return;
	}
}

void pm_index_each(pm_index *index, void (*call)(void *item, void *context), void *context)
{
	for (unsigned at = 0; at < PM_SHARDS; at++) {
		pm_shard *shard = atomic_load_explicit(&index->shards[at], memory_order_relaxed);
		for (uint32_t i = 0; shard && i < shard->size; i++) {
			void *item = atomic_load_explicit(&shard->slots[i].item, memory_order_relaxed);
			if (item && item != &pm_emptied)
				call(item, context);
		}
	}
}

void pm_index_free(pm_index *index)
{
	for (unsigned at = 0; at < PM_SHARDS; at++)
		free(atomic_load_explicit(&index->shards[at], memory_order_relaxed));
}
