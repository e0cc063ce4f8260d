#include "fuzz.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_table table;
	uint32_t skip = fuzz_byte(&data, &size) % 4, key = fuzz_byte(&data, &size) % 4;
	uint32_t first = key + 1 + fuzz_byte(&data, &size) % 4, lines = 0;
	pm_scan_result result;

	if (table.columns == 0)
		pm_table_init(&table, 67);
	pm_table_clear(&table);
	result = pm_scan_rows(&table, (const char *)data, size, "device", 6, skip, key, first);
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	FUZZ_CHECK(table.rows <= (lines > skip ? lines - skip : 0));
	FUZZ_CHECK((result == PM_EMPTY) == (size == 0));
	FUZZ_CHECK((result == PM_TRUNCATED) == (size > 0 && data[size - 1] != '\n'));
	for (uint32_t row = 0; row < table.rows; row++)
		FUZZ_CHECK(table.labels[row].len > 9 &&
			   (size_t)table.labels[row].offset + table.labels[row].len <= table.arena.len);
	return 0;
}
