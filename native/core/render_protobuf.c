#include "render_protobuf.h"

#include <stdlib.h>

#include "real.h"

/* Labels as fields of a Metric, by row of a table, or by parent. Each is encoded once for all families. */
typedef struct {
	pm_buffer data;
	size_t *ends; /* NULL: not made yet */
} label_fields;

typedef struct {
	const pm_proto_catalogue *catalogue;
	const pm_table *const *tables;
	const pm_block *parents;
	uint32_t parent_count;
	label_fields of_parents;
	label_fields *of_tables;
	pm_buffer histogram; /* the fields of the one that is being made */
} context;

static int encode_parents(context *at)
{
	label_fields *made = &at->of_parents;

	made->ends = malloc(((size_t)at->parent_count + 1) * sizeof(*made->ends));
	if (made->ends == NULL)
		return -1;
	for (uint32_t i = 0; i < at->parent_count; i++) {
		if (at->parents[i].data && pm_proto_labels(&made->data, at->parents[i].data, at->parents[i].len) < 0)
			return -1;
		made->ends[i] = made->data.len;
	}
	return 0;
}

static int encode_rows(label_fields *made, const pm_table *table)
{
	made->ends = malloc(((size_t)table->rows + 1) * sizeof(*made->ends));
	if (made->ends == NULL)
		return -1;
	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];

		if (labels->len && pm_proto_labels(&made->data, table->arena.data + labels->offset, labels->len) < 0)
			return -1;
		made->ends[row] = made->data.len;
	}
	return 0;
}

/* The labels of a table or of the parents at an index. */
static inline pm_block fields_at(const label_fields *made, uint32_t at)
{
	size_t begin = at ? made->ends[at - 1] : 0, len = made->ends[at] - begin;

	return len ? (pm_block){made->data.data + begin, (uint32_t)len} : (pm_block){NULL, 0};
}

static inline pm_block parent_fields(const context *at, const pm_row_labels *labels)
{
	return labels->parent == PM_NO_PARENT ? (pm_block){NULL, 0} : fields_at(&at->of_parents, labels->parent);
}

/* Append a Metric up to its value, whose length is `value_len`, and reserve room for that. NULL if out of memory. */
static inline char *begin_metric(pm_buffer *out, const pm_proto_sample *proto, pm_block own, pm_block parent, int field,
				 size_t value_len)
{
	size_t len = (size_t)proto->labels_len + own.len + parent.len + 1 + pm_varint_length(value_len) + value_len;
	char *p;

	if (pm_buffer_reserve(out, len + 1 + PM_VARINT_MAX) < 0)
		return NULL;
	p = pm_put_head(out->data + out->len, PM_FAMILY_METRIC, len);
	p = pm_put_bytes(p, proto->labels, proto->labels_len);
	p = pm_put_bytes(p, own.data, own.len);
	p = pm_put_bytes(p, parent.data, parent.len);
	return pm_put_head(p, field, value_len);
}

static int render_values(pm_buffer *out, const context *at, const pm_sample *sample, const pm_proto_sample *proto,
			 int field, uint64_t *lines)
{
	const pm_table *table = at->tables[sample->table];

	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		size_t created_len = 0, value_len = 9;
		uint64_t cell, created = 0;
		char *p;

		if (!pm_row_cell(sample, table, row, &cell) || !pm_row_parent(labels, at->parents, at->parent_count))
			continue;
		if (proto->created)
			created = pm_created_at(at->catalogue, at->tables, labels);
		if (created) {
			created_len = 1 + pm_varint_length(created);
			value_len += 2 + created_len;
		}
		p = begin_metric(out, proto, fields_at(&at->of_tables[sample->table], row), parent_fields(at, labels),
				 field, value_len);
		if (p == NULL)
			return -1;
		p = pm_put_double_field(p, PM_NUMBER_VALUE, pm_real(cell, &sample->scale));
		if (created) {
			p = pm_put_head(p, PM_COUNTER_CREATED, created_len);
			p = pm_put_varint_field(p, PM_TIMESTAMP_SECONDS, created);
		}
		out->len = (size_t)(p - out->data);
		*lines += 1;
	}
	return 0;
}

