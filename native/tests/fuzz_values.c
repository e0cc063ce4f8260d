#include "fuzz.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *cursor = text;
	uint64_t value;
	pm_values out;
	pm_scan_result result;

	if (pm_scan_integer(&cursor, text + size, &value)) {
		char again[32], *end;
		FUZZ_CHECK(cursor > text && cursor <= text + size);
		snprintf(again, sizeof(again), *text == '-' ? "%jd" : "%ju", (uintmax_t)value);
		FUZZ_CHECK((*text == '-' ? (uint64_t)strtoll(again, &end, 10) : strtoull(again, &end, 10)) == value);
	} else {
		FUZZ_CHECK(cursor == text);
	}
	result = pm_scan_value(text, size, &out);
	FUZZ_CHECK(result == PM_OK || !out.set[0]);
	result = pm_scan_limit(text, size, &out);
	FUZZ_CHECK((result == PM_OK && out.values[0] <= 1ull << 62) || !out.set[0]);
	result = pm_scan_pair(text, size, &out);
	FUZZ_CHECK(result == PM_OK ? out.set[1] : !out.set[0] && !out.set[1]);
	return 0;
}
