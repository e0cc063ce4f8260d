#include "exposition_openmetrics2.h"

#include <math.h>

#include "decimal.h"
#include "exposition_groups.h"
#include "number.h"

/* A bucket or a quantile. */
typedef struct {
	double bound;
	pm_span text; /* of the bound */
	pm_span value;
	uint32_t number; /* its place in the text */
} part;

typedef struct {
	const pm_exposition *reader;
	char start[2 * PM_DECIMAL_MAX]; /* behind a value: the time since when it counts, or nothing */
	size_t start_len;
	pm_buffer labels; /* of a sample, with braces, or nothing */
	pm_buffer number; /* a text that ends with a NUL */
	/* Of the histogram or summary that is being made. */
	uint64_t group; /* the hash of its labels; 0: there is none */
	pm_buffer group_labels;
	pm_buffer parts; /* of `part` */
	pm_span count;	 /* empty: there is none */
	pm_span sum;
	pm_exposition_groups groups;
} context;

static int put(pm_buffer *out, const char *text)
{
	return pm_buffer_append(out, text, strlen(text));
}

static int put_span(const context *at, pm_buffer *out, pm_span span)
{
	return pm_buffer_append(out, at->reader->data + span.at, span.len);
}

static pm_number_class class_of(const context *at, pm_span span)
{
	return pm_number(at->reader->data + span.at, span.len, 0);
}

/* Whether a number that was parsed is negative or not a number. */
static int is_below(const context *at, pm_span span)
{
	return at->reader->data[span.at] == '-' || class_of(at, span) == PM_NAN;
}

static int real_of(context *at, pm_span span, double *value)
{
	return pm_exposition_real(&at->number, at->reader->data + span.at, span.len, value);
}

/* Take the labels of a sample into `labels`, and its bound into `found` where it has one. The hash is that of those
 * that are not empty, and does not depend on their order. Returns 0, or -1 if out of memory. */
static int take_labels(context *at, const pm_exposition_sample *sample, uint64_t *hash, part *found)
{
	const char *data = at->reader->data, *p = data + sample->labels.at, *end = p + sample->labels.len;
	pm_family_type kind = at->reader->families[sample->family].kind;
	pm_exposition_label label;

	at->labels.len = 0;
	*hash = 1;
	while (pm_exposition_next_label(&p, end, &label)) {
		if (pm_exposition_is_bound(kind, sample->suffix, &label)) {
			found->text = (pm_span){(uint32_t)(label.value - data), (uint32_t)label.value_len};
			continue;
		}
		if (put(&at->labels, at->labels.len ? "," : "{") < 0 ||
		    pm_buffer_append(&at->labels, label.name, label.name_len) < 0 || put(&at->labels, "=\"") < 0 ||
		    pm_buffer_append(&at->labels, label.value, label.value_len) < 0 || put(&at->labels, "\"") < 0)
			return -1;
		*hash += pm_exposition_label_hash(at->reader, &label);
	}
	*hash += *hash == 0;
	return at->labels.len ? put(&at->labels, "}") : 0;
}

static int by_bound(const void *one, const void *other)
{
	const part *a = one, *b = other;

	if (a->bound != b->bound)
		return a->bound < b->bound ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* Append the buckets or quantiles in the order of their bounds. Returns 0, or -1 if out of memory. */
static int put_parts(context *at, pm_family_type kind, pm_buffer *out)
{
	part *parts = (part *)at->parts.data;
	size_t count = at->parts.len / sizeof(part);
	double before = 0;
	int some = 0;

	if (count)
		qsort(parts, count, sizeof(part), by_bound);
	if (put(out, kind == PM_HISTOGRAM ? ",bucket:[" : ",quantile:[") < 0)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (some && parts[i].bound == before)
			continue;
		if ((some && put(out, ",") < 0) ||
		    (isinf(parts[i].bound) ? put(out, "-Inf") : put_span(at, out, parts[i].text)) < 0 ||
		    put(out, ":") < 0 || put_span(at, out, parts[i].value) < 0)
			return -1;
		before = parts[i].bound;
		some = 1;
	}
	if (kind == PM_SUMMARY)
		return put(out, "]}");
	if (put(out, some ? ",+Inf:" : "+Inf:") < 0 || put_span(at, out, at->count) < 0)
		return -1;
	return put(out, "]}");
}

/* Whether the histogram or summary can be written. Returns -1 if out of memory. */
static int is_whole(context *at, pm_family_type kind)
{
	const part *parts = (const part *)at->parts.data;
	double count;

	if (at->count.len == 0 || at->sum.len == 0 || is_below(at, at->count))
		return 0;
	if (kind == PM_HISTOGRAM) {
		for (size_t i = 0; i < at->parts.len / sizeof(part); i++)
			if (is_below(at, parts[i].value))
				return 0;
		return 1;
	}
	if (real_of(at, at->count, &count) < 0)
		return -1;
	return pm_exposition_is_integer(count) && !is_below(at, at->sum);
}

/* End the histogram or summary that is being made. Returns 0, or -1 if out of memory. */
static int end_group(context *at, const pm_exposition_family *family, pm_buffer *out)
{
	int wanted = at->group ? is_whole(at, family->kind) : 0;

	at->group = 0;
	if (wanted <= 0)
		return wanted;
	if (put_span(at, out, family->name) < 0 ||
	    pm_buffer_append(out, at->group_labels.data, at->group_labels.len) < 0 || put(out, " {count:") < 0 ||
	    put_span(at, out, at->count) < 0 || put(out, ",sum:") < 0 || put_span(at, out, at->sum) < 0 ||
	    put_parts(at, family->kind, out) < 0 || pm_buffer_append(out, at->start, at->start_len) < 0)
		return -1;
	return put(out, "\n");
}

