#include "exposition.h"
#include "exposition_labels.h"
#include "exposition_names.h"
#include "hash.h"
#include "number.h"

#include "check.h"

static const uint64_t key[2] = {0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull};

/* A text in memory that ends where the text ends, read whole. */
typedef struct {
	char *data;
	pm_exposition reader;
	int result;
} reading;

static reading read_bytes(const char *text, size_t len, int strict)
{
	reading result = {.data = malloc(len ? len : 1)};

	memcpy(result.data, text, len);
	pm_exposition_init(&result.reader, result.data, len, strict, 0, key);
	result.result = pm_exposition_run(&result.reader, SIZE_MAX);
	return result;
}

static void finish(reading *read)
{
	pm_exposition_free(&read->reader);
	free(read->data);
}

static void check_refused(const char *text, size_t len, int strict, pm_exposition_reason reason, uint32_t line,
			  const char *at)
{
	reading read = read_bytes(text, len, strict);
	const pm_exposition_problem *problem = &read.reader.problem;

	CHECK_INT(read.result, -1);
	CHECK_INT(pm_exposition_run(&read.reader, SIZE_MAX), -1);
	if (problem->reason != reason)
		fprintf(stderr, "%.*s", (int)len, text);
	CHECK_INT(problem->reason, reason);
	CHECK_INT(problem->number, line);
	CHECK_TEXT(read.data + problem->at.at, problem->at.len, at);
	finish(&read);
}

static void check_accepted(const char *text, int strict, uint32_t families, uint32_t samples)
{
	reading read = read_bytes(text, strlen(text), strict);

	if (read.result != 1)
		fprintf(stderr, "%s", text);
	CHECK_INT(read.result, 1);
	CHECK_INT(read.reader.family_count, families);
	CHECK_INT(read.reader.sample_count, samples);
	finish(&read);
}

static void numbers(void)
{
	static const struct {
		const char *text;
		pm_number_class loose, strict;
	} cases[] = {
		{"0", PM_FEW_DIGITS, PM_FEW_DIGITS},
		{"-1.5e+06", PM_FEW_DIGITS, PM_FEW_DIGITS},
		{"1234567890123456789012345678901234567890", PM_FEW_DIGITS, PM_FEW_DIGITS},
		{"12345678901234567890123456789012345678901", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"+1", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1.", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{".5", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1e5", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1E+05", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1e+005", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1.7976931348623158e308", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1.7976931348623159e308", PM_TOO_LARGE, PM_TOO_LARGE},
		{"-0.00017976931348623159e312", PM_TOO_LARGE, PM_TOO_LARGE},
		{"00000000000000000000000000000e999", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"0.0e99999999999999999999999", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"1e99999999999999999999999", PM_TOO_LARGE, PM_TOO_LARGE},
		{"1e-99999999999999999999999", PM_MANY_DIGITS, PM_MANY_DIGITS},
		{"+Inf", PM_PLUS_INFINITY, PM_PLUS_INFINITY},
		{"-Inf", PM_MINUS_INFINITY, PM_MINUS_INFINITY},
		{"NaN", PM_NAN, PM_NAN},
		{"inf", PM_PLUS_INFINITY, PM_NO_NUMBER},
		{"-INFINITY", PM_MINUS_INFINITY, PM_NO_NUMBER},
		{"nan", PM_NAN, PM_NO_NUMBER},
		{"", PM_NO_NUMBER, PM_NO_NUMBER},
		{"-", PM_NO_NUMBER, PM_NO_NUMBER},
		{".", PM_NO_NUMBER, PM_NO_NUMBER},
		{"e5", PM_NO_NUMBER, PM_NO_NUMBER},
		{"1e", PM_NO_NUMBER, PM_NO_NUMBER},
		{"1e+", PM_NO_NUMBER, PM_NO_NUMBER},
		{"1_0", PM_NO_NUMBER, PM_NO_NUMBER},
		{"0x10", PM_NO_NUMBER, PM_NO_NUMBER},
		{"1e5 ", PM_NO_NUMBER, PM_NO_NUMBER},
		{"+-1", PM_NO_NUMBER, PM_NO_NUMBER},
		{"-NaN", PM_NO_NUMBER, PM_NO_NUMBER},
		{"infinit", PM_NO_NUMBER, PM_NO_NUMBER},
	};
	/* 2^1024 - 2^970, and one less. */
	static const char from[] =
		"1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070"
		"9633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447"
		"5730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904"
		"174497792";
	char text[sizeof(from) + 3];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t len = strlen(cases[i].text);

		CHECK_INT(pm_number(cases[i].text, len, 0), cases[i].loose);
		CHECK_INT(pm_number(cases[i].text, len, 1), cases[i].strict);
	}
	CHECK_INT(sizeof(from) - 1, 309);
	CHECK_INT(pm_number(from, 309, 0), PM_TOO_LARGE);
	snprintf(text, sizeof(text), "%s.0", from);
	CHECK_INT(pm_number(text, strlen(text), 0), PM_TOO_LARGE);
	snprintf(text, sizeof(text), "%.308s1.9", from);
	CHECK_INT(pm_number(text, strlen(text), 0), PM_MANY_DIGITS);
}

