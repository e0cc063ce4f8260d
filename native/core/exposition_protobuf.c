#include "exposition_protobuf.h"

#include <stdlib.h>

#include "exposition_groups.h"
#include "proto_metric.h"

typedef struct {
	const pm_exposition *reader;
	uint64_t start_ms; /* 0: not known */
	pm_buffer head;	   /* of a family */
	pm_buffer labels;  /* of a sample, as fields of a Metric */
	pm_buffer number;  /* a text that ends with a NUL */
	/* Of the histogram or summary that is being made. */
	uint64_t group; /* the hash of its labels; 0: there is none */
	pm_buffer group_labels;
	pm_buffer value;
	int is_lost; /* it cannot be written */
	pm_exposition_groups groups;
} context;

static const pm_proto_type types[] = {
	[PM_UNTYPED] = PM_PROTO_UNTYPED,     [PM_COUNTER] = PM_PROTO_COUNTER, [PM_GAUGE] = PM_PROTO_GAUGE,
	[PM_HISTOGRAM] = PM_PROTO_HISTOGRAM, [PM_SUMMARY] = PM_PROTO_SUMMARY, [PM_NO_KIND] = PM_PROTO_UNTYPED,
};

/* Take the labels of a sample into `labels`, and get its bound where it has one. The hash is that of those that are not
 * empty, and does not depend on their order. Returns 0, or -1 if out of memory. */
static int take_labels(context *at, const pm_exposition_sample *sample, uint64_t *hash, double *bound)
{
	const char *p = at->reader->data + sample->labels.at, *end = p + sample->labels.len;
	pm_family_type kind = at->reader->families[sample->family].kind;
	pm_exposition_label label;

	at->labels.len = 0;
	*hash = 1;
	while (pm_exposition_next_label(&p, end, &label)) {
		if (pm_exposition_is_bound(kind, sample->suffix, &label)) {
			if (pm_exposition_real(&at->number, label.value, label.value_len, bound) < 0)
				return -1;
			continue;
		}
		if (pm_proto_label(&at->labels, label.name, label.name_len, label.value, label.value_len) < 0)
			return -1;
		*hash += pm_exposition_label_hash(at->reader, &label);
	}
	*hash += *hash == 0;
	return 0;
}

/* Append a Metric. Returns 0, or -1 if out of memory. */
static int put_metric(pm_buffer *out, const pm_buffer *labels, int field, const char *value, size_t value_len)
{
	size_t len = labels->len + 1 + pm_varint_length(value_len) + value_len;
	char *p;

	if (pm_buffer_reserve(out, len + 1 + PM_VARINT_MAX) < 0)
		return -1;
	p = pm_put_head(out->data + out->len, PM_FAMILY_METRIC, len);
	p = pm_put_bytes(p, labels->data, labels->len);
	p = pm_put_head(p, field, value_len);
	out->len = (size_t)(pm_put_bytes(p, value, value_len) - out->data);
	return 0;
}

/* The number of bytes that put_created writes. */
enum { CREATED_MAX = 3 * (1 + PM_VARINT_MAX) };

/* Write when a value of this type was created, if it is known and the type has that. Returns the end. */
static char *put_created(char *p, pm_proto_type type, uint64_t start_ms)
{
	int field = type == PM_PROTO_COUNTER   ? PM_COUNTER_CREATED
		    : type == PM_PROTO_SUMMARY ? PM_SUMMARY_CREATED
					       : PM_HISTOGRAM_CREATED;
	char moment[CREATED_MAX], *end = moment;

	if (start_ms == 0 || type == PM_PROTO_GAUGE || type == PM_PROTO_UNTYPED)
		return p;
	end = pm_put_varint_field(end, PM_TIMESTAMP_SECONDS, start_ms / 1000);
	end = pm_put_varint_field(end, PM_TIMESTAMP_NANOS, start_ms % 1000 * 1000000);
	p = pm_put_head(p, field, (size_t)(end - moment));
	return pm_put_bytes(p, moment, (size_t)(end - moment));
}

/* Append a count, which may be no integer in text. Returns the end. */
static char *put_count(char *p, int integer, int real, double count)
{
	if (pm_exposition_is_integer(count))
		return pm_put_varint_field(p, integer, (uint64_t)count);
	return pm_put_double_field(p, real, count);
}

/* Append what a sample says of a histogram or a summary to `value`. Returns 0, or -1 if out of memory. */
static int add_part(context *at, pm_proto_type type, const pm_exposition_sample *sample, double bound, double value)
{
	char item[64], *p = item, *to;

	if (pm_buffer_reserve(&at->value, sizeof(item) + 1 + PM_VARINT_MAX) < 0)
		return -1;
	to = at->value.data + at->value.len;
	if (sample->suffix == PM_SUM) {
		to = pm_put_double_field(to, PM_SAMPLE_SUM, value);
	} else if (sample->suffix == PM_COUNT) {
		/* A summary has no field for a count that is no integer. */
		at->is_lost |= type == PM_PROTO_SUMMARY && !pm_exposition_is_integer(value);
		to = put_count(to, PM_SAMPLE_COUNT, PM_HISTOGRAM_COUNT_FLOAT, value);
	} else if (type == PM_PROTO_HISTOGRAM) {
		p = put_count(p, PM_BUCKET_COUNT, PM_BUCKET_COUNT_FLOAT, value);
		p = pm_put_double_field(p, PM_BUCKET_BOUND, bound);
		to = pm_put_head(to, PM_HISTOGRAM_BUCKET, (size_t)(p - item));
	} else {
		p = pm_put_double_field(p, PM_QUANTILE_QUANTILE, bound);
		p = pm_put_double_field(p, PM_QUANTILE_VALUE, value);
		to = pm_put_head(to, PM_SUMMARY_QUANTILE, (size_t)(p - item));
	}
	at->value.len = (size_t)(pm_put_bytes(to, item, (size_t)(p - item)) - at->value.data);
	return 0;
}

