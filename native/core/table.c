#include "table.h"

#include "hash.h"
#include "utf8.h"

int pm_table_init(pm_table *table, uint32_t columns)
{
	memset(table, 0, sizeof(*table));
	table->columns = columns;
	table->words = columns ? (columns + 63) / 64 : 1;
	return 0;
}

void pm_table_free(pm_table *table)
{
	free(table->cells);
	free(table->present);
	free(table->labels);
	pm_buffer_free(&table->arena);
	memset(table, 0, sizeof(*table));
}

static int ensure_rows(pm_table *table, uint32_t rows)
{
	size_t cap = table->cap ? table->cap : 16;
	void *memory;

	if (rows <= table->cap)
		return 0;
	while (cap < rows)
		cap *= 2;
	if (cap >= PM_NO_PARENT)
		return -1;
	memory = realloc(table->cells, cap * (table->columns ? table->columns : 1) * sizeof(uint64_t));
	if (memory == NULL)
		return -1;
	table->cells = memory;
	memset(table->cells + (size_t)table->cap * table->columns, 0,
	       (cap - table->cap) * table->columns * sizeof(uint64_t));
	memory = realloc(table->present, cap * table->words * sizeof(uint64_t));
	if (memory == NULL)
		return -1;
	table->present = memory;
	memory = realloc(table->labels, cap * sizeof(pm_row_labels));
	if (memory == NULL)
		return -1;
	table->labels = memory;
	table->cap = (uint32_t)cap;
	return 0;
}

void pm_table_clear(pm_table *table)
{
	table->rows = 0;
	table->arena.len = 0;
	table->garbage = 0;
}

int pm_table_clear_to(pm_table *table, uint32_t rows)
{
	pm_table_clear(table);
	if (ensure_rows(table, rows) < 0)
		return -1;
	if (rows)
		memset(table->present, 0, (size_t)rows * table->words * sizeof(uint64_t));
	for (uint32_t row = 0; row < rows; row++)
		table->labels[row] = (pm_row_labels){.parent = row};
	table->rows = rows;
	return 0;
}

int pm_table_grow(pm_table *table, uint32_t rows)
{
	if (rows <= table->rows)
		return 0;
	if (ensure_rows(table, rows) < 0)
		return -1;
	for (uint32_t row = table->rows; row < rows; row++) {
		pm_table_unset_row(table, row);
		table->labels[row] = (pm_row_labels){.parent = row};
	}
	table->rows = rows;
	return 0;
}

void pm_table_unset_row(pm_table *table, uint32_t row)
{
	memset(table->present + (size_t)row * table->words, 0, table->words * sizeof(uint64_t));
}

int pm_table_copy(pm_table *target, const pm_table *source)
{
	pm_table_clear(target);
	if (ensure_rows(target, source->rows) < 0)
		return -1;
	if (pm_buffer_append(&target->arena, source->arena.data, source->arena.len) < 0)
		return -1;
	if (source->rows) {
		memcpy(target->cells, source->cells, (size_t)source->rows * source->columns * sizeof(uint64_t));
		memcpy(target->present, source->present, (size_t)source->rows * source->words * sizeof(uint64_t));
		memcpy(target->labels, source->labels, source->rows * sizeof(pm_row_labels));
	}
	target->rows = source->rows;
	target->garbage = source->garbage;
	return 0;
}

int64_t pm_table_append(pm_table *table, uint32_t parent)
{
	uint32_t row = table->rows;

	if (row == PM_NO_PARENT || ensure_rows(table, row + 1) < 0 || table->arena.len > UINT32_MAX)
		return -1;
	memset(table->present + (size_t)row * table->words, 0, table->words * sizeof(uint64_t));
	table->labels[row] = (pm_row_labels){.offset = (uint32_t)table->arena.len, .parent = parent};
	table->rows = row + 1;
	return row;
}

static int same_labels(const pm_table *table, uint32_t a, uint32_t b)
{
	const pm_row_labels *left = &table->labels[a], *right = &table->labels[b];

	return left->len == right->len && left->parent == right->parent &&
	       (left->len == 0 ||
		memcmp(table->arena.data + left->offset, table->arena.data + right->offset, left->len) == 0);
}

/* Move a row to the place of an earlier one, whose own labels become garbage. */
static void move_row(pm_table *table, uint32_t to, uint32_t from)
{
	memcpy(table->cells + (size_t)to * table->columns, table->cells + (size_t)from * table->columns,
	       table->columns * sizeof(uint64_t));
	memcpy(table->present + (size_t)to * table->words, table->present + (size_t)from * table->words,
	       table->words * sizeof(uint64_t));
	table->labels[to] = table->labels[from];
}

