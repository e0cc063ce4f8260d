#include "scan_group.h"

#include <stdio.h>

#include "decimal.h"

enum { PROTOCOL_MAX = 16, NAME_MAX_BYTES = 96, FEW_KEYS = 4 };

pm_scan_result pm_scan_flat(const pm_sink *sink, const char *data, size_t len)
{
	uint32_t set;

	return pm_scan_keyed(sink->keys, data, len, 1, sink->targets[0].table, sink->row, &set);
}

/* Nested keyed files. */

const char *pm_label_source_name(pm_label_source source)
{
	static const char *const names[PM_LABEL_SOURCES] = {
		[PM_LABEL_KEY] = "key",	      [PM_LABEL_SCOPE] = "scope", [PM_LABEL_DEVICE] = "device",
		[PM_LABEL_MAJOR] = "major",   [PM_LABEL_MINOR] = "minor", [PM_LABEL_NODE] = "node",
		[PM_LABEL_SUBKEY] = "subkey",
	};

	return names[source];
}

typedef struct {
	const char *key;
	size_t key_len;
	int hierarchical;
	unsigned major, minor;
	const char *subkey;
	size_t subkey_len;
	int64_t rows[PM_TARGETS]; /* of the targets, if they depend only on the key; -1: not found yet */
} line;

typedef enum { COLUMN_PAIR, COLUMN_SUBKEY, COLUMN_KEY } column_from;

static int has_label(const pm_target *target, pm_label_source first, pm_label_source last)
{
	for (uint32_t i = 0; i < target->label_count; i++)
		if (target->labels[i].source >= first && target->labels[i].source <= last)
			return 1;
	return 0;
}

static column_from column_is_from(const pm_target *target)
{
	if (target->label_count == 0)
		return COLUMN_PAIR;
	return has_label(target, PM_LABEL_NODE, PM_LABEL_SUBKEY) ? COLUMN_KEY : COLUMN_SUBKEY;
}

/* Write the label block of a row to sink->scratch. Returns 0, or -1 if out of memory. */
static int label_block(const pm_sink *sink, const pm_target *target, const line *at)
{
	static const pm_scale whole = {.multiply = 1, .divide = 1};

	sink->scratch->len = 0;
	for (uint32_t i = 0; i < target->label_count; i++) {
		const char *name = target->labels[i].name;
		char number[PM_DECIMAL_MAX];
		const char *value = number;
		size_t len;

		switch (target->labels[i].source) {
		case PM_LABEL_SCOPE:
			value = at->hierarchical ? "hierarchy" : "container";
			len = strlen(value);
			break;
		case PM_LABEL_DEVICE:
			value = sink->devices.find(sink->devices.state, at->major, at->minor);
			if (value == NULL)
				return -1;
			len = strlen(value);
			break;
		case PM_LABEL_MAJOR:
			len = pm_decimal(number, at->major, &whole);
			break;
		case PM_LABEL_MINOR:
			len = pm_decimal(number, at->minor, &whole);
			break;
		case PM_LABEL_NODE:
			value = at->subkey + 1;
			len = at->subkey_len - 1;
			break;
		case PM_LABEL_SUBKEY:
			value = at->subkey;
			len = at->subkey_len;
			break;
		default:
			value = at->key;
			len = at->key_len;
		}
		if (pm_label_append(sink->scratch, name, strlen(name), value, len) < 0)
			return -1;
	}
	return 0;
}

/* Return the container's row with these labels, which is added if there is none, or -1 if out of memory. */
static int64_t labelled_row(const pm_sink *sink, const pm_target *target, const line *at)
{
	pm_table *table = target->table;
	int64_t row;

	if (label_block(sink, target, at) < 0)
		return -1;
	for (uint32_t i = target->first; i < table->rows; i++)
		if (table->labels[i].len == sink->scratch->len &&
		    memcmp(table->arena.data + table->labels[i].offset, sink->scratch->data, sink->scratch->len) == 0)
			return i;
	row = pm_table_append(table, sink->row);
	if (row >= 0 && pm_table_relabel(table, (uint32_t)row, sink->scratch->data, sink->scratch->len) < 0)
		return -1;
	return row;
}

static int put(const pm_sink *sink, line *at, column_from from, uint32_t column, uint64_t number)
{
	for (uint32_t i = 0; i < sink->target_count; i++) {
		const pm_target *target = &sink->targets[i];

		if (target->table == NULL)
			continue;
		if (from == COLUMN_PAIR)
			at->rows[i] = sink->row;
		else if (from == COLUMN_KEY || at->rows[i] < 0)
			at->rows[i] = labelled_row(sink, target, at);
		if (at->rows[i] < 0)
			return -1;
		if (!sink->rest || !pm_table_has(target->table, (uint32_t)at->rows[i], column))
			pm_table_set(target->table, (uint32_t)at->rows[i], column, number);
	}
	return 0;
}

