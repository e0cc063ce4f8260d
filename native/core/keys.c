#include "keys.h"

#include <stdlib.h>
#include <string.h>

/* Hash of a key by its length and its ends: kernel keys differ there. */
static uint32_t key_hash(const char *key, size_t len)
{
	uint64_t head = 0, tail = 0;

	/* Sizes that the compiler knows: a call of memcpy would cost as much as the rest. */
	if (len >= 8) {
		memcpy(&head, key, 8);
		memcpy(&tail, key + len - 8, 8);
	} else if (len >= 4) {
		memcpy(&head, key, 4);
		memcpy(&tail, key + len - 4, 4);
	} else if (len) {
		head = (unsigned char)key[0];
		tail = (uint64_t)(unsigned char)key[len / 2] << 8 | (unsigned char)key[len - 1];
	}
	head = (head * 0x9e3779b97f4a7c15ull) ^ (tail * 0xc2b2ae3d27d4eb4full) ^ len;
	return (uint32_t)(head >> 32 ^ head >> 15);
}

int pm_keys_init(pm_keys *keys, const char *const *names, const uint32_t *columns, uint32_t count)
{
	uint32_t buckets = 8;

	memset(keys, 0, sizeof(*keys));
	while (buckets < 2 * count)
		buckets *= 2;
	keys->mask = buckets - 1;
	keys->keys = calloc(count ? count : 1, sizeof(*keys->keys));
	keys->lens = calloc(count ? count : 1, sizeof(*keys->lens));
	keys->columns = calloc(count ? count : 1, sizeof(*keys->columns));
	keys->amounts = calloc(count ? count : 1, sizeof(*keys->amounts));
	keys->buckets = calloc(buckets, sizeof(*keys->buckets));
	if (!keys->keys || !keys->lens || !keys->columns || !keys->amounts || !keys->buckets)
		goto fail;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at;
		keys->lens[i] = (uint32_t)strlen(names[i]);
		keys->columns[i] = columns[i];
		keys->keys[i] = strdup(names[i]);
		if (keys->keys[i] == NULL)
			goto fail;
		keys->count = i + 1;
		at = key_hash(names[i], keys->lens[i]) & keys->mask;
		while (keys->buckets[at])
			at = (at + 1) & keys->mask;
		keys->buckets[at] = i + 1;
	}
	return 0;
fail:
	pm_keys_free(keys);
	return -1;
}

void pm_keys_free(pm_keys *keys)
{
	for (uint32_t i = 0; i < keys->count; i++)
		free((char *)keys->keys[i]);
	free(keys->keys);
	free(keys->lens);
	free(keys->columns);
	free(keys->amounts);
	free(keys->buckets);
	memset(keys, 0, sizeof(*keys));
}

int64_t pm_keys_find(const pm_keys *keys, const char *key, size_t len)
{
	uint32_t at = key_hash(key, len) & keys->mask;
	uint32_t entry;

	while ((entry = keys->buckets[at]) != 0) {
		if (keys->lens[entry - 1] == len && memcmp(keys->keys[entry - 1], key, len) == 0)
			return entry - 1;
		at = (at + 1) & keys->mask;
	}
	return -1;
}
