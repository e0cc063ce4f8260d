#include "exposition.h"

#include <stdlib.h>

#include "exposition_line.h"
#include "exposition_loose.h"
#include "exposition_strict.h"
#include "exposition_text.h"

void pm_exposition_init(pm_exposition *reader, const char *data, size_t len, int strict, int allow_repeated,
			const uint64_t key[2])
{
	memset(reader, 0, sizeof(*reader));
	reader->data = data;
	reader->len = len;
	reader->strict = strict;
	reader->allow_repeated = allow_repeated;
	memcpy(reader->key, key, sizeof(reader->key));
}

/* Free the hash tables, which are needed only while parsing. */
static void free_tables(pm_exposition *reader)
{
	free(reader->names);
	free(reader->series);
	free(reader->labels);
	reader->names = NULL;
	reader->series = NULL;
	reader->labels = NULL;
	reader->name_mask = reader->series_mask = reader->label_mask = 0;
}

void pm_exposition_free(pm_exposition *reader)
{
	free_tables(reader);
	free(reader->families);
	free(reader->samples);
	reader->families = NULL;
	reader->samples = NULL;
	reader->family_count = reader->sample_count = 0;
}

int pm_exposition_run(pm_exposition *reader, size_t bytes)
{
	const char *end = reader->data + reader->len;
	size_t until = bytes < reader->len - reader->at ? reader->at + bytes : reader->len;

	if (reader->problem.reason != PM_FINE)
		return -1;
	while (reader->at < until) {
		const char *line = reader->data + reader->at;
		const char *line_end = memchr(line, '\n', (size_t)(end - line));
		int result = 0;

		reader->lines++;
		reader->problem.number = reader->lines;
		reader->problem.line = pm_span_of(reader, line, line_end ? line_end : end);
		reader->steps += reader->problem.line.len + 1;
		if (line_end == NULL)
			return pm_refuse(reader, PM_NO_NEWLINE, line, end);
		result = pm_exposition_check_text(reader, line, line_end);
		if (result == 0)
			result = (reader->strict ? pm_exposition_strict_line : pm_exposition_loose_line)(reader, line,
													 line_end);
		if (result < 0)
			return result;
		reader->at = (size_t)(line_end - reader->data) + 1;
	}
	if (reader->at < reader->len)
		return 0;
	reader->problem.line = pm_span_of(reader, end, end);
	if (!pm_exposition_strict_is_whole(reader))
		return pm_refuse(reader, PM_BAD_LINE, end, end);
	free_tables(reader);
	if (reader->repeated.reason != PM_FINE) {
		reader->problem = reader->repeated;
		return -1;
	}
	return 1;
}

int pm_exposition_labels(pm_exposition *reader, size_t *at)
{
	const char *p = reader->data + *at, *end = reader->data + reader->len;
	pm_exposition_line_labels found = {.hash = 0};
	int result = pm_exposition_read_labels(reader, &p, end, NULL, &found);

	if (result == 0)
		*at = (size_t)(p - reader->data);
	return result;
}
