#include "epoch.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { RETIRED_FIRST = 64, RETIRED_MANY = 4096 };

void pm_epoch_init(pm_epoch *epoch)
{
	memset(epoch, 0, sizeof(*epoch));
	atomic_store(&epoch->now, 1);
}

void pm_epoch_free(pm_epoch *epoch)
{
	for (size_t i = 0; i < epoch->count; i++)
		free(epoch->retired[i].memory);
	free(epoch->retired);
}

int pm_epoch_join(pm_epoch *epoch)
{
	for (int reader = 0; reader < PM_EPOCH_READERS; reader++) {
		if (epoch->joined >> reader & 1)
			continue;
		epoch->joined |= 1ull << reader;
		return reader;
	}
	return -1;
}

void pm_epoch_leave(pm_epoch *epoch, int reader)
{
	pm_epoch_exit(epoch, reader);
	epoch->joined &= ~(1ull << reader);
}

/* Advance the epoch. Returns the oldest epoch in which a reader that is still inside may have entered. */
static uint64_t oldest(pm_epoch *epoch)
{
	uint64_t least = atomic_fetch_add(&epoch->now, 1) + 1;

	atomic_thread_fence(memory_order_seq_cst);
	for (int reader = 0; reader < PM_EPOCH_READERS; reader++) {
		uint64_t seen = epoch->joined >> reader & 1 ? atomic_load(&epoch->seen[reader]) : 0;
		if (seen && seen < least)
			least = seen;
	}
	return least;
}

void pm_epoch_reclaim(pm_epoch *epoch)
{
	uint64_t least;
	size_t freed = 0;

	if (epoch->count == 0)
		return;
	least = oldest(epoch);
	while (freed < epoch->count && epoch->retired[freed].when < least)
		free(epoch->retired[freed++].memory);
	epoch->count -= freed;
	if (freed)
		memmove(epoch->retired, epoch->retired + freed, epoch->count * sizeof(*epoch->retired));
	if (epoch->count == 0) {
		free(epoch->retired);
		epoch->retired = NULL;
		epoch->cap = 0;
	}
}

void pm_epoch_retire(pm_epoch *epoch, void *memory)
{
	if (memory == NULL)
		return;
	if (epoch->joined == 0) {
		free(memory);
		return;
	}
	if (epoch->count == epoch->cap) {
		size_t cap = epoch->cap ? epoch->cap * 2 : RETIRED_FIRST;
		pm_retired *retired;

		if (epoch->cap >= RETIRED_MANY)
			pm_epoch_reclaim(epoch);
		if (epoch->count == epoch->cap) {
			retired = realloc(epoch->retired, cap * sizeof(*retired));
			if (retired == NULL) {
				uint64_t when = atomic_load(&epoch->now);
				while (oldest(epoch) <= when)
					sched_yield();
				free(memory);
				return;
			}
			epoch->retired = retired;
			epoch->cap = cap;
		}
	}
	epoch->retired[epoch->count++] = (pm_retired){memory, atomic_load(&epoch->now)};
}