static void hashes(void)
{
	/* What Python says with PYTHONHASHSEED=0, where the key is all zeros. */
	static const uint64_t zero[2];
	char bytes[64];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i + 1);
	CHECK(pm_hash(zero, "a", 1) == 4644417185603328019ull);
	CHECK(pm_hash(zero, "abcdefgh", 8) == 4574395652268504554ull);
	CHECK(pm_hash(zero, "abcdefghi", 9) == 17913969820989044453ull);
	CHECK(pm_hash(zero, bytes, 64) == 12499725553723103687ull);
	CHECK(pm_hash(key, "a", 1) != pm_hash(zero, "a", 1));
}

static void spans(void)
{
	static const char text[] =
		"# HELP h x\\\\y\n# TYPE h Histogram\n h_bucket {le=\"1\", a = \"\\\"\" , }\t-inf \n";
	reading read = read_bytes(text, sizeof(text) - 1, 0);
	const pm_exposition_family *family = read.reader.families;
	const pm_exposition_sample *sample = read.reader.samples;
	const char *p = read.data + sample->labels.at, *end = p + sample->labels.len;
	pm_exposition_label label;

	CHECK_INT(read.result, 1);
	CHECK_INT(read.reader.lines, 3);
	CHECK_INT(family->kind, PM_HISTOGRAM);
	CHECK_INT(family->has_help, 1);
	CHECK_INT(family->samples, 1);
	CHECK_TEXT(read.data + family->name.at, family->name.len, "h");
	CHECK_TEXT(read.data + family->help.at, family->help.len, "x\\\\y");
	CHECK_INT(sample->suffix, PM_BUCKET);
	CHECK_TEXT(read.data + sample->value.at, sample->value.len, "-inf");
	CHECK_INT(pm_exposition_next_label(&p, end, &label), 1);
	CHECK_TEXT(label.name, label.name_len, "le");
	CHECK_TEXT(label.value, label.value_len, "1");
	CHECK_INT(pm_exposition_next_label(&p, end, &label), 1);
	CHECK_TEXT(label.name, label.name_len, "a");
	CHECK_TEXT(label.value, label.value_len, "\\\"");
	CHECK_INT(pm_exposition_next_label(&p, end, &label), 0);
	finish(&read);
}

#define LOOSE(text, reason, line, at) check_refused(text, sizeof(text) - 1, 0, reason, line, at)
#define STRICT(text, reason, line, at) check_refused(text, sizeof(text) - 1, 1, reason, line, at)
#define HISTOGRAM "# TYPE h histogram\n"
#define SUMMARY "# TYPE s summary\n"