/* End the histogram or summary that is being made. Returns 0, or -1 if out of memory. */
static int end_group(context *at, pm_proto_type type, pm_buffer *out)
{
	int result = 0;

	if (at->group && !at->is_lost) {
		char *p;

		if (pm_buffer_reserve(&at->value, CREATED_MAX) < 0)
			return -1;
		p = put_created(at->value.data + at->value.len, type, at->start_ms);
		at->value.len = (size_t)(p - at->value.data);
		result = put_metric(out, &at->group_labels, pm_proto_value_field(type), at->value.data, at->value.len);
	}
	at->group = 0;
	at->is_lost = 0;
	at->value.len = 0;
	return result;
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
}

static int write_sample(context *at, pm_proto_type type, const pm_exposition_sample *sample, pm_buffer *out)
{
	char number[9 + CREATED_MAX], *p;
	double bound = 0, value;
	uint64_t hash;

	if (take_labels(at, sample, &hash, &bound) < 0 ||
	    pm_exposition_real(&at->number, at->reader->data + sample->value.at, sample->value.len, &value) < 0)
		return -1;
	if (type != PM_PROTO_HISTOGRAM && type != PM_PROTO_SUMMARY) {
		p = put_created(pm_put_double_field(number, PM_NUMBER_VALUE, value), type, at->start_ms);
		return put_metric(out, &at->labels, pm_proto_value_field(type), number, (size_t)(p - number));
	}
	if (hash != at->group) {
		if (end_group(at, type, out) < 0)
			return -1;
		begin_group(at, hash);
		if (at->group == 0)
			return 0;
	}
	return add_part(at, type, sample, bound, value);
}

/* Put the fields name, help and type of a family into `head`. Returns 0, or -1 if out of memory. */
static int make_head(context *at, const pm_exposition_family *family)
{
	const char *data = at->reader->data;
	pm_buffer *head = &at->head;
	char *p;

	at->labels.len = head->len = 0;
	if (family->has_help && pm_proto_unescape(&at->labels, data + family->help.at, family->help.len) < 0)
		return -1;
	if (pm_buffer_reserve(head, (size_t)family->name.len + at->labels.len + 4 + 2 * PM_VARINT_MAX) < 0)
		return -1;
	p = pm_put_head(head->data, PM_FAMILY_NAME, family->name.len);
	p = pm_put_bytes(p, data + family->name.at, family->name.len);
	if (family->has_help) {
		p = pm_put_head(p, PM_FAMILY_HELP, at->labels.len);
		p = pm_put_bytes(p, at->labels.data, at->labels.len);
	}
	p = pm_put_varint_field(p, PM_FAMILY_TYPE, types[family->kind]);
	head->len = (size_t)(p - head->data);
	return 0;
}

/* order: of the samples of the family. */
static int write_family(context *at, const pm_exposition_family *family, const uint32_t *order, pm_buffer *out)
{
	pm_proto_type type = types[family->kind];
	size_t start = out->len;
	int reserved;

	if (make_head(at, family) < 0 ||
	    pm_exposition_groups_clear(
		    &at->groups, type == PM_PROTO_HISTOGRAM || type == PM_PROTO_SUMMARY ? family->samples : 0) < 0)
		return -1;
	reserved = pm_proto_begin(out, 0, at->head.data, at->head.len);
	if (reserved < 0)
		return -1;
	for (uint32_t i = 0; i < family->samples; i++) {
		const pm_exposition_sample *sample = &at->reader->samples[order[i]];

		if (!sample->repeated && write_sample(at, type, sample, out) < 0)
			return -1;
	}
	if (end_group(at, type, out) < 0)
		return -1;
	if (out->len == start + (size_t)reserved + at->head.len) {
		out->len = start;
		return 0;
	}
	return pm_proto_end(out, start, reserved) < 0 ? -1 : 0;
}

static int write_families(context *at, pm_buffer *out)
{
	const pm_exposition *reader = at->reader;
	uint32_t *order = pm_exposition_by_family(reader), begin = 0;
	int result = order ? 0 : -1;

	for (uint32_t i = 0; result == 0 && i < reader->family_count; i++) {
		const pm_exposition_family *family = &reader->families[i];

		if (family->samples)
			result = write_family(at, family, order + begin, out);
		begin += family->samples;
	}
	free(order);
	return result;
}

int pm_exposition_protobuf(const pm_exposition *reader, uint64_t start_ms, pm_buffer *out)
{
	context at = {.reader = reader, .start_ms = start_ms};
	size_t start = out->len;
	int result = write_families(&at, out);

	if (result < 0)
		out->len = start;
	pm_buffer_free(&at.head);
	pm_buffer_free(&at.labels);
	pm_buffer_free(&at.number);
	pm_buffer_free(&at.group_labels);
	pm_buffer_free(&at.value);
	free(at.groups.slots);
	return result;
}
