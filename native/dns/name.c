#include "name.h"

#include <string.h>

static uint8_t lowered(uint8_t octet)
{
	return (uint8_t)(octet + ((uint8_t)(octet - 'A') < 26 ? 32 : 0));
}

static void lower(uint8_t *out, const uint8_t *in, size_t len)
{
	/* Label lengths are at most 63, below 'A', so they do not change. */
	for (size_t i = 0; i < len; i++)
		out[i] = lowered(in[i]);
}

int pm_name_read(pm_name *name, const uint8_t *data, size_t len)
{
	size_t at = 0;
	unsigned labels = 0;

	if (len > PM_NAME_MAX)
		len = PM_NAME_MAX;
	for (;; labels++) {
		if (at >= len || data[at] > PM_LABEL_MAX)
			return -1;
		name->at[labels] = (uint8_t)at;
		if (data[at] == 0)
			break;
		at += 1u + data[at];
	}
	name->labels = (uint8_t)labels;
	name->len = (uint8_t)(at + 1);
	lower(name->wire, data, name->len);
	return name->len;
}

/* Returns whether a character of a name needs no escape in a master file. */
static int is_plain(unsigned char octet)
{
	/* One bit for each character from blank to DEL. Not set: blank " $ ( ) . ; @ \\ DEL */
	static const uint32_t plain[3] = {0xf7ffbcea, 0xeffffffe, 0x7fffffff};

	return octet >= ' ' && octet <= 0x7f && (plain[octet / 32 - 1] >> octet % 32 & 1);
}

int pm_name_parse(pm_name *name, const char *text, size_t len)
{
	unsigned labels = 0;
	size_t start = 0;

	if (len == 1 && text[0] == '.')
		return pm_name_read(name, (const uint8_t *)"", 1) < 0 ? -1 : 0;
	if (len < 2 || len >= PM_NAME_MAX || text[len - 1] != '.')
		return -1;
	for (size_t i = 0; i < len; i++) {
		unsigned char octet = (unsigned char)text[i];

		if (octet == '.') {
			if (i == start || i - start > PM_LABEL_MAX)
				return -1;
			name->wire[start] = (uint8_t)(i - start);
			name->at[labels++] = (uint8_t)start;
			start = i + 1;
		} else if (!is_plain(octet)) {
			return -1;
		} else {
			name->wire[i + 1] = lowered(octet);
		}
	}
	name->wire[len] = 0;
	name->at[labels] = (uint8_t)len;
	name->labels = (uint8_t)labels;
	name->len = (uint8_t)(len + 1);
	return 0;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t pm_name_hash(const uint8_t *label, size_t len, uint64_t above, const uint64_t key[2])
{
	uint64_t hash = fold(above ^ len, key[0]), word;

	for (; len >= 8; label += 8, len -= 8) {
		memcpy(&word, label, 8);
		hash = fold(hash ^ word, key[1]);
	}
	word = 0;
	for (size_t i = 0; i < len; i++)
		word |= (uint64_t)label[i] << 8 * i;
	return fold(hash ^ word, key[1]);
}

void pm_name_hashes(const pm_name *name, const uint64_t key[2], uint64_t hashes[PM_LABELS_MAX + 1])
{
	hashes[name->labels] = key[0];
	for (unsigned i = name->labels; i-- > 0;) {
		const uint8_t *label = name->wire + name->at[i];
		hashes[i] = pm_name_hash(label + 1, label[0], hashes[i + 1], key);
	}
}

int pm_name_begins(const pm_name *name, size_t at)
{
	unsigned low = 0, high = name->labels + 1u;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		if (name->at[middle] == at)
			return 1;
		if (name->at[middle] < at)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}