static void loose(void)
{
	check_accepted("", 0, 0, 0);
	check_accepted("\n \t\n# a comment\n#\n# TYPE\n# HELP a\n# TYPE b gauge\n#TYPEx\n", 0, 2, 0);
	check_accepted("a+1\na{ c=\"\\n\"}1\nb{x=\"1\",}-Inf\n", 0, 2, 3);
	check_accepted("# TYPE a gauge\na 1\nb 2\na{x=\"1\"} 3\n", 0, 2, 3);
	check_accepted(HISTOGRAM "h_bucket{le=\"1e3\"} 1\nh_sum{quantile=\"x\"} 1\nh_count 1\nh_created 1\n", 0, 2, 4);
	check_accepted(SUMMARY "s{quantile=\"0.5\"} 1\ns_sum{le=\"x\"} 1\ns_count 1\ns_bucket 1\n", 0, 2, 4);
	check_accepted("a_count 1\n# TYPE a histogram\na_count{x=\"1\"} 2\n", 0, 2, 2);
	LOOSE("a 1", PM_NO_NEWLINE, 1, "a 1");
	LOOSE("b 1\na\xff 1\n", PM_NO_UTF8, 2, "\xff");
	LOOSE("a{b=\"12345678\xed\xa0\x80\"} 1\n", PM_NO_UTF8, 1, "\xed");
	LOOSE("a{b=\"12345678\0\"} 1\n", PM_NUL, 1, "");
	LOOSE("5 1\n", PM_BAD_NAME, 1, "5 1");
	LOOSE("# TYPE a-b gauge\n", PM_BAD_METADATA, 1, "a-b");
	LOOSE("# HELP a x\n# HELP a y\n", PM_HELP_TWICE, 2, "y");
	LOOSE("# TYPE a gauge\n# TYPE a gauge\n", PM_TYPE_TWICE, 2, "gauge");
	LOOSE("a 1\n# TYPE a gauge\n", PM_TYPE_TWICE, 2, "gauge");
	LOOSE("# TYPE a stateset\n", PM_BAD_KIND, 1, "stateset");
	LOOSE("# TYPE a gauge \n", PM_BAD_KIND, 1, "gauge ");
	LOOSE("# HELP a b\\\\\\t\n", PM_BAD_ESCAPE, 1, "\\t");
	LOOSE("# HELP a b\\\n", PM_BAD_ESCAPE, 1, "\\");
	LOOSE("a{b=\"1\",c} 1\n", PM_BAD_LABEL, 1, "c} 1");
	LOOSE("a{b=\"\\t\"} 1\n", PM_BAD_LABEL, 1, "b=\"\\t\"} 1");
	LOOSE("a{b=\"1\\\"} 1\n", PM_BAD_LABEL, 1, "b=\"1\\\"} 1");
	LOOSE("a{1=\"1\"} 1\n", PM_BAD_LABEL, 1, "1=\"1\"} 1");
	LOOSE("a{,} 1\n", PM_BAD_LABEL, 1, ",} 1");
	LOOSE("a{\n", PM_BAD_LABEL, 1, "");
	LOOSE("a{b=\"1\",c=\"\",b=\"2\"} 1\n", PM_LABEL_TWICE, 1, "b");
	LOOSE("a{__b=\"1\"} 1\n", PM_LABEL_RESERVED, 1, "__b");
	LOOSE("a\n", PM_NOTHING, 1, "");
	LOOSE("a one\n", PM_BAD_NUMBER, 1, "one");
	LOOSE("a 1\r\n", PM_BAD_NUMBER, 1, "1\r");
	LOOSE("a 1e309\n", PM_LARGE_NUMBER, 1, "1e309");
	LOOSE("a 1 2 3\n", PM_TRAILING, 1, "2 3");
	LOOSE(HISTOGRAM "h 1\n", PM_BAD_SUFFIX, 2, "h");
	LOOSE(HISTOGRAM "h_bucket 1\n", PM_NO_LE, 2, "");
	LOOSE(HISTOGRAM "h_bucket{le=\"x\"} 1\n", PM_NO_LE, 2, "x");
	LOOSE(HISTOGRAM "h_sum{le=\"1\"} 3\n", PM_FALSE_LE, 2, "1");
	LOOSE(HISTOGRAM "h_count{a=\"1\",le=\"\"} 3\n", PM_FALSE_LE, 2, "");
	LOOSE(SUMMARY "s 1\n", PM_NO_QUANTILE, 2, "");
	LOOSE(SUMMARY "s_sum{quantile=\"1\"} 1\n", PM_FALSE_QUANTILE, 2, "1");
	LOOSE("a 1\na 2\n", PM_SERIES_TWICE, 2, "");
	LOOSE("a{b=\"1\",c=\"2\"} 1\nd 1\na{c=\"2\",e=\"\", b=\"1\"} 1\n", PM_SERIES_TWICE, 3,
	      "c=\"2\",e=\"\", b=\"1\"");
	LOOSE(HISTOGRAM "h_sum 1\nh_count 1\nh_sum 2\n", PM_SERIES_TWICE, 4, "");
}

