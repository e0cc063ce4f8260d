#include "exposition_loose.h"

#include "exposition_line.h"
#include "exposition_names.h"
#include "exposition_text.h"

static int loose_help(pm_exposition *reader, pm_exposition_family *family, const char *text, const char *end)
{
	if (family->has_help)
		return pm_refuse_of(reader, PM_HELP_TWICE, text, end, family->name);
	family->help = pm_span_of(reader, text, end);
	family->has_help = 1;
	return pm_exposition_check_help(reader, text, end);
}

static int loose_type(pm_exposition *reader, pm_exposition_family *family, const char *text, const char *end)
{
	pm_family_type kind = pm_exposition_type_named(reader, text, (size_t)(end - text));

	if (family->kind != PM_NO_KIND)
		return pm_refuse_of(reader, PM_TYPE_TWICE, text, end, family->name);
	if (kind == PM_NO_KIND)
		return pm_refuse_of(reader, PM_BAD_KIND, text, end, family->name);
	family->kind = (uint8_t)kind;
	return 0;
}

/* Parse a line that starts with #: HELP, TYPE or a comment. */
static int loose_metadata(pm_exposition *reader, const char *line, const char *end)
{
	const char *keyword = pm_skip_blanks(reader, line + 1, end), *name, *name_end, *text;
	uint32_t index = 0;
	int is_help;

	if (end - keyword < 5 || !pm_is_blank(keyword[4]))
		return 0;
	is_help = memcmp(keyword, "HELP", 4) == 0;
	if (!is_help && memcmp(keyword, "TYPE", 4) != 0)
		return 0;
	name = pm_skip_blanks(reader, keyword + 4, end);
	name_end = pm_skip_word(reader, name, end);
	if (name == name_end)
		return 0;
	if (pm_skip_name(reader, name, name_end) != name_end)
		return pm_refuse_of(reader, PM_BAD_METADATA, name, name_end, pm_span_of(reader, keyword, keyword + 4));
	if (pm_exposition_find_family(reader, name, (size_t)(name_end - name), 1, &index) < 0)
		return -2;
	reader->last_name.len = 0;
	text = pm_skip_blanks(reader, name_end, end);
	if (text == end)
		return 0;
	return (is_help ? loose_help : loose_type)(reader, &reader->families[index], text, end);
}

/* Find the family and the suffix of a sample's name. A new family is added if there is none. */
static int resolve(pm_exposition *reader, const char *name, size_t len, uint32_t *index, pm_suffix *suffix)
{
	int found;

	reader->steps += len;
	if (pm_is_same(name, len, reader->data + reader->last_name.at, reader->last_name.len)) {
		*index = reader->last_family;
		*suffix = (pm_suffix)reader->last_suffix;
		return 0;
	}
	*suffix = PM_BARE;
	found = pm_exposition_find_family(reader, name, len, 0, index);
	for (int tail = PM_COUNT; found == 0 && tail >= PM_BUCKET; tail--) {
		size_t tail_len = pm_suffix_lengths[tail];
		int kind;

		if (len <= tail_len || memcmp(name + len - tail_len, pm_suffixes[tail], tail_len) != 0)
			continue;
		found = pm_exposition_find_family(reader, name, len - tail_len, 0, index);
		kind = found > 0 ? reader->families[*index].kind : PM_NO_KIND;
		if (kind == PM_HISTOGRAM || (kind == PM_SUMMARY && tail != PM_BUCKET))
			*suffix = (pm_suffix)tail;
		else if (found > 0)
			found = 0;
	}
	if (found == 0)
		found = pm_exposition_find_family(reader, name, len, 1, index);
	if (found < 0)
		return found;
	if (*suffix == PM_BARE && reader->families[*index].kind == PM_NO_KIND)
		reader->families[*index].kind = PM_UNTYPED;
	reader->last_name = pm_span_of(reader, name, name + len);
	reader->last_family = *index;
	reader->last_suffix = (uint8_t)*suffix;
	return 0;
}

static int loose_sample(pm_exposition *reader, const char *line, const char *end)
{
	const char *name_end = pm_skip_name(reader, line, end), *p, *value, *value_end, *rest;
	pm_span name = pm_span_of(reader, line, name_end);
	pm_exposition_line_labels labels = {.labels = {name.at + name.len, 0}};
	const pm_exposition_family *family;
	pm_suffix suffix;
	uint32_t index;
	int result;

	if (name_end == line)
		return pm_refuse(reader, PM_BAD_NAME, line, end);
	result = resolve(reader, line, name.len, &index, &suffix);
	if (result < 0)
		return result;
	family = &reader->families[index];
	p = pm_skip_blanks(reader, name_end, end);
	if (p < end && *p == '{') {
		p++;
		result = pm_exposition_read_labels(reader, &p, end, pm_exposition_bound_name(family), &labels);
		if (result < 0)
			return result;
	}
	value = pm_skip_blanks(reader, p, end);
	value_end = pm_skip_word(reader, value, end);
	if (value == value_end)
		return pm_refuse_of(reader, PM_NOTHING, value, end, name);
	result = pm_exposition_check_number(reader, value, value_end, index);
	if (result < 0)
		return result;
	rest = pm_skip_blanks(reader, value_end, end);
	if (rest < end)
		return pm_refuse_of(reader, PM_TRAILING, rest, end, name);
	if (family->kind == PM_HISTOGRAM && suffix == PM_BARE)
		return pm_refuse_of(reader, PM_BAD_SUFFIX, line, name_end, family->name);
	result = pm_exposition_check_bound(reader, family, suffix, name, &labels);
	if (result < 0)
		return result;
	return pm_exposition_add_sample(reader, index, suffix, name, &labels, pm_span_of(reader, value, value_end));
}

int pm_exposition_loose_line(pm_exposition *reader, const char *line, const char *end)
{
	line = pm_skip_blanks(reader, line, end);
	if (line == end)
		return 0;
	return (*line == '#' ? loose_metadata : loose_sample)(reader, line, end);
}