static int device_number(const char **p, const char *end, line *at)
{
	const char *cursor = *p;
	uint64_t major, minor;

	if (!pm_scan_unsigned(&cursor, end, &major) || cursor == end || *cursor++ != ':')
		return 0;
	if (!pm_scan_unsigned(&cursor, end, &minor) || cursor == end || *cursor != ' ')
		return 0;
	*p = pm_skip_blanks(cursor, end);
	at->major = (unsigned)major;
	at->minor = (unsigned)minor;
	return 1;
}

static int begins(const char *p, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - p) >= len && memcmp(p, word, len) == 0;
}

/* Scan the key at *p, and move *p to the first subkey. */
static void scan_key(const char **p, const char *end, line *at)
{
	static const char prefix[] = "hierarchical_";
	const char *stop = memchr(*p, ' ', (size_t)(end - *p)), *equals;

	if (stop == NULL)
		stop = end;
	at->key = *p;
	at->hierarchical = begins(*p, stop, prefix);
	equals = memchr(*p, '=', (size_t)(stop - *p));
	at->key_len = (size_t)((equals ? equals : stop) - *p);
	if (at->key_len && at->key[at->key_len - 1] == ':')
		at->key_len--;
	*p = pm_skip_blanks(stop, end);
}

/* Return the index of key and subkey in the sink's keys, or -1. */
static int64_t find_column(const pm_sink *sink, const line *at, column_from from)
{
	const pm_keys *keys = sink->keys;
	size_t len = at->key_len + 1 + at->subkey_len;
	char name[NAME_MAX_BYTES];

	if (from == COLUMN_SUBKEY)
		return pm_keys_find(keys, at->subkey, at->subkey_len);
	if (from == COLUMN_KEY)
		return pm_keys_find(keys, at->key, at->key_len);
	if (keys->count <= FEW_KEYS) { /* as in a pressure file: cheaper than a hash */
		for (uint32_t i = 0; i < keys->count; i++)
			if (keys->lens[i] == len && keys->keys[i][at->key_len] == ':' &&
			    keys->keys[i][at->key_len + 1] == *at->subkey &&
			    memcmp(keys->keys[i] + at->key_len + 1, at->subkey, at->subkey_len) == 0 &&
			    memcmp(keys->keys[i], at->key, at->key_len) == 0)
				return i;
		return -1;
	}
	if (len > sizeof(name))
		return -1;
	memcpy(name, at->key, at->key_len);
	name[at->key_len] = ':';
	memcpy(name + at->key_len + 1, at->subkey, at->subkey_len);
	return pm_keys_find(keys, name, len);
}

static pm_scan_result scan_subkeys(const pm_sink *sink, const char *p, const char *end, line *at, column_from from)
{
	int nodes = has_label(&sink->targets[0], PM_LABEL_NODE, PM_LABEL_NODE);
	pm_scan_result result = PM_OK;

	while (p < end) {
		const char *value, *next;
		uint64_t number;
		int64_t index;

		at->subkey = p;
		while (p < end && *p != '=' && *p != ' ')
			p++;
		at->subkey_len = (size_t)(p - at->subkey);
		if (p == end)
			return PM_MALFORMED;
		value = p + 1;
		next = memchr(value, ' ', (size_t)(end - value));
		p = next ? pm_skip_blanks(next, end) : end;
		if (nodes && (at->subkey_len < 2 || *at->subkey != 'N'))
			continue;
		index = find_column(sink, at, from);
		if (index < 0)
			continue;
		if (pm_is_max(value, next ? next : end))
			continue;
		if (!pm_scan_unsigned(&value, end, &number) || value != (next ? next : end))
			result = PM_MALFORMED;
		else if (put(sink, at, from, sink->keys->columns[index], number) < 0)
			return PM_NO_MEMORY;
	}
	return result;
}