#define A "# HELP a A.\n# TYPE a gauge\n"

static void strict(void)
{
	check_accepted("", 1, 0, 0);
	check_accepted(A "a{} 1\n", 1, 1, 1);
	check_accepted(A "a{x=\"1\",} 2\na{x=\"} 1\"} 3\n# TYPE b untyped\nb +Inf\n", 1, 2, 3);
	check_accepted("# HELP h \n" HISTOGRAM "h_sum 1\n", 1, 1, 1);
	STRICT(A "a 1\n\n", PM_BAD_LINE, 4, "");
	STRICT(A "a  1\n", PM_BAD_NUMBER, 3, " 1");
	STRICT(A "a{ x=\"1\"} 1\n", PM_BAD_LABEL, 3, " x=\"1\"} 1");
	STRICT(A "a{x=\"1\"}1\n", PM_BAD_LINE, 3, "a{x=\"1\"}1");
	STRICT(A "ab 1\n", PM_BAD_SUFFIX, 3, "ab");
	STRICT(A "b 1\n", PM_BAD_LINE, 3, "b 1");
	STRICT(A "a 1 2\n", PM_BAD_NUMBER, 3, "1 2");
	STRICT(A "a nan\n", PM_BAD_NUMBER, 3, "nan");
	STRICT(A "a 1e309\n", PM_LARGE_NUMBER, 3, "1e309");
	STRICT(A, PM_BAD_LINE, 2, "");
	STRICT("# HELP a A.\n", PM_BAD_LINE, 1, "");
	STRICT(A "# TYPE b gauge\nb 1\n", PM_BAD_LINE, 3, "# TYPE b gauge");
	STRICT("# HELP a A.\n# HELP a A.\n", PM_BAD_LINE, 2, "# HELP a A.");
	STRICT("# HELP b A.\n# TYPE a gauge\na 1\n", PM_BAD_LINE, 2, "# TYPE a gauge");
	STRICT("# HELP a \\d\n", PM_BAD_LINE, 1, "# HELP a \\d");
	STRICT("# TYPE a GAUGE\n", PM_BAD_LINE, 1, "# TYPE a GAUGE");
	STRICT("# EOF\n", PM_BAD_LINE, 1, "# EOF");
	STRICT("#\n", PM_BAD_LINE, 1, "#");
	STRICT("a 1\n", PM_BAD_LINE, 1, "a 1");
	STRICT(A "a 1\n" A "a{x=\"1\"} 1\n", PM_FAMILY_TWICE, 5, "a");
	STRICT(A "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", PM_SERIES_TWICE, 4, "y=\"2\",x=\"1\"");
	STRICT(HISTOGRAM "h_sum{le=\"1\"} 3\n", PM_FALSE_LE, 2, "1");
	STRICT(HISTOGRAM "h_bucket{le=\"inf\"} 3\n", PM_NO_LE, 2, "inf");
	STRICT("# TYPE a summary\na_bucket 1\n", PM_BAD_SUFFIX, 2, "a_bucket");
	STRICT(A "a{exported_exported_exported_exported_exported_exported_exported_exported_x=\"1\"} 1\n", PM_BAD_LABEL,
	       3, "exported_exported_exported_exported_exported_exported_exported_exported_x=\"1\"} 1");
}

