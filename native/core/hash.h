/* SipHash-1-3, as in the hash tables of Python and Rust. Without the secret key, nobody can construct collisions. */
#ifndef PYMON_HASH_H
#define PYMON_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t pm_hash_rotate(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void pm_hash_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = pm_hash_rotate(v[1], 13) ^ v[0];
	v[0] = pm_hash_rotate(v[0], 32);
	v[2] += v[3];
	v[3] = pm_hash_rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = pm_hash_rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = pm_hash_rotate(v[1], 17) ^ v[2];
	v[2] = pm_hash_rotate(v[2], 32);
}

static inline uint64_t pm_hash(const uint64_t key[2], const char *data, size_t len)
{
	uint64_t v[4] = {key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull, key[0] ^ 0x6c7967656e657261ull,
			 key[1] ^ 0x7465646279746573ull};
	uint64_t last = (uint64_t)len << 56, word;
	size_t tail = len & 7;

	for (const char *end = data + (len - tail); data < end; data += 8) {
		memcpy(&word, data, 8);
		v[3] ^= word;
		pm_hash_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < tail; i++)
		last |= (uint64_t)(unsigned char)data[i] << (8 * i);
	v[3] ^= last;
	pm_hash_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		pm_hash_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
