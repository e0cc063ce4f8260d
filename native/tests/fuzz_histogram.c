/* A histogram by rows of the input, a column in every eight bytes: each one that has a sum and a count is a message
 * with its buckets, and is also a native one if and only if its buckets can be taken for that; then these have the same
 * counts. */
#include "fuzz.h"
#include "messages.h"
#include "render_openmetrics2.h"
#include "render_protobuf.h"

enum { COLUMNS = PM_NATIVE_BUCKETS + 2 };

/* The columns of a row: the buckets, then the sum and the count. */
typedef struct {
	uint64_t cells[COLUMNS];
	uint8_t set[COLUMNS];
} row;

/* What a message says of a histogram. */
typedef struct {
	uint64_t count, zero_count, span_length, schema;
	int64_t span_offset;
	double sum, threshold;
	uint32_t bucket_count, delta_count;
	uint8_t has_sum, has_count, is_native;
	uint64_t buckets[PM_NATIVE_BUCKETS];
	double bounds[PM_NATIVE_BUCKETS];
	int64_t deltas[PM_NATIVE_BUCKETS];
} histogram;

static int64_t unzigzag(uint64_t value)
{
	return (int64_t)(value >> 1 ^ -(value & 1));
}

static double take_double(message *at)
{
	double value;

	FUZZ_CHECK(at->end - at->p >= 8);
	memcpy(&value, at->p, 8);
	at->p += 8;
	return value;
}

static message take_inside(message *at)
{
	uint64_t len = take_varint(at);
	message inside = {at->p, at->p + len};

	FUZZ_CHECK(len <= (uint64_t)(at->end - at->p));
	at->p += len;
	return inside;
}

static void take_bucket(message at, histogram *found)
{
	FUZZ_CHECK(found->bucket_count < PM_NATIVE_BUCKETS);
	FUZZ_CHECK(take_varint(&at) == (PM_BUCKET_COUNT << 3 | PM_WIRE_VARINT));
	found->buckets[found->bucket_count] = take_varint(&at);
	FUZZ_CHECK(take_varint(&at) == (PM_BUCKET_BOUND << 3 | PM_WIRE_FIXED64));
	found->bounds[found->bucket_count++] = take_double(&at);
	FUZZ_CHECK(at.p == at.end);
}

static void take_span(message at, histogram *found)
{
	FUZZ_CHECK(found->span_length == 0);
	FUZZ_CHECK(take_varint(&at) == (PM_SPAN_OFFSET << 3 | PM_WIRE_VARINT));
	found->span_offset = unzigzag(take_varint(&at));
	FUZZ_CHECK(take_varint(&at) == (PM_SPAN_LENGTH << 3 | PM_WIRE_VARINT));
	found->span_length = take_varint(&at);
	FUZZ_CHECK(at.p == at.end && found->span_length > 0);
}

static void take_histogram(message at, histogram *found)
{
	*found = (histogram){0};
	while (at.p < at.end) {
		switch (take_varint(&at)) {
		case PM_SAMPLE_COUNT << 3 | PM_WIRE_VARINT:
			found->count = take_varint(&at);
			found->has_count++;
			break;
		case PM_SAMPLE_SUM << 3 | PM_WIRE_FIXED64:
			found->sum = take_double(&at);
			found->has_sum++;
			break;
		case PM_HISTOGRAM_BUCKET << 3 | PM_WIRE_BYTES:
			take_bucket(take_inside(&at), found);
			break;
		case PM_HISTOGRAM_SCHEMA << 3 | PM_WIRE_VARINT:
			found->schema = take_varint(&at);
			found->is_native++;
			break;
		case PM_HISTOGRAM_ZERO_THRESHOLD << 3 | PM_WIRE_FIXED64:
			found->threshold = take_double(&at);
			break;
		case PM_HISTOGRAM_ZERO_COUNT << 3 | PM_WIRE_VARINT:
			found->zero_count = take_varint(&at);
			break;
		case PM_HISTOGRAM_POSITIVE_SPAN << 3 | PM_WIRE_BYTES:
			take_span(take_inside(&at), found);
			break;
		case PM_HISTOGRAM_POSITIVE_DELTA << 3 | PM_WIRE_VARINT:
			FUZZ_CHECK(found->delta_count < PM_NATIVE_BUCKETS);
			found->deltas[found->delta_count++] = unzigzag(take_varint(&at));
			break;
		default:
			FUZZ_CHECK(!"a field of a histogram");
		}
	}
}