static void labelled(void)
{
	static const char text[] = A "a 1\na{node=\"n\",} 2\na{x=\",node=\",exported_node=\"e\",node=\"n\"} 3\n"
				     "# TYPE b gauge\nb{x=\"1\"} 1\nb{} 2\n";
	static const pm_exposition_taken taken[] = {{"uuid", 4}, {"node", 4}};
	reading read = read_bytes(text, sizeof(text) - 1, 1);
	pm_buffer out = {0};

	CHECK_INT(read.result, 1);
	CHECK_INT(pm_exposition_labelled(&read.reader, 0, "f=\"1\"", 5, taken, 2, &out), 0);
	CHECK_TEXT(out.data, out.len,
		   "\na{f=\"1\"} 1\na{f=\"1\",exported_exported_node=\"n\",} 2"
		   "\na{f=\"1\",x=\",node=\",exported_node=\"e\",exported_exported_node=\"n\"} 3");
	out.len = 0;
	CHECK_INT(pm_exposition_labelled(&read.reader, 1, "f=\"1\"", 5, taken, 2, &out), 0);
	CHECK_TEXT(out.data, out.len, "\nb{f=\"1\",x=\"1\"} 1\nb{f=\"1\"} 2");
	pm_buffer_free(&out);
	finish(&read);
}

/* --- time in proportion to the length --- */

enum { STEPS_PER_BYTE = 40, STEPS_OF_TABLES = 2000 };

/* The text is `head`, then `unit` so often that it is `len` bytes, then `tail`. */
static uint64_t steps_of(const char *head, const char *unit, const char *tail, size_t len, int strict)
{
	pm_buffer text = {0};
	reading read;
	uint64_t steps;

	pm_buffer_append(&text, head, strlen(head));
	for (size_t number = 0; text.len < len; number++) {
		char one[200];
		int written = snprintf(one, sizeof(one), unit, number, number);

		pm_buffer_append(&text, one, (size_t)written);
	}
	pm_buffer_append(&text, tail, strlen(tail));
	read = read_bytes(text.data, text.len, strict);
	steps = read.reader.steps;
	CHECK(read.result == 1 || read.result == -1);
	if (steps > STEPS_PER_BYTE * text.len + STEPS_OF_TABLES)
		fprintf(stderr, "%s%s...%s: %" PRIu64 " steps for %zu bytes\n", head, unit, tail, steps, text.len);
	CHECK(steps <= STEPS_PER_BYTE * text.len + STEPS_OF_TABLES);
	CHECK(steps >= read.reader.at);
	finish(&read);
	pm_buffer_free(&text);
	return steps;
}

