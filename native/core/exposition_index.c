#include "exposition_index.h"

#include <stdlib.h>

#include "exposition_text.h"

/* Grow a full array of `count` items. Returns the new array, NULL if out of memory. */
static void *grown(void *array, uint32_t count, uint32_t *cap, size_t size)
{
	uint32_t wanted = *cap < 16 ? 16 : *cap > UINT32_MAX / 2 ? UINT32_MAX : *cap * 2;
	void *larger;

	if (count == UINT32_MAX)
		return NULL;
	larger = realloc(array, (size_t)wanted * size);
	if (larger)
		*cap = wanted;
	return larger;
}

static int grow_names(pm_exposition *reader)
{
	size_t slots = reader->names ? (reader->name_mask + 1) * 2 : 64;
	uint32_t *names = calloc(slots, sizeof(*names));

	if (names == NULL)
		return -2;
	reader->steps += slots;
	for (uint32_t i = 0; i < reader->family_count; i++) {
		size_t at = reader->families[i].hash & (slots - 1);

		while (names[at]) {
			reader->steps++;
			at = (at + 1) & (slots - 1);
		}
		names[at] = i + 1;
	}
	free(reader->names);
	reader->names = names;
	reader->name_mask = slots - 1;
	return 0;
}

int pm_exposition_find_family(pm_exposition *reader, const char *name, size_t len, int create, uint32_t *index)
{
	uint64_t hash = pm_hash_bytes(reader, reader->key, name, len);
	pm_exposition_family *family;
	size_t at;

	if (2 * (size_t)reader->family_count >= reader->name_mask && grow_names(reader) < 0)
		return -2;
	for (at = hash & reader->name_mask; reader->names[at]; at = (at + 1) & reader->name_mask) {
		family = &reader->families[reader->names[at] - 1];
		reader->steps++;
		if (family->hash == hash && pm_is_same(name, len, reader->data + family->name.at, family->name.len)) {
			reader->steps += len;
			*index = reader->names[at] - 1;
			return 1;
		}
	}
	if (!create)
		return 0;
	if (reader->family_count == reader->family_cap) {
		family = grown(reader->families, reader->family_count, &reader->family_cap, sizeof(*family));
		if (family == NULL)
			return -2;
		reader->families = family;
	}
	*index = reader->family_count++;
	reader->names[at] = reader->family_count;
	reader->families[*index] = (pm_exposition_family){
		.hash = hash, .name = pm_span_of(reader, name, name + len), .kind = PM_NO_KIND, .few_digits = 1};
	return 0;
}

static int grow_series(pm_exposition *reader)
{
	size_t slots = reader->series ? (reader->series_mask + 1) * 2 : 256, mask = slots - 1;
	uint64_t *series = calloc(slots, sizeof(*series));

	if (series == NULL)
		return -2;
	reader->steps += slots;
	for (size_t i = 0; reader->series && i <= reader->series_mask; i++) {
		size_t at = reader->series[i] & mask;

		if (reader->series[i] == 0)
			continue;
		while (series[at]) {
			reader->steps++;
			at = (at + 1) & mask;
		}
		series[at] = reader->series[i];
	}
	free(reader->series);
	reader->series = series;
	reader->series_mask = mask;
	return 0;
}

/* Add a series by its hash. Returns 0, 1 if it was there before, -2 if out of memory. Different series with the same
 * hash count as one. The hash has 64 bits and a secret key: that happens in one of 30 million texts with a million
 * series. */
static int remember_series(pm_exposition *reader, uint64_t hash)
{
	size_t at;

	hash += hash == 0;
	if (2 * (size_t)reader->sample_count >= reader->series_mask && grow_series(reader) < 0)
		return -2;
	for (at = hash & reader->series_mask; reader->series[at]; at = (at + 1) & reader->series_mask) {
		reader->steps++;
		if (reader->series[at] == hash)
			return 1;
	}
	reader->series[at] = hash;
	return 0;
}

static int grow_labels(pm_exposition *reader)
{
	size_t slots = reader->labels ? (reader->label_mask + 1) * 2 : 64, mask = slots - 1;
	pm_exposition_label_seen *labels = calloc(slots, sizeof(*labels));

	if (labels == NULL)
		return -2;
	reader->steps += slots;
	for (size_t i = 0; reader->labels && i <= reader->label_mask; i++) {
		size_t at = reader->labels[i].hash & mask;

		if (reader->labels[i].line != reader->label_line)
			continue;
		while (labels[at].line) {
			reader->steps++;
			at = (at + 1) & mask;
		}
		labels[at] = reader->labels[i];
	}
	free(reader->labels);
	reader->labels = labels;
	reader->label_mask = mask;
	return 0;
}

int pm_exposition_remember_label(pm_exposition *reader, uint64_t hash)
{
	size_t at;

	if (2 * reader->label_count >= reader->label_mask && grow_labels(reader) < 0)
		return -2;
	for (at = hash & reader->label_mask; reader->labels[at].line == reader->label_line;
	     at = (at + 1) & reader->label_mask) {
		reader->steps++;
		if (reader->labels[at].hash == hash)
			return 1;
	}
	reader->labels[at] = (pm_exposition_label_seen){hash, reader->label_line};
	reader->label_count++;
	return 0;
}

int pm_exposition_add_sample(pm_exposition *reader, uint32_t index, pm_suffix suffix, pm_span name,
			     const pm_exposition_line_labels *labels, pm_span value)
{
	pm_exposition_family *family = &reader->families[index];
	uint64_t identity[2] = {labels->hash, (uint64_t)index << 2 | suffix};
	pm_exposition_sample *sample;
	int known = remember_series(reader, pm_hash(reader->key, (const char *)identity, sizeof(identity)));

	if (known < 0)
		return known;
	if (known && !reader->allow_repeated) {
		if (reader->repeated.reason == PM_FINE) {
			reader->repeated = reader->problem;
			reader->repeated.reason = PM_SERIES_TWICE;
			reader->repeated.at = labels->labels;
			reader->repeated.name = name;
		}
		return 0;
	}
	if (reader->sample_count == reader->sample_cap) {
		sample = grown(reader->samples, reader->sample_count, &reader->sample_cap, sizeof(*sample));
		if (sample == NULL)
			return -2;
		reader->samples = sample;
	}
	if (family->samples++ == 0)
		family->first = reader->sample_count;
	reader->samples[reader->sample_count++] = (pm_exposition_sample){.family = index,
									 .name = name.at,
									 .labels = labels->labels,
									 .value = value,
									 .suffix = (uint8_t)suffix,
									 .repeated = (uint8_t)known};
	return 0;
}
