#include "scan.h"

int pm_scan_integer(const char **cursor, const char *end, uint64_t *value)
{
	const char *p = *cursor;
	uint64_t number = 0;
	int negative = 0;
	const char *digits;

	if (p < end && *p == '-') {
		negative = 1;
		p++;
	}
	digits = p;
	while (p < end && (unsigned char)(*p - '0') < 10) {
		unsigned digit = (unsigned char)(*p - '0');
		if (p - digits >= 18 &&
		    (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, digit, &number)))
			return 0;
		if (p - digits < 18)
			number = number * 10 + digit;
		p++;
	}
	if (p == digits || (negative && number > (uint64_t)INT64_MAX + 1))
		return 0;
	*value = negative ? -number : number;
	*cursor = p;
	return 1;
}

/* Hash of a key by its length and its ends: kernel keys differ there. */
static uint32_t key_hash(const char *key, size_t len)
{
	uint64_t head = 0, tail = 0;
	size_t n = len < 8 ? len : 8;

	memcpy(&head, key, n);
	memcpy(&tail, key + len - n, n);
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
	keys->buckets = calloc(buckets, sizeof(*keys->buckets));
	if (!keys->keys || !keys->lens || !keys->columns || !keys->buckets)
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

static int is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && is_blank(*p))
		p++;
	return p;
}

static const char *skip_word(const char *p, const char *end)
{
	while (p < end && !is_blank(*p))
		p++;
	return p;
}

/* The integer word at p, which must end the word. 1 or 0. */
static int integer_word(const char *p, const char *end, uint64_t *value)
{
	return pm_scan_integer(&p, end, value) && (p == end || is_blank(*p));
}

pm_scan_result pm_scan_keyed(const pm_keys *keys, const char *data, size_t len, uint32_t field, pm_table *table,
			     uint32_t row, uint32_t *set)
{
	const char *p = data, *end = data + len;
	pm_scan_result result = len ? PM_OK : PM_EMPTY;

	*set = 0;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *word = p;
		int64_t index;
		uint64_t value;

		if (line_end == NULL)
			return PM_TRUNCATED;
		while (word < line_end && !is_blank(*word) && *word != ':')
			word++;
		index = word > p ? pm_keys_find(keys, p, (size_t)(word - p)) : -1;
		p = line_end + 1;
		if (index < 0)
			continue;
		if (word < line_end && *word == ':')
			word++;
		word = skip_blanks(word, line_end);
		for (uint32_t skipped = 1; skipped < field; skipped++)
			word = skip_blanks(skip_word(word, line_end), line_end);
		if (!integer_word(word, line_end, &value)) {
			result = PM_MALFORMED;
			continue;
		}
		pm_table_set(table, row, keys->columns[index], value);
		*set += 1;
	}
	return result;
}

pm_scan_result pm_scan_rows(pm_table *table, const char *data, size_t len, const char *label, size_t label_len,
			    uint32_t skip, uint32_t key, uint32_t first)
{
	const char *p = data, *end = data + len;
	pm_scan_result result = len ? PM_OK : PM_EMPTY;

	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		const char *word = p;
		int64_t row = -1;

		if (line_end == NULL)
			return PM_TRUNCATED;
		p = line_end + 1;
		if (skip) {
			skip--;
			continue;
		}
		for (uint32_t index = 0;; index++) {
			const char *word_end;
			uint64_t value;

			word = skip_blanks(word, line_end);
			if (word == line_end)
				break;
			word_end = skip_word(word, line_end);
			if (index == key) {
				size_t name_len = (size_t)(word_end - word);
				if (name_len > 1 && word_end[-1] == ':')
					name_len--;
				row = pm_table_append(table, PM_NO_PARENT);
				if (row < 0 || pm_table_label(table, label, label_len, word, name_len) < 0)
					return PM_MALFORMED;
			} else if (row >= 0 && index >= first && index - first < table->columns) {
				if (integer_word(word, word_end, &value))
					pm_table_set(table, (uint32_t)row, index - first, value);
				else
					result = PM_MALFORMED;
			}
			word = word_end;
		}
	}
	return result;
}

pm_scan_result pm_scan_value(const char *data, size_t len, uint64_t *value, int *set)
{
	const char *p = data, *end = data + len;

	*set = 0;
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	if (len == 4 && memcmp(data, "max\n", 4) == 0)
		return PM_OK;
	if (!pm_scan_integer(&p, end, value) || p + 1 != end)
		return PM_MALFORMED;
	*set = 1;
	return PM_OK;
}

pm_scan_result pm_scan_pair(const char *data, size_t len, uint64_t values[2], int set[2])
{
	const char *p = data, *end = data + len;

	set[0] = set[1] = 0;
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	if (len > 4 && memcmp(p, "max ", 4) == 0)
		p += 3;
	else if (pm_scan_integer(&p, end, &values[0]) && *p == ' ')
		set[0] = 1;
	else
		return PM_MALFORMED;
	p++;
	if (!pm_scan_integer(&p, end, &values[1]) || p + 1 != end) {
		set[0] = 0;
		return PM_MALFORMED;
	}
	set[1] = 1;
	return PM_OK;
}

pm_scan_result pm_scan_pressure(const char *data, size_t len, uint64_t values[2], int set[2])
{
	static const char *const words[2] = {"some ", "full "};
	const char *p = data, *end = data + len;

	set[0] = set[1] = 0;
	if (len == 0)
		return PM_EMPTY;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		const char *total = NULL;
		int which = -1;

		if (line_end == NULL)
			return PM_TRUNCATED;
		for (int i = 0; i < 2; i++)
			if (line_end - p > 5 && memcmp(p, words[i], 5) == 0)
				which = i;
		if (which >= 0) {
			for (const char *word = p + 5; word < line_end;
			     word = skip_blanks(skip_word(word, line_end), line_end))
				if (line_end - word > 6 && memcmp(word, "total=", 6) == 0)
					total = word + 6;
			if (total == NULL || !integer_word(total, line_end, &values[which]))
				return PM_MALFORMED;
			set[which] = 1;
		}
		p = line_end + 1;
	}
	return PM_OK;
}
