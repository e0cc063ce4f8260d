#include "exposition_line.h"

#include "exposition_names.h"
#include "exposition_text.h"
#include "number.h"
#include "utf8.h"

int pm_exposition_check_text(pm_exposition *reader, const char *line, const char *line_end)
{
	static const uint64_t ones = 0x0101010101010101ull, high = 0x8080808080808080ull;
	const unsigned char *p = (const unsigned char *)line, *end = (const unsigned char *)line_end;

	reader->steps += (size_t)(end - p);
	while (p < end) {
		uint64_t word;
		size_t len = 1;

		if (end - p >= 8) {
			memcpy(&word, p, 8);
			if (((word | (word - ones)) & high) == 0) {
				p += 8;
				continue;
			}
		}
		if (*p == 0)
			return pm_refuse(reader, PM_NUL, (const char *)p, (const char *)p);
		if (*p >= 0x80)
			len = pm_utf8_length(p, (size_t)(end - p));
		if (len == 0)
			return pm_refuse(reader, PM_NO_UTF8, (const char *)p, (const char *)p + 1);
		p += len;
	}
	return 0;
}

int pm_exposition_check_help(pm_exposition *reader, const char *p, const char *end)
{
	reader->steps += (size_t)(end - p);
	while (p < end && (p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
		if (end - p < 2 || (p[1] != '\\' && p[1] != 'n'))
			return pm_refuse(reader, PM_BAD_ESCAPE, p, end - p < 2 ? end : p + 2);
		p += 2;
	}
	return 0;
}

pm_family_type pm_exposition_type_named(const pm_exposition *reader, const char *word, size_t len)
{
	for (int kind = 0; kind < PM_NO_KIND; kind++) {
		const char *name = pm_family_types[kind];
		size_t i = 0;

		if (strlen(name) != len)
			continue;
		while (i < len && (word[i] == name[i] || (!reader->strict && (word[i] ^ 0x20) == name[i])))
			i++;
		if (i == len)
			return (pm_family_type)kind;
	}
	return PM_NO_KIND;
}

static int is_exported_too_often(const char *name, size_t len)
{
	int times = 0;

	while (len > PM_EXPORTED && memcmp(name, pm_exported, PM_EXPORTED) == 0 && times <= PM_EXPORTED_MAX) {
		name += PM_EXPORTED;
		len -= PM_EXPORTED;
		times++;
	}
	return times >= PM_EXPORTED_MAX;
}

/* Parse the label at *cursor. Sets the cursor to the comma or the closing brace after it. */
static int read_label(pm_exposition *reader, const char **cursor, const char *end, const char *bound_name,
		      pm_exposition_line_labels *found)
{
	const char *start = *cursor, *p = pm_skip_optional(reader, start, end), *name = p, *name_end, *value;
	uint64_t hash, value_key[2];
	int known;

	if (p < end && pm_is_letter(*p))
		while (p < end && pm_is_label_char(*p))
			p++;
	name_end = p;
	p = pm_skip_optional(reader, p, end);
	if (p == end || *p != '=' || name == name_end)
		return pm_refuse(reader, PM_BAD_LABEL, start, end);
	p = pm_skip_optional(reader, p + 1, end);
	if (p == end || *p != '"')
		return pm_refuse(reader, PM_BAD_LABEL, start, end);
	for (value = ++p; p < end && *p != '"'; p++)
		if (*p == '\\' && (++p == end || (*p != '\\' && *p != '"' && *p != 'n')))
			return pm_refuse(reader, PM_BAD_LABEL, start, end);
	if (p == end)
		return pm_refuse(reader, PM_BAD_LABEL, start, end);
	*cursor = pm_skip_optional(reader, p + 1, end);
	if (*cursor == end || (**cursor != ',' && **cursor != '}'))
		return pm_refuse(reader, PM_BAD_LABEL, start, end);
	reader->steps += (size_t)(p - name) + 1;

	if (name_end - name > 1 && name[0] == '_' && name[1] == '_')
		return pm_refuse(reader, PM_LABEL_RESERVED, name, name_end);
	if (reader->strict && is_exported_too_often(name, (size_t)(name_end - name)))
		return pm_refuse(reader, PM_BAD_LABEL, start, end);
	hash = pm_hash_bytes(reader, reader->key, name, (size_t)(name_end - name));
	known = pm_exposition_remember_label(reader, hash);
	if (known)
		return known < 0 ? known : pm_refuse(reader, PM_LABEL_TWICE, name, name_end);
	if (p > value) {
		value_key[0] = reader->key[0] ^ hash;
		value_key[1] = reader->key[1];
		found->hash += pm_hash_bytes(reader, value_key, value, (size_t)(p - value));
	}
	if (bound_name && pm_is_same(name, (size_t)(name_end - name), bound_name, strlen(bound_name))) {
		found->bound = value;
		found->bound_end = p;
	}
	return 0;
}

int pm_exposition_read_labels(pm_exposition *reader, const char **cursor, const char *end, const char *bound_name,
			      pm_exposition_line_labels *found)
{
	const char *start = *cursor, *p = start;
	int result;

	reader->label_line++;
	reader->label_count = 0;
	for (;;) {
		const char *next = pm_skip_optional(reader, p, end);

		if (next < end && *next == '}') {
			p = next;
			break;
		}
		result = read_label(reader, &p, end, bound_name, found);
		if (result < 0)
			return result;
		if (*p == '}')
			break;
		p++;
	}
	found->labels = pm_span_of(reader, start, p);
	*cursor = p + 1;
	return 0;
}

int pm_exposition_check_number(pm_exposition *reader, const char *value, const char *end, uint32_t index)
{
	pm_exposition_family *family = &reader->families[index];
	pm_number_class class = pm_number(value, (size_t)(end - value), reader->strict);

	reader->steps += 2 * (size_t)(end - value);
	if (class == PM_NO_NUMBER || class == PM_TOO_LARGE)
		return pm_refuse_of(reader, class == PM_TOO_LARGE ? PM_LARGE_NUMBER : PM_BAD_NUMBER, value, end,
				    family->name);
	family->few_digits &= class == PM_FEW_DIGITS;
	return 0;
}

const char *pm_exposition_bound_name(const pm_exposition_family *family)
{
	return family->kind == PM_HISTOGRAM ? "le" : family->kind == PM_SUMMARY ? "quantile" : NULL;
}

int pm_exposition_check_bound(pm_exposition *reader, const pm_exposition_family *family, pm_suffix suffix, pm_span name,
			      const pm_exposition_line_labels *labels)
{
	const char *at = reader->data + name.at, *bound = labels->bound ? labels->bound : at;
	const char *end = labels->bound ? labels->bound_end : at;
	int is_histogram = family->kind == PM_HISTOGRAM;
	pm_number_class class;

	if (is_histogram ? suffix != PM_BUCKET : family->kind != PM_SUMMARY || suffix != PM_BARE)
		return labels->bound
			       ? pm_refuse_of(reader, is_histogram ? PM_FALSE_LE : PM_FALSE_QUANTILE, bound, end, name)
			       : 0;
	class = pm_number(bound, (size_t)(end - bound), reader->strict);
	reader->steps += 2 * (size_t)(end - bound);
	if (class == PM_NO_NUMBER || class == PM_TOO_LARGE)
		return pm_refuse_of(reader, is_histogram ? PM_NO_LE : PM_NO_QUANTILE, bound, end, name);
	return 0;
}