pm_scan_result pm_scan_nested(const pm_sink *sink, const char *data, size_t len)
{
	const pm_target *first = &sink->targets[0];
	int devices = has_label(first, PM_LABEL_DEVICE, PM_LABEL_MINOR);
	int scopes = has_label(first, PM_LABEL_SCOPE, PM_LABEL_SCOPE);
	column_from from = column_is_from(first);
	const char *p = data, *end = data + len;
	/* The file of a group without any I/O has no line. */
	pm_scan_result result = len || from == COLUMN_SUBKEY ? PM_OK : PM_EMPTY;

	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *word = p;
		line at = {.rows = {-1, -1}};
		pm_scan_result of_line;

		if (line_end == NULL && !devices)
			return PM_TRUNCATED;
		p = line_end ? line_end + 1 : end;
		if (devices) {
			const char *stop = line_end ? line_end : end;
			int any = 0;

			while (device_number(&word, stop, &at))
				any = 1;
			if (line_end == NULL)
				return any && word == end ? result : PM_TRUNCATED;
			if (!any) {
				if (!begins(word, line_end, "Total ") && !begins(word, line_end, "(unknown) "))
					result = PM_MALFORMED;
				continue;
			}
		} else {
			scan_key(&word, line_end, &at);
			if (scopes && at.hierarchical) {
				at.key += sizeof("hierarchical_") - 1;
				at.key_len -= sizeof("hierarchical_") - 1;
			}
		}
		of_line = scan_subkeys(sink, word, line_end, &at, from);
		if (of_line == PM_NO_MEMORY)
			return of_line;
		if (of_line != PM_OK)
			result = of_line;
	}
	return result;
}

pm_scan_result pm_scan_listed(const pm_sink *sink, const char *data, size_t len)
{
	static const char suffix[] = ".max";
	const size_t suffix_len = sizeof(suffix) - 1;
	const char *p = data, *end = data + len;
	pm_scan_result result = PM_OK;

	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *word = p, *value;
		line at = {.rows = {-1, -1}};
		uint64_t number;

		if (line_end == NULL)
			return PM_TRUNCATED;
		scan_key(&word, line_end, &at);
		p = line_end + 1;
		if (at.key_len > suffix_len && memcmp(at.key + at.key_len - suffix_len, suffix, suffix_len) == 0)
			at.key_len -= suffix_len;
		value = word;
		if (pm_is_max(value, line_end))
			continue;
		if (at.key_len == 0 || !pm_scan_integer(&value, line_end, &number) || value != line_end)
			result = PM_MALFORMED;
		else if (put(sink, &at, COLUMN_SUBKEY, sink->column, number) < 0)
			return PM_NO_MEMORY;
	}
	return result;
}

pm_scan_result pm_scan_percpu(const pm_sink *sink, const char *data, size_t len)
{
	pm_table *table = sink->targets[0].table;
	const char *p = data, *end = data + len;
	uint64_t value;

	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	for (unsigned cpu = 0; (p = pm_skip_blanks(p, end)) < end && *p != '\n'; cpu++) {
		if (!pm_scan_unsigned(&p, end, &value))
			return PM_MALFORMED;
		if (value) {
			char name[16];
			int name_len = snprintf(name, sizeof(name), "cpu%02u", cpu);
			int64_t row = pm_table_append(table, sink->row);

			if (row < 0 || pm_table_label(table, "cpu", 3, name, (size_t)name_len) < 0)
				return PM_NO_MEMORY;
			pm_table_set(table, (uint32_t)row, sink->column, value);
		}
	}
	return PM_OK;
}

/* Files of a network namespace. */

static int is_excluded(const void *state, const char *name, size_t len)
{
	const pm_sink *sink = state;

	if (len == 2 && memcmp(name, "lo", 2) == 0)
		return 1;
	return sink->interfaces.find && sink->interfaces.find(sink->interfaces.state, name, len);
}

pm_scan_result pm_scan_interfaces(const pm_sink *sink, const char *data, size_t len)
{
	static const char label[] = "interface";
	const pm_lines lines = {
		.label = label,
		.label_len = sizeof(label) - 1,
		.parent = sink->row,
		.skip = 2,
		.first = 1,
		.column = sink->column,
		.is_excluded = is_excluded,
		.state = sink,
		.is_strict = 1,
	};

	return pm_scan_lines(sink->targets[0].table, &lines, data, len);
}