int pm_table_drop_repeated(pm_table *table, uint32_t first)
{
	/* The secret key keeps containers, which name their interfaces, from making all rows collide. */
	const uint64_t key[2] = {(uint64_t)(uintptr_t)table, (uint64_t)(uintptr_t)table->arena.data};
	uint32_t count = table->rows - first, mask = 15, kept = first;
	uint32_t few[16] = {0}, *buckets = few;

	if (count < 2)
		return 0;
	while (mask < 2 * (uint64_t)count)
		mask = mask * 2 + 1;
	if (mask >= sizeof(few) / sizeof(*few)) {
		buckets = calloc((size_t)mask + 1, sizeof(*buckets));
		if (buckets == NULL)
			return -1;
	}
	for (uint32_t row = first; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		const char *text = labels->len ? table->arena.data + labels->offset : "";
		uint32_t at = (uint32_t)(pm_hash(key, text, labels->len) ^ labels->parent) & mask;

		while (buckets[at] && !same_labels(table, buckets[at] - 1, row))
			at = (at + 1) & mask;
		if (buckets[at]) {
			table->garbage += labels->len;
			continue;
		}
		if (kept < row)
			move_row(table, kept, row);
		buckets[at] = ++kept;
	}
	table->rows = kept;
	if (buckets != few)
		free(buckets);
	return 0;
}

int pm_table_copy_row(pm_table *target, const pm_table *source, uint32_t row)
{
	const pm_row_labels *labels = &source->labels[row];

	if (pm_table_clear_to(target, 1) < 0)
		return -1;
	if (labels->len && pm_buffer_append(&target->arena, source->arena.data + labels->offset, labels->len) < 0)
		return -1;
	target->labels[0].len = labels->len;
	memcpy(target->cells, source->cells + (size_t)row * source->columns, source->columns * sizeof(uint64_t));
	memcpy(target->present, source->present + (size_t)row * source->words, source->words * sizeof(uint64_t));
	return 0;
}

int pm_escape(pm_buffer *buffer, const char *value, size_t len)
{
	enum { LONGEST = 5 }; /* bytes written for one byte: two backslashes, x, two digits */
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)value, *end = p + len;
	char *out;

	if (len == 0)
		return 0;
	if (len > SIZE_MAX / 16 || pm_buffer_reserve(buffer, LONGEST * len) < 0)
		return -1;
	out = buffer->data + buffer->len;
	while (p < end) {
		unsigned char c = *p;
		size_t sequence;

		if (c == '\\' || c == '"') {
			*out++ = '\\';
			*out++ = (char)c;
			p++;
		} else if (c == '\n') {
			*out++ = '\\';
			*out++ = 'n';
			p++;
		} else if (c < 0x80) {
			*out++ = (char)c;
			p++;
		} else if ((sequence = pm_utf8_length(p, (size_t)(end - p))) != 0) {
			memcpy(out, p, sequence);
			out += sequence;
			p += sequence;
		} else {
			*out++ = '\\';
			*out++ = '\\';
			*out++ = 'x';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
			p++;
		}
	}
	buffer->len = (size_t)(out - buffer->data);
	return 0;
}

int pm_label_append(pm_buffer *buffer, const char *name, size_t name_len, const char *value, size_t value_len)
{
	if (pm_buffer_append(buffer, name, name_len) < 0 || pm_buffer_append(buffer, "=\"", 2) < 0 ||
	    pm_escape(buffer, value, value_len) < 0 || pm_buffer_append(buffer, "\",", 2) < 0)
		return -1;
	return 0;
}

int pm_table_label(pm_table *table, const char *name, size_t name_len, const char *value, size_t value_len)
{
	pm_row_labels *labels = &table->labels[table->rows - 1];

	if (pm_label_append(&table->arena, name, name_len, value, value_len) < 0 || table->arena.len > UINT32_MAX)
		return -1;
	labels->len = (uint32_t)table->arena.len - labels->offset;
	return 0;
}

/* Replace the arena by one that contains only the labels of the rows. */
static int compact(pm_table *table)
{
	pm_buffer arena = {0};

	if (pm_buffer_reserve(&arena, table->arena.len - table->garbage) < 0)
		return -1;
	for (uint32_t row = 0; row < table->rows; row++) {
		pm_row_labels *labels = &table->labels[row];
		uint32_t offset = (uint32_t)arena.len;

		if (pm_buffer_append(&arena, table->arena.data + labels->offset, labels->len) < 0) {
			pm_buffer_free(&arena);
			return -1;
		}
		labels->offset = offset;
	}
	pm_buffer_free(&table->arena);
	table->arena = arena;
	table->garbage = 0;
	return 0;
}

int pm_table_relabel(pm_table *table, uint32_t row, const char *block, size_t len)
{
	enum { WORTH_COMPACTING_BYTES = 4096 };
	pm_row_labels *labels = &table->labels[row];

	if (len <= labels->len) {
		if (len)
			memcpy(table->arena.data + labels->offset, block, len);
	} else {
		size_t offset = table->arena.len;

		if (offset > UINT32_MAX || len > UINT32_MAX - offset || pm_buffer_append(&table->arena, block, len) < 0)
			return -1;
		table->garbage += len;
		labels->offset = (uint32_t)offset;
	}
	table->garbage += labels->len - len;
	labels->len = (uint32_t)len;
	if (table->arena.len > WORTH_COMPACTING_BYTES && table->garbage > table->arena.len / 2)
		return compact(table);
	return 0;
}
