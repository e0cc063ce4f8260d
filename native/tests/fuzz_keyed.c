#include "fuzz.h"
#include "scan.h"

static const char *const names[] = {
	"anon",	     "file",	     "inactive_file", "MemTotal",     "HugePages_Total", "pgfault",
	"user_usec", "nr_throttled", "hits",	      "Active(anon)", "oom_kill",	 "some_long_key",
	"a",	     "under_oom",    "c_max"};
enum { NAMES = sizeof(names) / sizeof(*names) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint32_t columns[NAMES];
	static pm_keys keys;
	static pm_table table;
	uint32_t field = 1 + fuzz_byte(&data, &size) % 4, set = 0, cells = 0;
	pm_scan_result result;

	if (keys.count == 0) {
		for (uint32_t i = 0; i < NAMES; i++)
			columns[i] = i * 9;
		pm_table_init(&table, NAMES * 9);
		FUZZ_CHECK(pm_keys_init(&keys, names, columns, NAMES) == 0);
	}
	FUZZ_CHECK(pm_table_clear_to(&table, 2) == 0);
	result = pm_scan_keyed(&keys, (const char *)data, size, field, &table, 1, &set);
	for (uint32_t i = 0; i < NAMES * 9; i++) {
		FUZZ_CHECK(!pm_table_has(&table, 0, i));
		cells += (uint32_t)pm_table_has(&table, 1, i);
	}
	FUZZ_CHECK(cells <= set && (cells > 0) == (set > 0));
	FUZZ_CHECK((result == PM_EMPTY) == (size == 0));
	FUZZ_CHECK((result == PM_TRUNCATED) == (size > 0 && data[size - 1] != '\n'));
	return 0;
}
