#include "loads.h"

#include <stdlib.h>
#include <string.h>

static const double NONE = -1;

struct pm_loads {
	uint32_t series;
	uint32_t rows;
	double *averages; /* of each row, one for each series; NONE: no sample yet */
};

pm_loads *pm_loads_new(uint32_t series)
{
	pm_loads *loads = calloc(1, sizeof(*loads));

	if (loads)
		loads->series = series;
	return loads;
}

void pm_loads_free(pm_loads *loads)
{
	if (loads == NULL)
		return;
	free(loads->averages);
	free(loads);
}

static double *average_of(const pm_loads *loads, uint32_t row, uint32_t series)
{
	return &loads->averages[(size_t)row * loads->series + series];
}

static void clear(pm_loads *loads, uint32_t first, uint32_t end)
{
	for (uint32_t row = first; row < end; row++)
		for (uint32_t series = 0; series < loads->series; series++)
			*average_of(loads, row, series) = NONE;
}

void pm_loads_forget(pm_loads *loads, uint32_t row)
{
	if (row < loads->rows)
		clear(loads, row, row + 1);
}

static int reserve(pm_loads *loads, uint32_t rows)
{
	size_t size = loads->rows ? loads->rows : 64;
	double *averages;
	uint32_t before = loads->rows;

	if (rows <= loads->rows)
		return 0;
	while (size < rows)
		size *= 2;
	averages = realloc(loads->averages, size * loads->series * sizeof(*averages));
	if (averages == NULL)
		return -1;
	loads->averages = averages;
	loads->rows = (uint32_t)size;
	clear(loads, before, loads->rows);
	return 0;
}

int pm_loads_take(pm_loads *loads, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows, double keep)
{
	if (reserve(loads, rows) < 0)
		return -1;
	for (uint32_t row = 0; row < rows; row++) {
		double *average = average_of(loads, row, series), value;

		if (row >= table->rows || !pm_table_has(table, row, column)) {
			*average = NONE;
			continue;
		}
		value = (double)pm_table_get(table, row, column);
		*average = *average == NONE ? value : *average * keep + value * (1 - keep);
	}
	return 0;
}

void pm_loads_write(const pm_loads *loads, uint32_t series, pm_table *table, uint32_t column)
{
	for (uint32_t row = 0; row < table->rows && row < loads->rows; row++) {
		double average = *average_of(loads, row, series);

		if (average != NONE)
			pm_table_set(table, row, column, (uint64_t)(average * 1000));
	}
}
