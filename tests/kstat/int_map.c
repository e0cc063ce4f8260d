/* Open addressing, linear probing: keys that count up lie side by side. */
#include <stdlib.h>

#include "kernel.h"

static uint32_t map_at(const int_map *map, int key)
{
	uint32_t i = (uint32_t)key & map->mask;
	while (map->entries[i].value && map->entries[i].key != key) {
		i = (i + 1) & map->mask;
	}
	return i;
}

void *map_get(const int_map *map, int key)
{
	return map->entries ? map->entries[map_at(map, key)].value : NULL;
}

static void map_remove(int_map *map, uint32_t hole)
{
	map->used--;
	for (uint32_t i = (hole + 1) & map->mask; map->entries[i].value; i = (i + 1) & map->mask) {
		uint32_t home = (uint32_t)map->entries[i].key & map->mask;
		if (((i - home) & map->mask) >= ((i - hole) & map->mask)) {
			map->entries[hole] = map->entries[i];
			hole = i;
		}
	}
	map->entries[hole].value = NULL;
}

static void map_grow(int_map *map)
{
	int_map old = *map;
	uint32_t size = old.entries ? (old.mask + 1) * 2 : 64;
	map->entries = calloc(size, sizeof(*map->entries));
	if (!map->entries) {
		abort();
	}
	map->mask = size - 1;
	for (uint32_t i = 0; old.entries && i <= old.mask; i++) {
		if (old.entries[i].value) {
			map->entries[map_at(map, old.entries[i].key)] = old.entries[i];
		}
	}
	free(old.entries);
}

void map_put(int_map *map, int key, void *value)
{
	if (!map->entries || map->used * 2 > map->mask) {
		map_grow(map);
	}
	uint32_t i = map_at(map, key);
	if (value) {
		map->used += !map->entries[i].value;
		map->entries[i] = (struct entry){key, value};
	} else if (map->entries[i].value) {
		map_remove(map, i);
	}
}

void map_free(int_map *map)
{
	free(map->entries);
	*map = (int_map){0};
}