/* Append the fields of a sample to those of a histogram. Returns 0, or -1 if out of memory. */
static int add_part(pm_buffer *fields, const pm_sample *sample, const pm_proto_sample *proto, uint64_t cell)
{
	char *p;

	if (proto->part == PM_PROTO_BUCKET)
		return pm_proto_bucket(fields, proto->bound, cell);
	if (pm_buffer_reserve(fields, 1 + PM_VARINT_MAX) < 0)
		return -1;
	p = fields->data + fields->len;
	p = proto->part == PM_PROTO_SUM ? pm_put_double_field(p, PM_SAMPLE_SUM, pm_real(cell, &sample->scale))
					: pm_put_varint_field(p, PM_SAMPLE_COUNT, cell);
	fields->len = (size_t)(p - fields->data);
	return 0;
}

/* Append the fields of a native histogram. counts: of its buckets, each with those before it. What is above the last
 * finite bound counts as being in the next bucket. Returns 0, or -1 if out of memory. */
static int add_native(pm_buffer *fields, const pm_proto_family *family, double threshold, const uint64_t *counts,
		      uint32_t buckets)
{
	uint32_t begin = 1, end = buckets;
	uint64_t before = 0;
	char *p;

	while (begin < end && counts[begin] == counts[begin - 1])
		begin++;
	while (end > begin && counts[end - 1] == counts[end - 2])
		end--;
	if (pm_buffer_reserve(fields, (size_t)(buckets + 4) * (2 + PM_VARINT_MAX)) < 0)
		return -1;
	p = fields->data + fields->len;
	p = pm_put_varint_field(p, PM_HISTOGRAM_SCHEMA, pm_zigzag(family->schema));
	p = pm_put_double_field(p, PM_HISTOGRAM_ZERO_THRESHOLD, threshold);
	p = pm_put_varint_field(p, PM_HISTOGRAM_ZERO_COUNT, counts[0]);
	if (begin < end) {
		uint64_t offset = pm_zigzag(family->first + (int64_t)begin), length = end - begin;

		p = pm_put_head(p, PM_HISTOGRAM_POSITIVE_SPAN, 2 + pm_varint_length(offset) + pm_varint_length(length));
		p = pm_put_varint_field(p, PM_SPAN_OFFSET, offset);
		p = pm_put_varint_field(p, PM_SPAN_LENGTH, length);
	}
	for (uint32_t i = begin; i < end; i++) {
		uint64_t count = counts[i] - counts[i - 1];

		p = pm_put_varint_field(p, PM_HISTOGRAM_POSITIVE_DELTA, pm_zigzag((int64_t)(count - before)));
		before = count;
	}
	fields->len = (size_t)(p - fields->data);
	return 0;
}