/* Begin the histogram or summary with these labels, unless there was one. */
static void begin_group(context *at, uint64_t hash)
{
	pm_buffer labels = at->group_labels;

	if (!pm_exposition_groups_add(&at->groups, hash))
		return;
	at->group = hash;
	at->group_labels = at->labels;
	at->labels = labels;
	at->parts.len = 0;
	at->count = at->sum = (pm_span){0, 0};
}

/* Remove the fraction of a count that is written as 3.0. */
static pm_span as_count(const context *at, pm_span value)
{
	const char *end = at->reader->data + value.at + value.len;

	if (value.len > 2 && end[-2] == '.' && end[-1] == '0')
		value.len -= 2;
	return value;
}

/* Add what a sample says of the histogram or summary. found: its bound. Returns 0, or -1 if out of memory. */
static int add_part(context *at, pm_family_type kind, const pm_exposition_sample *sample, part *found)
{
	pm_number_class class;

	if (sample->suffix == PM_SUM) {
		at->sum = sample->value;
		return 0;
	}
	if (sample->suffix == PM_COUNT) {
		at->count = as_count(at, sample->value);
		return 0;
	}
	class = class_of(at, found->text);
	found->value = kind == PM_HISTOGRAM ? as_count(at, sample->value) : sample->value;
	if (kind == PM_HISTOGRAM && class == PM_PLUS_INFINITY && at->count.len == 0)
		at->count = found->value; /* unless it has a count, which follows */
	if (class == PM_NAN || (kind == PM_HISTOGRAM && class == PM_PLUS_INFINITY))
		return 0;
	if (real_of(at, found->text, &found->bound) < 0)
		return -1;
	if (kind == PM_SUMMARY &&
	    (!(found->bound >= 0 && found->bound <= 1) || at->reader->data[found->value.at] == '-'))
		return 0;
	found->number = (uint32_t)(at->parts.len / sizeof(part));
	return pm_buffer_append(&at->parts, (const char *)found, sizeof(*found));
}

static int write_sample(context *at, const pm_exposition_family *family, const pm_exposition_sample *sample,
			pm_buffer *out)
{
	part found = {.bound = 0};
	uint64_t hash;

	if (take_labels(at, sample, &hash, &found) < 0)
		return -1;
	if (family->kind != PM_HISTOGRAM && family->kind != PM_SUMMARY) {
		if (family->kind == PM_COUNTER && class_of(at, sample->value) == PM_NAN)
			return 0;
		if (put_span(at, out, family->name) < 0 || pm_buffer_append(out, at->labels.data, at->labels.len) < 0 ||
		    put(out, " ") < 0 || put_span(at, out, sample->value) < 0)
			return -1;
		if (family->kind == PM_COUNTER && pm_buffer_append(out, at->start, at->start_len) < 0)
			return -1;
		return put(out, "\n");
	}
	if (hash != at->group) {
		if (end_group(at, family, out) < 0)
			return -1;
		begin_group(at, hash);
		if (at->group == 0)
			return 0;
	}
	return add_part(at, family->kind, sample, &found);
}

/* order: of the samples of the family. */
static int write_family(context *at, const pm_exposition_family *family, const pm_exposition_head *head,
			const uint32_t *order, pm_buffer *out)
{
	int is_grouped = family->kind == PM_HISTOGRAM || family->kind == PM_SUMMARY;
	size_t before = out->len, begin;

	if (pm_exposition_groups_clear(&at->groups, is_grouped ? family->samples : 0) < 0 ||
	    pm_buffer_append(out, head->data, head->len) < 0)
		return -1;
	begin = out->len;
	for (uint32_t i = 0; i < family->samples; i++) {
		const pm_exposition_sample *sample = &at->reader->samples[order[i]];

		if (!sample->repeated && write_sample(at, family, sample, out) < 0)
			return -1;
	}
	if (end_group(at, family, out) < 0)
		return -1;
	if (out->len == begin)
		out->len = before;
	return 0;
}

static void make_start(context *at, uint64_t start_ms)
{
	static const pm_scale thousandths = {.multiply = 1, .divide = 1, .decimals = 3};

	if (start_ms == 0)
		return;
	memcpy(at->start, " st@", 4);
	at->start_len = 4 + pm_decimal(at->start + 4, start_ms, &thousandths);
}

int pm_exposition_openmetrics2(const pm_exposition *reader, const pm_exposition_head *heads, uint64_t start_ms,
			       pm_buffer *out)
{
	context at = {.reader = reader};
	uint32_t *order = pm_exposition_by_family(reader), begin = 0;
	size_t start = out->len;
	int result = order ? 0 : -1;

	make_start(&at, start_ms);
	for (uint32_t i = 0; result == 0 && i < reader->family_count; i++) {
		const pm_exposition_family *family = &reader->families[i];

		if (family->samples)
			result = write_family(&at, family, &heads[i], order + begin, out);
		begin += family->samples;
	}
	if (result < 0)
		out->len = start;
	free(order);
	pm_buffer_free(&at.labels);
	pm_buffer_free(&at.number);
	pm_buffer_free(&at.group_labels);
	pm_buffer_free(&at.parts);
	free(at.groups.slots);
	return result;
}
