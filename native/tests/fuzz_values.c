#include "fuzz.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *cursor = text;
	uint64_t value, values[2];
	int set[2];
	pm_scan_result result;

	if (pm_scan_integer(&cursor, text + size, &value)) {
		char again[32], *end;
		FUZZ_CHECK(cursor > text && cursor <= text + size);
		snprintf(again, sizeof(again), *text == '-' ? "%jd" : "%ju", (uintmax_t)value);
		FUZZ_CHECK((*text == '-' ? (uint64_t)strtoll(again, &end, 10) : strtoull(again, &end, 10)) == value);
	} else {
		FUZZ_CHECK(cursor == text);
	}
	result = pm_scan_value(text, size, &value, &set[0]);
	FUZZ_CHECK(result == PM_OK || !set[0]);
	result = pm_scan_pair(text, size, values, set);
	FUZZ_CHECK(result == PM_OK ? set[1] : !set[0] && !set[1]);
	result = pm_scan_pressure(text, size, values, set);
	FUZZ_CHECK((result == PM_EMPTY) == (size == 0));
	return 0;
}