/* Its buckets are those of the row, and all that it counts is in one of them. */
static void check_native(const histogram *found, const row *from, uint32_t buckets, const pm_proto_family *family)
{
	uint64_t total = found->zero_count, count = 0;

	FUZZ_CHECK(unzigzag(found->schema) == family->schema && found->threshold == 1);
	FUZZ_CHECK(found->zero_count == from->cells[0]);
	FUZZ_CHECK(found->span_length == found->delta_count);
	for (uint32_t i = 0; i < found->delta_count; i++) {
		int64_t at = found->span_offset - family->first + i;

		FUZZ_CHECK(at >= 1 && at < buckets);
		count += (uint64_t)found->deltas[i];
		FUZZ_CHECK(count == from->cells[at] - from->cells[at - 1]);
		FUZZ_CHECK(count > 0 || (i > 0 && i + 1 < found->delta_count));
		total += count;
	}
	FUZZ_CHECK(total == found->count);
}

static void check_histogram(message at, const row *from, uint32_t buckets, const pm_proto_family *family)
{
	int is_native = family->is_native && from->cells[buckets - 1] == from->cells[buckets + 1];
	uint32_t next = 0;
	histogram found;

	take_histogram(at, &found);
	FUZZ_CHECK(found.has_sum == 1 && found.sum == (double)from->cells[buckets]);
	FUZZ_CHECK(found.has_count == 1 && found.count == from->cells[buckets + 1]);
	for (uint32_t i = 0; i < buckets; i++) {
		is_native &= from->set[i] && (i == 0 || from->cells[i] >= from->cells[i - 1]);
		if (!from->set[i])
			continue;
		FUZZ_CHECK(next < found.bucket_count);
		FUZZ_CHECK(found.buckets[next] == from->cells[i] && found.bounds[next] == i + 1);
		next++;
	}
	FUZZ_CHECK(next == found.bucket_count && is_native == found.is_native);
	if (is_native)
		check_native(&found, from, buckets, family);
	else
		FUZZ_CHECK(found.span_length == 0 && found.delta_count == 0);
}

/* Take the columns of a row from the input. Each says in its lowest bits whether it is there, and whether a bucket
 * counts those before it. The count is often that of the last bucket. */
static void take_row(message *at, row *to, uint32_t buckets)
{
	*to = (row){0};
	for (uint32_t i = 0; i < buckets + 2; i++) {
		uint64_t word = 0;
		size_t len = at->end - at->p < 8 ? (size_t)(at->end - at->p) : 8;

		memcpy(&word, at->p, len);
		at->p += len;
		to->set[i] = (word & 7) != 7;
		to->cells[i] = word >> 3;
		if (i > 0 && i < buckets && word & 8)
			to->cells[i] = to->cells[i - 1] + (word >> 4 & 0xffff);
		if (i == buckets + 1 && word & 8)
			to->cells[i] = to->cells[buckets - 1];
		if (!to->set[i])
			to->cells[i] = 0;
	}
}

/* Returns the samples that are said of the row. */
static uint64_t fill_row(pm_table *table, const row *from, uint32_t buckets)
{
	int64_t at = pm_table_append(table, PM_NO_PARENT);
	uint64_t samples = 0;

	FUZZ_CHECK(at >= 0);
	FUZZ_CHECK(pm_table_label(table, "l", 1, "v", 1) == 0);
	for (uint32_t i = 0; i < buckets + 2; i++) {
		if (from->set[i])
			pm_table_set(table, (uint32_t)at, i, from->cells[i]);
		samples += from->set[i];
	}
	return from->set[buckets] && from->set[buckets + 1] ? samples : 0;
}

