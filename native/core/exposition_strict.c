#include "exposition_strict.h"

#include "exposition_line.h"
#include "exposition_names.h"
#include "exposition_text.h"

/* Parse `# HELP name text` or `# TYPE name word`. */
static int strict_metadata(pm_exposition *reader, const char *line, const char *end)
{
	static const char help[] = "# HELP ", type[] = "# TYPE ";
	enum { HEAD = sizeof(help) - 1 };
	const char *name = line + HEAD, *name_end, *text;
	pm_exposition_family *family;
	uint32_t index = 0;
	pm_family_type kind;
	int found, is_help;

	if (reader->current && reader->families[reader->current - 1].samples == 0)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	if (end - line < HEAD)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	is_help = memcmp(line, help, HEAD) == 0;
	if (!is_help && memcmp(line, type, HEAD) != 0)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	name_end = pm_skip_name(reader, name, end);
	if (name_end == name || name_end == end || *name_end != ' ')
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	text = name_end + 1;
	if (is_help) {
		if (reader->pending.len || pm_exposition_check_help(reader, text, end) < 0)
			return pm_refuse(reader, PM_BAD_LINE, line, end);
		reader->pending = pm_span_of(reader, name, name_end);
		reader->pending_help = pm_span_of(reader, text, end);
		reader->current = 0;
		return 0;
	}
	kind = pm_exposition_type_named(reader, text, (size_t)(end - text));
	if (kind == PM_NO_KIND)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	reader->steps += (size_t)(name_end - name);
	if (reader->pending.len &&
	    !pm_is_same(name, (size_t)(name_end - name), reader->data + reader->pending.at, reader->pending.len))
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	found = pm_exposition_find_family(reader, name, (size_t)(name_end - name), 1, &index);
	if (found)
		return found < 0 ? found
				 : pm_refuse_of(reader, PM_FAMILY_TWICE, name, name_end,
						pm_span_of(reader, name, name_end));
	family = &reader->families[index];
	family->kind = (uint8_t)kind;
	family->has_help = reader->pending.len != 0;
	family->help = reader->pending_help;
	reader->pending.len = 0;
	reader->current = index + 1;
	return 0;
}

static int strict_suffix(const pm_exposition_family *family, const char *tail, size_t len, pm_suffix *suffix)
{
	for (int i = PM_BARE; i <= PM_COUNT; i++) {
		if (!pm_is_same(tail, len, pm_suffixes[i], pm_suffix_lengths[i]))
			continue;
		*suffix = (pm_suffix)i;
		if (family->kind == PM_HISTOGRAM)
			return i != PM_BARE;
		return i == PM_BARE || (family->kind == PM_SUMMARY && i != PM_BUCKET);
	}
	return 0;
}

static int strict_sample(pm_exposition *reader, const char *line, const char *end)
{
	const char *name_end = pm_skip_name(reader, line, end), *p = name_end;
	pm_span name = pm_span_of(reader, line, name_end);
	pm_exposition_line_labels labels = {.labels = {name.at + name.len, 0}};
	const pm_exposition_family *family;
	pm_suffix suffix = PM_BARE;
	int result;

	if (reader->current == 0 || reader->pending.len || name_end == line)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	family = &reader->families[reader->current - 1];
	reader->steps += family->name.len;
	if (name.len < family->name.len || memcmp(line, reader->data + family->name.at, family->name.len) != 0)
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	if (!strict_suffix(family, line + family->name.len, name.len - family->name.len, &suffix))
		return pm_refuse_of(reader, PM_BAD_SUFFIX, line, name_end, family->name);
	if (p < end && *p == '{') {
		p++;
		result = pm_exposition_read_labels(reader, &p, end, pm_exposition_bound_name(family), &labels);
		if (result < 0)
			return result;
	}
	if (p == end || *p != ' ')
		return pm_refuse(reader, PM_BAD_LINE, line, end);
	p++;
	result = pm_exposition_check_number(reader, p, end, reader->current - 1);
	if (result == 0)
		result = pm_exposition_check_bound(reader, family, suffix, name, &labels);
	if (result < 0)
		return result;
	return pm_exposition_add_sample(reader, reader->current - 1, suffix, name, &labels, pm_span_of(reader, p, end));
}

int pm_exposition_strict_line(pm_exposition *reader, const char *line, const char *end)
{
	return (line < end && *line == '#' ? strict_metadata : strict_sample)(reader, line, end);
}

int pm_exposition_strict_is_whole(const pm_exposition *reader)
{
	return !reader->strict || (reader->pending.len == 0 &&
				   (reader->current == 0 || reader->families[reader->current - 1].samples > 0));
}
