/* A hash table from hashes of keys to numbers. It does not store the keys: the caller compares them. */
#ifndef PYMON_KSTAT_INDEX_H
#define PYMON_KSTAT_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define PM_LOOKUP_NONE UINT32_MAX

typedef struct {
	struct {
		uint64_t hash;
		uint64_t value; /* 1 + the number, 0 for an empty slot */
	} *buckets;
	uint32_t mask;
	uint32_t count;
} pm_lookup;

uint64_t pm_lookup_hash(uint64_t seed, const char *data, size_t len);

/* Returns 0, or -1 if out of memory. */
int pm_lookup_insert(pm_lookup *index, uint64_t hash, uint32_t number);
void pm_lookup_remove(pm_lookup *index, uint64_t hash, uint32_t number);

/* Return the next number with this hash, or PM_LOOKUP_NONE at the end. *cursor is 0 for the first call. */
uint32_t pm_lookup_next(const pm_lookup *index, uint64_t hash, uint32_t *cursor);
void pm_lookup_free(pm_lookup *index);

#endif
