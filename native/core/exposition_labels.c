#include "exposition_labels.h"

#include "exposition_names.h"
#include "exposition_text.h"

int pm_exposition_next_label(const char **cursor, const char *end, pm_exposition_label *label)
{
	const char *p = *cursor;

	while (p < end && (pm_is_blank(*p) || *p == ','))
		p++;
	label->name = p;
	while (p < end && pm_is_label_char(*p))
		p++;
	label->name_len = (size_t)(p - label->name);
	while (p < end && *p != '"')
		p++;
	if (p == end)
		return 0;
	label->value = ++p;
	while (p < end && *p != '"')
		p += *p == '\\' ? 2 : 1;
	if (p >= end)
		return 0;
	label->value_len = (size_t)(p - label->value);
	*cursor = p + 1;
	return 1;
}

/* Remove all prefixes exported_ from a name. Returns their number. */
static unsigned exported_times(const char **name, size_t *len)
{
	unsigned times = 0;

	while (*len > PM_EXPORTED && memcmp(*name, pm_exported, PM_EXPORTED) == 0) {
		*name += PM_EXPORTED;
		*len -= PM_EXPORTED;
		times++;
	}
	return times;
}

enum { TAKEN_MAX = 8 };

/* Choose for each taken name how many prefixes exported_ it needs; 0 if no sample has a label with the name. */
static void choose_names(const pm_exposition *reader, const pm_exposition_family *family,
			 const pm_exposition_taken *taken, size_t taken_count, unsigned chosen[TAKEN_MAX])
{
	uint32_t there[TAKEN_MAX] = {0};

	for (uint32_t i = family->first; i < family->first + family->samples; i++) {
		const char *p = reader->data + reader->samples[i].labels.at, *end = p + reader->samples[i].labels.len;
		pm_exposition_label label;

		while (pm_exposition_next_label(&p, end, &label)) {
			unsigned times = exported_times(&label.name, &label.name_len);

			for (size_t k = 0; k < taken_count; k++)
				if (pm_is_same(label.name, label.name_len, taken[k].name, taken[k].len))
					there[k] |= UINT32_C(1) << times;
		}
	}
	for (size_t k = 0; k < taken_count; k++) {
		chosen[k] = there[k] & 1;
		while (chosen[k] && there[k] >> chosen[k] & 1)
			chosen[k]++;
	}
}

static int append_renamed(pm_buffer *out, const char *p, const char *end, const pm_exposition_taken *taken,
			  size_t taken_count, const unsigned chosen[TAKEN_MAX])
{
	const char *copied = p;
	pm_exposition_label label;

	while (pm_exposition_next_label(&p, end, &label)) {
		for (size_t k = 0; k < taken_count; k++) {
			if (!pm_is_same(label.name, label.name_len, taken[k].name, taken[k].len))
				continue;
			if (pm_buffer_append(out, copied, (size_t)(label.name - copied)) < 0)
				return -1;
			copied = label.name;
			for (unsigned i = 0; i < chosen[k]; i++)
				if (pm_buffer_append(out, pm_exported, PM_EXPORTED) < 0)
					return -1;
		}
	}
	return pm_buffer_append(out, copied, (size_t)(end - copied));
}

int pm_exposition_labelled(const pm_exposition *reader, uint32_t index, const char *front, size_t front_len,
			   const pm_exposition_taken *taken, size_t taken_count, pm_buffer *out)
{
	const pm_exposition_family *family = &reader->families[index];
	unsigned chosen[TAKEN_MAX], renames = 0;

	choose_names(reader, family, taken, taken_count, chosen);
	for (size_t k = 0; k < taken_count; k++)
		renames += chosen[k];
	for (uint32_t i = family->first; i < family->first + family->samples; i++) {
		const pm_exposition_sample *sample = &reader->samples[i];
		const char *name = reader->data + sample->name, *labels = reader->data + sample->labels.at;
		size_t name_len = family->name.len + pm_suffix_lengths[sample->suffix];

		if (pm_buffer_append(out, "\n", 1) < 0 || pm_buffer_append(out, name, name_len) < 0 ||
		    pm_buffer_append(out, "{", 1) < 0 || pm_buffer_append(out, front, front_len) < 0)
			return -1;
		if (sample->labels.len &&
		    (pm_buffer_append(out, ",", 1) < 0 ||
		     (renames ? append_renamed(out, labels, labels + sample->labels.len, taken, taken_count, chosen)
			      : pm_buffer_append(out, labels, sample->labels.len)) < 0))
			return -1;
		if (pm_buffer_append(out, "} ", 2) < 0 ||
		    pm_buffer_append(out, reader->data + sample->value.at, sample->value.len) < 0)
			return -1;
	}
	return 0;
}
