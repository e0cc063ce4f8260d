/* A text of others in both dialects: any bytes are read in time in proportion to their length, in one piece as in many,
 * and what was read strictly is read again when labels are put in front. What was read can be written in protocol
 * buffers and in OpenMetrics 2.0. */
#include "exposition.h"
#include "exposition_labels.h"
#include "exposition_names.h"
#include "exposition_openmetrics2.h"
#include "exposition_protobuf.h"
#include "fuzz.h"
#include "messages.h"

static const uint64_t key[2] = {1, 2};

static void check_places(const pm_exposition *reader)
{
	for (uint32_t i = 0; i < reader->sample_count; i++) {
		const pm_exposition_sample *sample = &reader->samples[i];
		const char *p = reader->data + sample->labels.at, *end = p + sample->labels.len;
		pm_exposition_label label;

		FUZZ_CHECK(sample->family < reader->family_count);
		FUZZ_CHECK((size_t)sample->value.at + sample->value.len <= reader->len && sample->value.len > 0);
		FUZZ_CHECK((size_t)sample->labels.at + sample->labels.len <= reader->len);
		while (pm_exposition_next_label(&p, end, &label)) {
			FUZZ_CHECK(label.name >= reader->data && label.name_len > 0);
			FUZZ_CHECK(label.value + label.value_len < end && p <= end);
		}
	}
}

/* The family with labels in front of its own is an exposition again. */
static void check_labelled(const pm_exposition *reader, uint32_t index)
{
	static const char front[] = "a=\"1\",node=\"n\"";
	static const pm_exposition_taken taken[] = {{"a", 1}, {"node", 4}};
	const pm_exposition_family *family = &reader->families[index];
	pm_buffer out = {0};
	pm_exposition again;

	FUZZ_CHECK(pm_buffer_append(&out, "# TYPE ", 7) == 0);
	FUZZ_CHECK(pm_buffer_append(&out, reader->data + family->name.at, family->name.len) == 0);
	FUZZ_CHECK(pm_buffer_append(&out, " ", 1) == 0);
	FUZZ_CHECK(pm_buffer_append(&out, pm_family_types[family->kind], strlen(pm_family_types[family->kind])) == 0);
	FUZZ_CHECK(pm_exposition_labelled(reader, index, front, sizeof(front) - 1, taken, 2, &out) == 0);
	FUZZ_CHECK(pm_buffer_append(&out, "\n", 1) == 0);
	pm_exposition_init(&again, out.data, out.len, 1, 0, key);
	if (pm_exposition_run(&again, SIZE_MAX) != 1)
		FUZZ_CHECK(again.problem.reason == PM_BAD_LABEL && memmem(out.data, out.len, "exported_", 9));
	else
		FUZZ_CHECK(again.sample_count == family->samples);
	pm_exposition_free(&again);
	pm_buffer_free(&out);
}

/* A text that is fine is as well-formed in protocol buffers, with a message for each sample that belongs to no
 * histogram and no summary. */
static void check_protobuf(const pm_exposition *reader)
{
	pm_buffer out = {0};
	uint64_t alone = 0;

	for (uint32_t i = 0; i < reader->sample_count; i++) {
		uint8_t kind = reader->families[reader->samples[i].family].kind;

		alone += !reader->samples[i].repeated && kind != PM_HISTOGRAM && kind != PM_SUMMARY;
	}
	FUZZ_CHECK(pm_exposition_protobuf(reader, reader->len % 5, &out) == 0);
	FUZZ_CHECK(check_messages(out.data, out.len) >= alone);
	FUZZ_CHECK(out.len <= 8 * reader->len + 64);
	pm_buffer_free(&out);
}

/* It is as many lines in OpenMetrics 2.0, but for what that does not allow and what it writes in one. */
static void check_openmetrics2(const pm_exposition *reader)
{
	pm_exposition_head *heads = calloc(reader->family_count + 1, sizeof(*heads));
	uint32_t alone = 0, lines = 0;
	pm_buffer out = {0};

	for (uint32_t i = 0; i < reader->sample_count; i++) {
		uint8_t kind = reader->families[reader->samples[i].family].kind;

		alone += !reader->samples[i].repeated && kind != PM_HISTOGRAM && kind != PM_SUMMARY &&
			 kind != PM_COUNTER;
	}
	FUZZ_CHECK(heads && pm_exposition_openmetrics2(reader, heads, reader->len % 3, &out) == 0);
	for (size_t i = 0; i < out.len; i++)
		lines += out.data[i] == '\n';
	FUZZ_CHECK(lines >= alone && lines <= reader->sample_count);
	FUZZ_CHECK(out.len == 0 || out.data[out.len - 1] == '\n');
	FUZZ_CHECK(out.len <= 8 * reader->len + 64);
	pm_buffer_free(&out);
	free(heads);
}

static void check(const char *data, size_t size, int strict, int allow_repeated)
{
	pm_exposition whole, sliced;
	int result, sliced_result;

	pm_exposition_init(&whole, data, size, strict, allow_repeated, key);
	result = pm_exposition_run(&whole, SIZE_MAX);
	FUZZ_CHECK(result == 1 || result == -1);
	FUZZ_CHECK((result == 1) == (whole.problem.reason == PM_FINE));
	FUZZ_CHECK(whole.steps <= 40 * (uint64_t)size + 2000);
	FUZZ_CHECK((size_t)whole.problem.at.at + whole.problem.at.len <= size);
	FUZZ_CHECK((size_t)whole.problem.name.at + whole.problem.name.len <= size);
	pm_exposition_init(&sliced, data, size, strict, allow_repeated, key);
	do
		sliced_result = pm_exposition_run(&sliced, 5);
	while (sliced_result == 0);
	FUZZ_CHECK(result == sliced_result && whole.sample_count == sliced.sample_count);
	FUZZ_CHECK(whole.steps == sliced.steps && whole.problem.reason == sliced.problem.reason);
	check_places(&whole);
	if (result == 1) {
		check_protobuf(&whole);
		check_openmetrics2(&whole);
	}
	for (uint32_t i = 0; strict && result == 1 && i < whole.family_count; i++)
		check_labelled(&whole, i);
	pm_exposition_free(&whole);
	pm_exposition_free(&sliced);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	check((const char *)data, size, 0, 0);
	check((const char *)data, size, 0, 1);
	check((const char *)data, size, 1, 0);
	return 0;
}