/* Scan a line of names and a line of values. Both begin with the protocol and a colon, `head` bytes. */
static pm_scan_result scan_statistics_pair(const pm_sink *sink, const char *name, const char *names_end,
					   const char *value, const char *values_end, size_t head)
{
	char key[NAME_MAX_BYTES];
	pm_scan_result result = PM_OK;

	memcpy(key, name, head);
	name += head;
	value += head;
	while ((name = pm_skip_blanks(name, names_end)) < names_end) {
		const char *stop = memchr(name, ' ', (size_t)(names_end - name));
		uint64_t number;
		int64_t index = -1;
		int is_negative;

		if (stop == NULL)
			stop = names_end;
		value = pm_skip_blanks(value, values_end);
		is_negative = value < values_end && *value == '-';
		if (!pm_scan_integer(&value, values_end, &number))
			return PM_MALFORMED;
		if ((size_t)(stop - name) <= sizeof(key) - head) {
			memcpy(key + head, name, (size_t)(stop - name));
			index = pm_keys_find(sink->keys, key, head + (size_t)(stop - name));
		}
		if (index >= 0 && is_negative && sink->keys->amounts[index])
			result = PM_MALFORMED;
		else if (index >= 0)
			pm_table_set(sink->targets[0].table, sink->row, sink->keys->columns[index], number);
		name = stop;
	}
	return pm_skip_blanks(value, values_end) == values_end ? result : PM_MALFORMED;
}

pm_scan_result pm_scan_statistics(const pm_sink *sink, const char *data, size_t len)
{
	const char *p = data, *end = data + len;

	pm_scan_result result = len ? PM_OK : PM_EMPTY;

	while (p < end) {
		const char *names_end = memchr(p, '\n', (size_t)(end - p)), *name = p, *value, *values_end, *colon;
		size_t head;

		value = names_end ? names_end + 1 : end;
		values_end = memchr(value, '\n', (size_t)(end - value));
		if (values_end == NULL)
			return PM_TRUNCATED;
		p = values_end + 1;
		colon = memchr(name, ':', (size_t)(names_end - name));
		head = colon ? (size_t)(colon - name) + 1 : 0;
		if (head == 0 || head > PROTOCOL_MAX || (size_t)(values_end - value) < head ||
		    memcmp(name, value, head) != 0)
			return PM_MALFORMED;
		if (scan_statistics_pair(sink, name, names_end, value, values_end, head) != PM_OK)
			result = PM_MALFORMED;
	}
	return result;
}

static int hex_field(const char **p, const char *end, uint64_t *value)
{
	const char *start = *p;

	*value = 0;
	for (; *p < end; (*p)++) {
		char c = **p;
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (c >= 'A' && c <= 'F')
			digit = (unsigned)(c - 'A') + 10;
		else
			break;
		*value = *value << 4 | digit;
	}
	return *p > start;
}

/* Return word number n of a line, from 0, or NULL. */
static const char *nth_word(const char *p, const char *end, int n)
{
	for (;;) {
		p = pm_skip_blanks(p, end);
		if (p == end)
			return NULL;
		if (n-- == 0)
			return p;
		while (p < end && *p != ' ')
			p++;
	}
}

enum { STATES = 16, UNCONNECTED = 7 };

static void count_tcp(uint64_t counts[STATES], uint64_t state, const char *p, const char *end)
{
	(void)p;
	(void)end;
	if (state >= 1 && state < STATES)
		counts[state - 1]++;
}

/* `sl local rem st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops` */
static void count_udp(uint64_t counts[STATES], uint64_t state, const char *p, const char *end)
{
	const char *word = nth_word(p, end, 4);
	uint64_t number;

	counts[0] += state == UNCONNECTED;
	if (word && hex_field(&word, end, &number)) {
		counts[3] += number;
		if (word < end && *word++ == ':' && hex_field(&word, end, &number))
			counts[2] += number;
	}
	word = nth_word(p, end, 12);
	if (word && pm_scan_unsigned(&word, end, &number))
		counts[1] += number;
}

static pm_scan_result scan_sockets(const pm_sink *sink, const char *data, size_t len,
				   void (*count)(uint64_t counts[STATES], uint64_t state, const char *p,
						 const char *end))
{
	pm_table *table = sink->targets[0].table;
	const char *p = data, *end = data + len;
	pm_scan_result result = PM_OK;
	uint64_t counts[STATES] = {0};

	for (int heading = 1; p < end; heading = 0) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *word;
		uint64_t state;

		if (line_end == NULL)
			return PM_TRUNCATED;
		word = nth_word(p, line_end, 3);
		if (!heading && (word == NULL || !hex_field(&word, line_end, &state)))
			result = PM_MALFORMED;
		else if (!heading)
			count(counts, state, p, line_end);
		p = line_end + 1;
	}
	for (uint32_t i = 0; i < STATES && sink->column + i < table->columns; i++)
		pm_table_set(table, sink->row, sink->column + i, counts[i]);
	return result;
}

pm_scan_result pm_scan_tcp(const pm_sink *sink, const char *data, size_t len)
{
	return scan_sockets(sink, data, len, count_tcp);
}

pm_scan_result pm_scan_udp(const pm_sink *sink, const char *data, size_t len)
{
	return scan_sockets(sink, data, len, count_udp);
}
