#include "render_openmetrics2.h"

typedef struct {
	const pm_proto_catalogue *catalogue;
	const pm_table *const *tables;
	const pm_block *parents;
	uint32_t parent_count;
} context;

static const pm_scale whole = {.multiply = 1, .divide = 1}, signed_whole = {.multiply = 1, .divide = 1, .is_signed = 1};

static inline char *put(char *p, const char *data, size_t len)
{
	if (len)
		memcpy(p, data, len);
	return p + len;
}

#define PUT(p, text) put(p, text, sizeof(text) - 1)

static inline size_t series_len(const pm_row_labels *labels, pm_block block, size_t prefix_len)
{
	return prefix_len + labels->len + block.len + 2;
}

/* Write name and labels of a row, and a space. prefix: `name{` and the constant labels, each followed by a comma. */
static inline char *put_series(char *p, const char *prefix, size_t prefix_len, const pm_table *table,
			       const pm_row_labels *labels, pm_block block)
{
	p = put(p, prefix, prefix_len);
	p = put(p, table->arena.data + labels->offset, labels->len);
	p = put(p, block.data, block.len);
	if (p[-1] == '{')
		p--; /* no labels */
	else {
		if (p[-1] == ',')
			p--; /* after the last label */
		*p++ = '}';
	}
	*p++ = ' ';
	return p;
}

static inline pm_block parent_block(const context *at, const pm_row_labels *labels)
{
	return labels->parent == PM_NO_PARENT ? (pm_block){NULL, 0} : at->parents[labels->parent];
}

static int render_values(pm_buffer *out, const context *at, const pm_sample *sample, const pm_proto_sample *proto,
			 uint64_t *lines)
{
	const pm_table *table = at->tables[sample->table];

	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		uint64_t cell, created = 0;
		pm_block block;
		char *p;

		if (!pm_row_cell(sample, table, row, &cell) || !pm_row_parent(labels, at->parents, at->parent_count))
			continue;
		block = parent_block(at, labels);
		if (pm_buffer_reserve(out, series_len(labels, block, sample->prefix_len) + 2 * PM_DECIMAL_MAX) < 0)
			return -1;
		p = put_series(out->data + out->len, sample->prefix, sample->prefix_len, table, labels, block);
		p += pm_decimal(p, cell, &sample->scale);
		if (proto->created)
			created = pm_created_at(at->catalogue, at->tables, labels);
		if (created) {
			p = PUT(p, " st@");
			p += pm_decimal(p, created, &whole);
		}
		*p++ = '\n';
		out->len = (size_t)(p - out->data);
		*lines += 1;
	}
	return 0;
}

/* Returns whether a native bucket has a count of its own. Bucket 0 is that of zero. */
static inline int is_filled(const uint64_t *counts, uint32_t buckets, uint32_t i)
{
	return i >= 1 && i < buckets && counts[i] != counts[i - 1];
}

/* Returns whether a native bucket is written: an empty one only where it is alone between two others. */
static inline int is_written(const uint64_t *counts, uint32_t buckets, uint32_t i)
{
	return is_filled(counts, buckets, i) ||
	       (is_filled(counts, buckets, i - 1) && is_filled(counts, buckets, i + 1));
}

/* Write the fields of native buckets, each field followed by a comma. counts: of the buckets, each with those before
 * it. What is above the last finite bound counts as being in the next bucket. */
static char *put_native(char *p, const pm_proto_family *family, const pm_proto_sample *first, const uint64_t *counts,
			uint32_t buckets)
{
	int64_t after = 0; /* the index behind the last span: the offset of the first one is its index */
	int some = 0;

	p = PUT(p, "schema:");
	p += pm_decimal(p, (uint64_t)(int64_t)family->schema, &signed_whole);
	p = PUT(p, ",zero_threshold:");
	p = put(p, first->composite, first->composite_len - 1);
	p = PUT(p, ",zero_count:");
	p += pm_decimal(p, counts[0], &whole);
	*p++ = ',';
	if (counts[buckets - 1] == counts[0])
		return p;
	p = PUT(p, "positive_spans:[");
	for (uint32_t i = 1; i < buckets; i++) {
		uint32_t begin = i;

		while (i < buckets && is_written(counts, buckets, i))
			i++;
		if (i == begin)
			continue;
		if (some)
			*p++ = ',';
		some = 1;
		p += pm_decimal(p, (uint64_t)(family->first + (int64_t)begin - after), &signed_whole);
		*p++ = ':';
		p += pm_decimal(p, i - begin, &whole);
		after = family->first + (int64_t)i;
	}
	p = PUT(p, "],positive_buckets:[");
	for (uint32_t i = 1; i < buckets; i++) {
		if (!is_written(counts, buckets, i))
			continue;
		p += pm_decimal(p, counts[i] - counts[i - 1], &whole);
		*p++ = ',';
	}
	p--; /* the comma behind the last bucket */
	return PUT(p, "],");
}

