#include "scan.h"

enum { CPU_MAX = 1 << 20 }; /* the highest number that is taken for a CPU's */

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

static int is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static const char *skip_word(const char *p, const char *end)
{
	while (p < end && !is_blank(*p))
		p++;
	return p;
}

/* Scan the word at p, which must be an integer, and not negative if it is an amount. Returns 1 or 0. */
static int integer_word(const char *p, const char *end, int is_amount, uint64_t *value)
{
	if (is_amount && p < end && *p == '-')
		return 0;
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
		while (word < line_end && (unsigned char)*word > ' ' && *word != ':')
			word++;
		index = word > p ? pm_keys_find(keys, p, (size_t)(word - p)) : -1;
		p = line_end + 1;
		if (index < 0)
			continue;
		if (word < line_end && *word == ':')
			word++;
		word = pm_skip_blanks(word, line_end);
		for (uint32_t skipped = 1; skipped < field; skipped++)
			word = pm_skip_blanks(skip_word(word, line_end), line_end);
		if (pm_is_max(word, line_end))
			continue;
		if (!integer_word(word, line_end, keys->amounts[index], &value)) {
			result = PM_MALFORMED;
			continue;
		}
		pm_table_set(table, row, keys->columns[index], value);
		*set += 1;
	}
	return result;
}

/* Return the end of the name at `word`: the last colon of the word, because names may contain colons and old kernels
 * write a number right after it, else `end`. */
static const char *name_end(const char *word, const char *end)
{
	for (const char *p = end; p - word > 1; p--)
		if (p[-1] == ':')
			return p - 1;
	return end;
}

/* Scan one line. *row is the row that was added, or -1. */
static pm_scan_result scan_line(pm_table *table, const pm_lines *lines, const char *word, const char *line_end,
				int64_t *row)
{
	pm_scan_result result = PM_OK;
	uint32_t column = lines->column;

	for (uint32_t index = 0; (word = pm_skip_blanks(word, line_end)) < line_end; index++) {
		const char *word_end = skip_word(word, line_end);
		uint64_t value;

		if (index == lines->key) {
			const char *end = name_end(word, word_end);
			size_t len = (size_t)(end - word);

			if (lines->is_strict && end == word_end)
				return PM_MALFORMED;
			if (lines->is_excluded && lines->is_excluded(lines->state, word, len))
				return PM_OK;
			*row = pm_table_append(table, lines->parent);
			if (*row < 0 || pm_table_label(table, lines->label, lines->label_len, word, len) < 0)
				return PM_NO_MEMORY;
			if (end < word_end)
				word_end = end + 1;
		} else if (*row >= 0 && index >= lines->first && column < table->columns) {
			if (integer_word(word, word_end, 1, &value))
				pm_table_set(table, (uint32_t)*row, column, value);
			else
				result = PM_MALFORMED;
			column++;
		}
		word = word_end;
	}
	return lines->is_strict && column < table->columns ? PM_MALFORMED : result;
}

pm_scan_result pm_scan_lines(pm_table *table, const pm_lines *lines, const char *data, size_t len)
{
	const char *p = data, *end = data + len;
	pm_scan_result result = len ? PM_OK : PM_EMPTY;
	uint32_t before = table->rows, skip = lines->skip;

	while (p < end) {
		const char *line = p, *line_end = memchr(p, '\n', (size_t)(end - p));
		pm_scan_result of_line = PM_OK;
		int64_t row = -1;

		if (line_end == NULL) {
			result = PM_TRUNCATED;
			break;
		}
		p = line_end + 1;
		if (skip)
			skip--;
		else
			of_line = scan_line(table, lines, line, line_end, &row);
		if (of_line == PM_NO_MEMORY)
			return of_line;
		if (of_line != PM_OK)
			result = of_line;
	}
	return pm_table_drop_repeated(table, before) < 0 ? PM_NO_MEMORY : result;
}

pm_scan_result pm_scan_rows(pm_table *table, const char *data, size_t len, const char *label, size_t label_len,
			    uint32_t skip, uint32_t key, uint32_t first)
{
	const pm_lines lines = {
		.label = label,
		.label_len = label_len,
		.parent = PM_NO_PARENT,
		.skip = skip,
		.key = key,
		.first = first,
	};

	return pm_scan_lines(table, &lines, data, len);
}

pm_scan_result pm_scan_value(const char *data, size_t len, pm_values *out)
{
	const char *p = data, *end = data + len;

	*out = (pm_values){0};
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	if (len == 4 && memcmp(data, "max\n", 4) == 0)
		return PM_OK;
	if (!pm_scan_integer(&p, end, &out->values[0]) || p + 1 != end)
		return PM_MALFORMED;
	out->set[0] = 1;
	return PM_OK;
}

pm_scan_result pm_scan_amount(const char *data, size_t len, pm_values *out)
{
	if (len && *data == '-') {
		*out = (pm_values){0};
		return PM_MALFORMED;
	}
	return pm_scan_value(data, len, out);
}

pm_scan_result pm_scan_limit(const char *data, size_t len, pm_values *out)
{
	pm_scan_result result = pm_scan_value(data, len, out);

	if (out->values[0] > 1ull << 62)
		out->set[0] = 0;
	return result;
}

pm_scan_result pm_scan_cpu_list(const char *data, size_t len, pm_values *out)
{
	const char *p = data, *end = data + len;
	uint64_t first, last;

	*out = (pm_values){0};
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	for (end--; p < end; p++) { /* past the comma */
		if (!pm_scan_integer(&p, end, &first))
			return PM_MALFORMED;
		last = first;
		if (p < end && *p == '-' && (p++, !pm_scan_integer(&p, end, &last)))
			return PM_MALFORMED;
		if (last < first || last > CPU_MAX || (p < end && *p != ','))
			return PM_MALFORMED;
		out->values[0] += last - first + 1;
	}
	out->set[0] = 1;
	return PM_OK;
}

pm_scan_result pm_scan_pair(const char *data, size_t len, pm_values *out)
{
	const char *p = data, *end = data + len;

	*out = (pm_values){0};
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	if (len > 4 && memcmp(p, "max ", 4) == 0)
		p += 3;
	else if (pm_scan_unsigned(&p, end, &out->values[0]) && *p == ' ')
		out->set[0] = 1;
	else
		return PM_MALFORMED;
	p++;
	if (!pm_scan_unsigned(&p, end, &out->values[1]) || p + 1 != end) {
		out->set[0] = 0;
		return PM_MALFORMED;
	}
	out->set[1] = 1;
	return PM_OK;
}

pm_scan_result pm_scan_cores(const char *data, size_t len, pm_values *out)
{
	const char *p = data, *end = data + len;
	uint64_t quota = 0, period = 0, billionths;
	int is_max;

	*out = (pm_values){0};
	if (len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	is_max = len > 3 && memcmp(p, "max", 3) == 0;
	if (is_max)
		p += 3;
	else if (!pm_scan_integer(&p, end, &quota))
		return PM_MALFORMED;
	if (*p != ' ' && *p != '\n')
		return PM_MALFORMED;
	p++;
	if (!pm_scan_integer(&p, end, &period) || p + 1 != end || period == 0 || (int64_t)period < 0)
		return PM_MALFORMED;
	if (is_max || (int64_t)quota < 0 || __builtin_mul_overflow(quota, 1000000000, &billionths))
		return PM_OK;
	out->values[0] = billionths / period;
	out->set[0] = 1;
	return PM_OK;
}