static void steps(void)
{
	static const struct {
		const char *head, *unit, *tail;
	} texts[] = {
		{"a 1 x", " ", "y\n"},
		{"a 1", " ", "\n"},
		{"a", " ", "\n"},
		{"", " ", "a 1\n"},
		{"a{", " ", "\n"},
		{"a{x", " ", "\n"},
		{"a{x=\"1\"", " ", "}\n"},
		{"", " \n", ""},
		{"", "#", "\n"},
		{"#", " ", "HELP a b\n"},
		{"# HELP a", " ", "\\\n"},
		{"# HELP a ", "\\\\", "\n"},
		{"# HELP ", "a", "\n"},
		{"# TYPE ", "a", " gauge\n"},
		{"# TYPE a ", "gauge", "\n"},
		{"", "a", " 1\n"},
		{"", "_count", " 1\n"},
		{"", "a%zu_bucket 1\n", ""},
		{"", "# TYPE a%zu histogram\na%zu_bucket{le=\"1\"} 1\n", ""},
		{"a{x=\"", "\\\\", "\n"},
		{"a{x=\"", "\xc3\xa4", "\"} 1\n"},
		{"a{", "x=\"1\",", "\n"},
		{"a{", "x%zu=\"1\",", "} 1\n"},
		{"a{", "x%zu=\"\",", "x0=\"\"} 1\n"},
		{HISTOGRAM "h_bucket{", "x%zu=\"1\",", "le=\"1\"} 1\n"},
		{"", "a{x=\"%zu\"} 1\n", "a{x=\"0\"} 1\n"},
		{"# TYPE a gauge\n", "a{x=\"%zu\"} 1\n", ""},
		{"# TYPE a gauge\n", "a{x=\"%zu\",node=\"1\"} 1e5\n", "a x\n"},
		{"# HELP a A.\n# TYPE a gauge\n", "a{y=\"\",x=\"%zu\"} 1\n", "a{x=\"0\"} 1\n"},
		{"", "# TYPE a%zu gauge\na%zu 1\n", ""},
		{"", "# TYPE a%zu gauge\na%zu 1\n", "# TYPE a0 gauge\n"},
		{"a ", "1", "\n"},
		{"a 0.", "0", "1e308\n"},
		{"a 1e", "1", "\n"},
		{"# TYPE s summary\ns{quantile=\"0.", "1", "\"} 1\n"},
		{"a{", "exported_", "x=\"1\"} 1\n"},
		{"# TYPE a gauge\na{", "exported_", "x=\"1\"} 1\n"},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
		for (int strict = 0; strict < 2; strict++) {
			uint64_t small = steps_of(texts[i].head, texts[i].unit, texts[i].tail, 50000, strict);
			uint64_t large = steps_of(texts[i].head, texts[i].unit, texts[i].tail, 800000, strict);

			/* Sixteen times the bytes; tables grow by doubling. */
			CHECK(large <= 40 * small + STEPS_OF_TABLES);
		}
}

static void slices(void)
{
	pm_buffer text = {0};
	pm_exposition reader;
	unsigned runs = 0;
	size_t before = 0;
	int result;

	for (unsigned i = 0; i < 10000; i++) {
		char line[64];
		int written = snprintf(line, sizeof(line), "a{x=\"%u\"} 1\n", i);

		pm_buffer_append(&text, line, (size_t)written);
	}
	pm_exposition_init(&reader, text.data, text.len, 0, 0, key);
	while ((result = pm_exposition_run(&reader, 1000)) == 0) {
		CHECK(reader.at - before >= 1000 && reader.at - before < 1100);
		before = reader.at;
		runs++;
	}
	CHECK_INT(result, 1);
	CHECK(runs > text.len / 1100 - 1);
	CHECK_INT(reader.sample_count, 10000);
	CHECK_INT(pm_exposition_run(&reader, 1000), 1);
	pm_exposition_free(&reader);

	pm_buffer_append(&text, "a{x=\"7\"} 2\nb 1\n", 15);
	pm_exposition_init(&reader, text.data, text.len, 0, 1, key);
	CHECK_INT(pm_exposition_run(&reader, SIZE_MAX), 1);
	CHECK_INT(reader.sample_count, 10002);
	CHECK_INT(reader.samples[7].repeated, 0);
	CHECK_INT(reader.samples[10000].repeated, 1);
	CHECK_INT(reader.samples[10001].repeated, 0);
	pm_exposition_free(&reader);
	pm_buffer_free(&text);
}

static void labels_alone(void)
{
	static const char text[] = "a{b=\"1\", c=\"}\"}rest";
	pm_exposition reader;
	size_t at = 2;

	pm_exposition_init(&reader, text, sizeof(text) - 1, 0, 0, key);
	CHECK_INT(pm_exposition_labels(&reader, &at), 0);
	CHECK_TEXT(text + at, sizeof(text) - 1 - at, "rest");
	pm_exposition_free(&reader);
	at = 8;
	pm_exposition_init(&reader, text, 12, 0, 0, key);
	CHECK_INT(pm_exposition_labels(&reader, &at), -1);
	CHECK_INT(reader.problem.reason, PM_BAD_LABEL);
	pm_exposition_free(&reader);
}

int main(void)
{
	numbers();
	hashes();
	spans();
	loose();
	strict();
	labelled();
	slices();
	labels_alone();
	steps();
	return check_result("test_exposition");
}
