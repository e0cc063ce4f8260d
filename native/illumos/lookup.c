#include "lookup.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t word)
{
	word = (word ^ word >> 32) * 0xd6e8feb86659fd93ull;
	word = (word ^ word >> 32) * 0xd6e8feb86659fd93ull;
	return word ^ word >> 32;
}

uint64_t pm_lookup_hash(uint64_t seed, const char *data, size_t len)
{
	uint64_t hash = mix(seed + len);

	while (len) {
		uint64_t word = 0;
		size_t part = len < sizeof(word) ? len : sizeof(word);

		memcpy(&word, data, part);
		hash = mix(hash ^ word);
		data += part;
		len -= part;
	}
	return hash;
}

static void put(pm_lookup *index, uint64_t hash, uint64_t value)
{
	uint32_t at = (uint32_t)hash & index->mask;

	while (index->buckets[at].value)
		at = (at + 1) & index->mask;
	index->buckets[at].hash = hash;
	index->buckets[at].value = value;
}

int pm_lookup_insert(pm_lookup *index, uint64_t hash, uint32_t number)
{
	if (index->buckets == NULL || index->count > index->mask / 2) {
		uint32_t size = index->buckets ? 2 * (index->mask + 1) : 64;
		pm_lookup larger = {.mask = size - 1, .count = index->count};

		larger.buckets = calloc(size, sizeof(*larger.buckets));
		if (larger.buckets == NULL)
			return -1;
		for (uint32_t at = 0; index->buckets && at <= index->mask; at++)
			if (index->buckets[at].value)
				put(&larger, index->buckets[at].hash, index->buckets[at].value);
		free(index->buckets);
		*index = larger;
	}
	put(index, hash, (uint64_t)number + 1);
	index->count++;
	return 0;
}

void pm_lookup_remove(pm_lookup *index, uint64_t hash, uint32_t number)
{
	uint32_t at = (uint32_t)hash & index->mask, hole;

	if (index->buckets == NULL)
		return;
	while (index->buckets[at].value != (uint64_t)number + 1 || index->buckets[at].hash != hash) {
		if (index->buckets[at].value == 0)
			return;
		at = (at + 1) & index->mask;
	}
	hole = at;
	for (;;) {
		uint32_t home;

		at = (at + 1) & index->mask;
		if (index->buckets[at].value == 0)
			break;
		home = (uint32_t)index->buckets[at].hash & index->mask;
		if (((at - home) & index->mask) >= ((at - hole) & index->mask)) {
			index->buckets[hole] = index->buckets[at];
			hole = at;
		}
	}
	index->buckets[hole].value = 0;
	index->count--;
}

uint32_t pm_lookup_next(const pm_lookup *index, uint64_t hash, uint32_t *cursor)
{
	if (index->buckets == NULL)
		return PM_LOOKUP_NONE;
	for (;;) {
		uint32_t at = ((uint32_t)hash + *cursor) & index->mask;

		if (index->buckets[at].value == 0)
			return PM_LOOKUP_NONE;
		*cursor += 1;
		if (index->buckets[at].hash == hash)
			return (uint32_t)(index->buckets[at].value - 1);
	}
}

void pm_lookup_free(pm_lookup *index)
{
	free(index->buckets);
	memset(index, 0, sizeof(*index));
}
