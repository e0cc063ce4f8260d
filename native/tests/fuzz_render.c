/* Label values by lines, a cell in every eight bytes of them: what is rendered has to be as many lines as are said, in
 * UTF-8, with every quote in its place, the same lines in OpenMetrics 2.0, and as many messages. */
#include "fuzz.h"
#include "messages.h"
#include "render_openmetrics2.h"
#include "render_protobuf.h"

static int is_utf8(const unsigned char *p, const unsigned char *end)
{
	while (p < end) {
		uint32_t code = *p, more = code < 0x80 ? 0 : code < 0xc0 ? 9 : code < 0xe0 ? 1 : code < 0xf0 ? 2 : 3;
		static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

		if (more == 9 || (uint32_t)(end - p) <= more)
			return 0;
		code &= 0xffu >> (more ? more + 2 : 0);
		for (uint32_t i = 1; i <= more; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (p[i] & 0x3f);
		}
		if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
			return 0;
		p += more + 1;
	}
	return 1;
}

static void check_line(const char *p, const char *end)
{
	int quoted = 0;

	FUZZ_CHECK(end - p > 8 && memcmp(p, "n{", 2) == 0);
	for (p += 2; p < end && (quoted || *p != '}'); p++) {
		if (quoted && *p == '\\') {
			p++;
			FUZZ_CHECK(p < end && (*p == '\\' || *p == '"' || *p == 'n'));
		} else if (*p == '"') {
			quoted = !quoted;
		}
	}
	FUZZ_CHECK(p < end && p[1] == ' ');
	for (p += 2; p < end; p++)
		FUZZ_CHECK((*p >= '0' && *p <= '9') || *p == '.' || *p == '-');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_table table;
	static pm_buffer out, again;
	static const pm_family family = {.header = "# h\n", .header_len = 4, .first = 0, .count = 1};
	pm_sample sample = {.column = 1,
			    .minus = PM_NO_COLUMN,
			    .plus = PM_NO_COLUMN,
			    .when = PM_NO_COLUMN,
			    .scale = {.multiply = 1, .divide = 1, .decimals = fuzz_byte(&data, &size) % 19},
			    .prefix = "n{c=\"1\",",
			    .prefix_len = 8,
			    .bare = "n{c=\"1\"}",
			    .bare_len = 8};
	static const pm_proto_family proto_family = {
		.head = "\x0a\x01n\x18\x03", .head_len = 5, .type = PM_PROTO_UNTYPED};
	static const pm_proto_sample proto_sample = {.created = 1};
	const pm_proto_catalogue catalogue = {.families = &family,
					      .proto_families = &proto_family,
					      .family_count = 1,
					      .samples = &sample,
					      .proto_samples = &proto_sample,
					      .table_count = 1,
					      .created_table = 0,
					      .created_column = 0};
	const pm_table *tables[] = {&table};
	const uint8_t *p = data, *end = data + size;
	uint64_t lines;
	unsigned flags = fuzz_byte(&p, &size);
	uint32_t rows = 0;

	if (table.columns == 0)
		pm_table_init(&table, 2);
	sample.scale.is_signed = flags & 1;
	if (flags & 2)
		sample.minus = 0;
	if (flags & 32)
		sample.plus = 0;
	if (flags & 4)
		sample.scale.multiply = UINT64_MAX;
	if (flags & 8)
		sample.scale.divide = 7;
	if (flags & 16)
		sample.scale.subtract = sample.scale.add = 1ull << 63;
	pm_table_clear(&table);
	while (p < end) {
		const uint8_t *line_end = memchr(p, '|', (size_t)(end - p));
		uint64_t cell = 0;

		if (line_end == NULL)
			line_end = end;
		memcpy(&cell, p, line_end - p < 8 ? (size_t)(line_end - p) : 8);
		FUZZ_CHECK(pm_table_append(&table, PM_NO_PARENT) == rows++);
		if (line_end - p != 3)
			FUZZ_CHECK(pm_table_label(&table, "l", 1, (const char *)p, (size_t)(line_end - p)) == 0);
		pm_table_set(&table, rows - 1, 0, cell / 3);
		pm_table_set(&table, rows - 1, 1, cell);
		p = line_end + (line_end < end);
	}
	out.len = 0;
	FUZZ_CHECK(pm_render(&out, &family, 1, &sample, tables, NULL, 0, NULL, &lines) == 0);
	FUZZ_CHECK(lines == rows);
	FUZZ_CHECK((out.len > 0) == (rows > 0));
	FUZZ_CHECK(is_utf8((const unsigned char *)out.data, (const unsigned char *)out.data + out.len));
	for (size_t at = rows ? 4 : 0; at < out.len; lines--) {
		const char *line = out.data + at, *newline = memchr(line, '\n', out.len - at);
		FUZZ_CHECK(newline != NULL);
		check_line(line, newline);
		at = (size_t)(newline - out.data) + 1;
	}
	FUZZ_CHECK(lines == 0);
	again.len = 0;
	FUZZ_CHECK(pm_render_openmetrics2(&again, &catalogue, tables, NULL, 0, NULL, &lines) == 0);
	FUZZ_CHECK(lines == rows && again.len == out.len && memcmp(again.data, out.data, rows ? out.len : 0) == 0);
	out.len = 0;
	FUZZ_CHECK(pm_render_protobuf(&out, &catalogue, tables, NULL, 0, NULL, &lines) == 0);
	FUZZ_CHECK(lines == rows && check_messages(out.data, out.len) == rows);
	return 0;
}