/* The value of one histogram, as far as its samples were seen. */
typedef struct {
	uint64_t counts[PM_NATIVE_BUCKETS];
	uint32_t buckets;
	uint32_t parts;
	const pm_proto_sample *bucket; /* the first one */
	const pm_sample *sum;
	uint64_t sum_cell;
	int is_lacking; /* a bucket */
} distribution;

static int put_histogram(pm_buffer *out, const context *at, const pm_proto_family *family, const pm_table *table,
			 const pm_row_labels *labels, const pm_proto_sample *count, uint64_t cell,
			 const distribution *found)
{
	pm_block block = parent_block(at, labels);
	size_t need = series_len(labels, block, count->composite_len) + 8 * PM_DECIMAL_MAX;
	char *p;

	for (uint32_t i = 0; i < found->buckets; i++)
		need += 2 * found->bucket[i].composite_len + 5 * PM_DECIMAL_MAX;
	if (pm_buffer_reserve(out, need) < 0)
		return -1;
	p = put_series(out->data + out->len, count->composite, count->composite_len, table, labels, block);
	p = PUT(p, "{count:");
	p += pm_decimal(p, cell, &whole);
	p = PUT(p, ",sum:");
	p += pm_decimal(p, found->sum_cell, &found->sum->scale);
	*p++ = ',';
	if (family->is_native && pm_is_ascending(found->counts, found->buckets))
		p = put_native(p, family, found->bucket, found->counts, found->buckets);
	p = PUT(p, "bucket:[");
	for (uint32_t i = 0; i < found->buckets; i++) {
		p = put(p, found->bucket[i].composite, found->bucket[i].composite_len);
		p += pm_decimal(p, found->counts[i], &whole);
		*p++ = ',';
	}
	p--; /* the comma behind the last bucket */
	p = PUT(p, "]}\n");
	out->len = (size_t)(p - out->data);
	return 0;
}

static int render_histograms(pm_buffer *out, const context *at, uint32_t index, uint64_t *lines)
{
	const pm_family *family = &at->catalogue->families[index];
	const pm_sample *samples = at->catalogue->samples + family->first;
	const pm_proto_sample *protos = at->catalogue->proto_samples + family->first;
	const pm_table *table = at->tables[samples->table];

	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		distribution found = {.buckets = 0};

		if (!pm_row_parent(labels, at->parents, at->parent_count))
			continue;
		for (uint32_t i = 0; i < family->count; i++) {
			uint64_t cell;
			int there = pm_row_cell(&samples[i], table, row, &cell);

			if (protos[i].part == PM_PROTO_BUCKET) {
				if (found.buckets == 0)
					found.bucket = &protos[i];
				if (there && found.buckets < PM_NATIVE_BUCKETS)
					found.counts[found.buckets] = cell;
				else
					found.is_lacking = 1;
				found.buckets++;
			} else if (there && protos[i].part == PM_PROTO_SUM) {
				found.sum = &samples[i];
				found.sum_cell = cell;
			}
			found.parts += (uint32_t)there;
			if (protos[i].part != PM_PROTO_COUNT)
				continue;
			/* The last bucket is that of infinity, and has the count. */
			if (there && found.sum && found.buckets && !found.is_lacking &&
			    found.counts[found.buckets - 1] == cell) {
				if (put_histogram(out, at, &at->catalogue->proto_families[index], table, labels,
						  &protos[i], cell, &found) < 0)
					return -1;
				*lines += found.parts;
			}
			found = (distribution){.buckets = 0};
		}
	}
	return 0;
}

static int render_family(pm_buffer *out, const context *at, uint32_t index, uint64_t *lines)
{
	const pm_family *family = &at->catalogue->families[index];

	for (uint32_t i = family->first; i < family->first + family->count; i++) {
		const pm_sample *sample = &at->catalogue->samples[i];

		if (at->tables[sample->table] == NULL)
			continue;
		if (family->by_row)
			return render_histograms(out, at, index, lines);
		if (render_values(out, at, sample, &at->catalogue->proto_samples[i], lines) < 0)
			return -1;
	}
	return 0;
}

int pm_render_openmetrics2(pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables,
			   const pm_block *parents, uint32_t parent_count, const unsigned char *selected,
			   uint64_t *lines)
{
	const context at = {.catalogue = catalogue, .tables = tables, .parents = parents, .parent_count = parent_count};
	size_t start = out->len;

	*lines = 0;
	for (uint32_t i = 0; i < catalogue->family_count; i++) {
		const pm_family *family = &catalogue->families[i];
		size_t before = out->len;
		uint64_t lines_before = *lines;

		if (selected && !selected[i])
			continue;
		if (pm_buffer_append(out, family->header, family->header_len) < 0 ||
		    render_family(out, &at, i, lines) < 0) {
			out->len = start;
			return -1;
		}
		if (*lines == lines_before)
			out->len = before;
	}
	return 0;
}
