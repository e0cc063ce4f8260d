/* A set of known keys, each with the column of its value. */
#ifndef PYMON_KEYS_H
#define PYMON_KEYS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint32_t count;
	uint32_t mask; /* buckets - 1 */
	const char **keys;
	uint32_t *lens;
	uint32_t *columns;
	uint8_t *amounts;  /* flags: the key's number cannot be negative. None after pm_keys_init */
	uint32_t *buckets; /* 1 + index into keys, 0 for an empty bucket */
} pm_keys;

/* Build from `count` keys, which are copied. Returns 0, or -1 if out of memory. */
int pm_keys_init(pm_keys *keys, const char *const *names, const uint32_t *columns, uint32_t count);
void pm_keys_free(pm_keys *keys);

/* Return the index of the key, or -1. */
int64_t pm_keys_find(const pm_keys *keys, const char *key, size_t len);

#endif