/* A histogram without its sum or its count is left out: a reader would take that for 0. */
static int render_histograms(pm_buffer *out, context *at, uint32_t index, uint64_t *lines)
{
	const pm_family *family = &at->catalogue->families[index];
	const pm_proto_family *proto_family = &at->catalogue->proto_families[index];
	const pm_sample *samples = at->catalogue->samples + family->first;
	const pm_proto_sample *protos = at->catalogue->proto_samples + family->first;
	const pm_table *table = at->tables[samples->table];
	pm_buffer *fields = &at->histogram;

	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		uint64_t parts = 0, counts[PM_NATIVE_BUCKETS];
		uint32_t buckets = 0, missing = 0;
		int has_sum = 0;

		if (!pm_row_parent(labels, at->parents, at->parent_count))
			continue;
		fields->len = 0;
		for (uint32_t i = 0; i < family->count; i++) {
			uint64_t cell = 0;
			int there = pm_row_cell(&samples[i], table, row, &cell);

			if (there && add_part(fields, &samples[i], &protos[i], cell) < 0)
				return -1;
			if (protos[i].part == PM_PROTO_BUCKET && proto_family->is_native) {
				counts[buckets++] = cell;
				missing += !there;
			}
			parts += (uint64_t)there;
			has_sum |= there && protos[i].part == PM_PROTO_SUM;
			if (protos[i].part != PM_PROTO_COUNT)
				continue;
			if (there && has_sum && buckets && !missing && pm_is_ascending(counts, buckets) &&
			    counts[buckets - 1] == cell &&
			    add_native(fields, proto_family, protos->bound, counts, buckets) < 0)
				return -1;
			if (there && has_sum) {
				char *p = begin_metric(out, &protos[i], fields_at(&at->of_tables[samples->table], row),
						       parent_fields(at, labels), PM_METRIC_HISTOGRAM, fields->len);

				if (p == NULL)
					return -1;
				out->len = (size_t)(pm_put_bytes(p, fields->data, fields->len) - out->data);
				*lines += parts;
			}
			fields->len = 0;
			parts = 0;
			buckets = missing = 0;
			has_sum = 0;
		}
	}
	return 0;
}

static int render_family(pm_buffer *out, context *at, uint32_t index, uint64_t *lines)
{
	const pm_proto_catalogue *catalogue = at->catalogue;
	const pm_family *family = &catalogue->families[index];
	int field = pm_proto_value_field(catalogue->proto_families[index].type);

	for (uint32_t i = family->first; i < family->first + family->count; i++) {
		const pm_sample *sample = &catalogue->samples[i];
		const pm_table *table = at->tables[sample->table];
		label_fields *fields = &at->of_tables[sample->table];

		if (table == NULL)
			continue;
		if (fields->ends == NULL && encode_rows(fields, table) < 0)
			return -1;
		if (field == PM_METRIC_HISTOGRAM)
			return render_histograms(out, at, index, lines);
		if (render_values(out, at, sample, &catalogue->proto_samples[i], field, lines) < 0)
			return -1;
	}
	return 0;
}

static int render_families(pm_buffer *out, context *at, const unsigned char *selected, uint64_t *lines)
{
	const pm_proto_catalogue *catalogue = at->catalogue;
	size_t guess = 0;

	for (uint32_t i = 0; i < catalogue->family_count; i++) {
		const pm_proto_family *family = &catalogue->proto_families[i];
		size_t start = out->len;
		uint64_t lines_before = *lines;
		int reserved;
		int64_t len;

		if (selected && !selected[i])
			continue;
		reserved = pm_proto_begin(out, guess, family->head, family->head_len);
		if (reserved < 0 || render_family(out, at, i, lines) < 0)
			return -1;
		if (*lines == lines_before) {
			out->len = start;
			continue;
		}
		len = pm_proto_end(out, start, reserved);
		if (len < 0)
			return -1;
		guess = (size_t)len;
	}
	return 0;
}

int pm_render_protobuf(pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables,
		       const pm_block *parents, uint32_t parent_count, const unsigned char *selected, uint64_t *lines)
{
	context at = {.catalogue = catalogue, .tables = tables, .parents = parents, .parent_count = parent_count};
	size_t start = out->len;
	int result = -1;

	*lines = 0;
	at.of_tables = calloc((size_t)catalogue->table_count + 1, sizeof(*at.of_tables));
	if (at.of_tables && encode_parents(&at) == 0)
		result = render_families(out, &at, selected, lines);
	if (result < 0)
		out->len = start;
	for (uint32_t i = 0; at.of_tables && i < catalogue->table_count; i++) {
		pm_buffer_free(&at.of_tables[i].data);
		free(at.of_tables[i].ends);
	}
	free(at.of_tables);
	pm_buffer_free(&at.of_parents.data);
	free(at.of_parents.ends);
	pm_buffer_free(&at.histogram);
	return result;
}