/* In OpenMetrics 2.0 there is a line for each row that has everything, with its counts at the end. */
static void check_openmetrics2(const pm_proto_catalogue *catalogue, const pm_table *const *tables, const row *rows,
			       uint32_t row_count, uint32_t buckets)
{
	static pm_buffer out;
	uint64_t lines, samples = 0;
	const char *p;

	out.len = 0;
	FUZZ_CHECK(pm_render_openmetrics2(&out, catalogue, tables, NULL, 0, NULL, &lines) == 0);
	p = out.data;
	for (uint32_t i = 0; i < row_count; i++) {
		const row *from = &rows[i];
		char last[64];
		const char *end;
		int is_whole = from->cells[buckets + 1] == from->cells[buckets - 1];

		for (uint32_t k = 0; k < buckets + 2; k++)
			is_whole &= from->set[k];
		if (!is_whole)
			continue;
		samples += buckets + 2;
		FUZZ_CHECK(p < out.data + out.len && memcmp(p, "n{l=\"v\"} {count:", 16) == 0);
		end = memchr(p, '\n', (size_t)(out.data + out.len - p));
		FUZZ_CHECK(end != NULL);
		snprintf(last, sizeof(last), "1:%llu]}", (unsigned long long)from->cells[buckets + 1]);
		FUZZ_CHECK((size_t)(end - p) > strlen(last) && memcmp(end - strlen(last), last, strlen(last)) == 0);
		p = end + 1;
	}
	FUZZ_CHECK(lines == samples && (samples == 0 ? out.len == 0 : p == out.data + out.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum { ROWS_MAX = 16 };
	static pm_table table;
	static pm_buffer out;
	static pm_sample samples[COLUMNS];
	static pm_proto_sample proto_samples[COLUMNS];
	uint32_t buckets = 1 + fuzz_byte(&data, &size) % PM_NATIVE_BUCKETS, row_count = 0;
	const pm_family family = {.count = buckets + 2, .by_row = 1};
	const pm_proto_family proto_family = {.head = "\x0a\x01n\x18\x04",
					      .head_len = 5,
					      .type = PM_PROTO_HISTOGRAM,
					      .is_native = fuzz_byte(&data, &size) % 8 != 0,
					      .schema = (int8_t)fuzz_byte(&data, &size),
					      .first = (int32_t)(fuzz_byte(&data, &size) << 24) / 3};
	const pm_proto_catalogue catalogue = {.families = &family,
					      .proto_families = &proto_family,
					      .family_count = 1,
					      .samples = samples,
					      .proto_samples = proto_samples,
					      .table_count = 1,
					      .created_table = PM_NO_COLUMN};
	const pm_table *tables[] = {&table};
	message input = {data, data + size}, at, told;
	uint64_t wanted = 0, lines;
	row rows[ROWS_MAX];

	if (table.columns == 0)
		pm_table_init(&table, COLUMNS);
	for (uint32_t i = 0; i < buckets + 2; i++) {
		samples[i] = (pm_sample){.column = i,
					 .minus = PM_NO_COLUMN,
					 .plus = PM_NO_COLUMN,
					 .when = PM_NO_COLUMN,
					 .scale = {.multiply = 1, .divide = 1}};
		proto_samples[i] = (pm_proto_sample){.part = i < buckets    ? PM_PROTO_BUCKET
							     : i == buckets ? PM_PROTO_SUM
									    : PM_PROTO_COUNT,
						     .bound = i + 1,
						     .composite = i < buckets ? "1:" : "n{",
						     .composite_len = 2};
	}
	pm_table_clear(&table);
	while (input.p < input.end && row_count < ROWS_MAX) {
		take_row(&input, &rows[row_count], buckets);
		wanted += fill_row(&table, &rows[row_count++], buckets);
	}
	check_openmetrics2(&catalogue, tables, rows, row_count, buckets);
	out.len = 0;
	FUZZ_CHECK(pm_render_protobuf(&out, &catalogue, tables, NULL, 0, NULL, &lines) == 0);
	FUZZ_CHECK(lines == wanted && (out.len > 0) == (wanted > 0));
	if (wanted == 0)
		return 0;
	at = (message){(const uint8_t *)out.data, (const uint8_t *)out.data + out.len};
	at = take_inside(&at);
	FUZZ_CHECK(at.end == (const uint8_t *)out.data + out.len && at.end - at.p > 5 &&
		   memcmp(at.p, proto_family.head, 5) == 0);
	at.p += 5;
	for (uint32_t i = 0; i < row_count; i++) {
		if (!rows[i].set[buckets] || !rows[i].set[buckets + 1])
			continue;
		FUZZ_CHECK(take_varint(&at) == (PM_FAMILY_METRIC << 3 | PM_WIRE_BYTES));
		told = take_inside(&at);
		FUZZ_CHECK(take_varint(&told) == (PM_METRIC_LABEL << 3 | PM_WIRE_BYTES));
		take_inside(&told);
		FUZZ_CHECK(take_varint(&told) == (PM_METRIC_HISTOGRAM << 3 | PM_WIRE_BYTES));
		check_histogram(take_inside(&told), &rows[i], buckets, &proto_family);
		FUZZ_CHECK(told.p == told.end);
	}
	FUZZ_CHECK(at.p == at.end);
	return 0;
}
