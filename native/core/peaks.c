#include "peaks.h"

#include <stdlib.h>
#include <string.h>

static const int64_t SECOND_NS = 1000000000;
static const float NO_RATE = -1;

/* Of one counter of one container. */
typedef struct {
	uint64_t value;
	int64_t taken_ns; /* 0: never */
	uint64_t sum;	  /* of the sample that is being taken */
	int is_there;	  /* in it */
	float rates[PM_PEAKS_SECONDS];
	uint32_t seconds[PM_PEAKS_SECONDS]; /* when each rate was taken; another than expected: it is old */
} counter;

struct pm_peaks {
	uint32_t series;
	uint32_t rows;
	counter *counters; /* of each row, one for each series */
};

pm_peaks *pm_peaks_new(uint32_t series)
{
	pm_peaks *peaks = calloc(1, sizeof(*peaks));

	if (peaks)
		peaks->series = series;
	return peaks;
}

void pm_peaks_free(pm_peaks *peaks)
{
	if (peaks == NULL)
		return;
	free(peaks->counters);
	free(peaks);
}

static counter *counter_of(const pm_peaks *peaks, uint32_t row, uint32_t series)
{
	return &peaks->counters[(size_t)row * peaks->series + series];
}

void pm_peaks_forget(pm_peaks *peaks, uint32_t row)
{
	if (row < peaks->rows)
		memset(counter_of(peaks, row, 0), 0, peaks->series * sizeof(counter));
}

static int reserve(pm_peaks *peaks, uint32_t rows)
{
	size_t size = peaks->rows ? peaks->rows : 64;
	counter *counters;

	if (rows <= peaks->rows)
		return 0;
	while (size < rows)
		size *= 2;
	counters = realloc(peaks->counters, size * peaks->series * sizeof(*counters));
	if (counters == NULL)
		return -1;
	memset(counters + (size_t)peaks->rows * peaks->series, 0,
	       (size - peaks->rows) * peaks->series * sizeof(*counters));
	peaks->counters = counters;
	peaks->rows = (uint32_t)size;
	return 0;
}

static void note(counter *of, int64_t now_ns, double scale)
{
	int64_t passed_ns = now_ns - of->taken_ns;
	uint32_t second = (uint32_t)(now_ns / SECOND_NS), slot = second % PM_PEAKS_SECONDS;
	float rate = NO_RATE;

	if (of->taken_ns && passed_ns < PM_PEAKS_LEAST_NS)
		return;
	if (of->taken_ns && passed_ns <= PM_PEAKS_MOST_NS && of->sum >= of->value)
		rate = (float)((double)(of->sum - of->value) * scale * (double)SECOND_NS / (double)passed_ns);
	if (rate != NO_RATE && (of->seconds[slot] != second || rate > of->rates[slot])) {
		of->rates[slot] = rate;
		of->seconds[slot] = second;
	}
	of->value = of->sum;
	of->taken_ns = now_ns;
}

int pm_peaks_take(pm_peaks *peaks, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows,
		  int64_t now_ns, double scale)
{
	if (reserve(peaks, rows) < 0)
		return -1;
	for (uint32_t row = 0; row < rows; row++) {
		counter_of(peaks, row, series)->sum = 0;
		counter_of(peaks, row, series)->is_there = 0;
	}
	for (uint32_t i = 0; i < table->rows; i++) {
		uint32_t row = table->labels[i].parent;

		if (row >= rows || !pm_table_has(table, i, column))
			continue;
		counter_of(peaks, row, series)->sum += pm_table_get(table, i, column);
		counter_of(peaks, row, series)->is_there = 1;
	}
	for (uint32_t row = 0; row < rows; row++)
		if (counter_of(peaks, row, series)->is_there)
			note(counter_of(peaks, row, series), now_ns, scale);
	return 0;
}

void pm_peaks_write(const pm_peaks *peaks, uint32_t series, uint32_t seconds, int64_t now_ns, pm_table *table,
		    uint32_t column)
{
	uint32_t now = (uint32_t)(now_ns / SECOND_NS);

	for (uint32_t row = 0; row < table->rows && row < peaks->rows; row++) {
		const counter *of = counter_of(peaks, row, series);
		float highest = NO_RATE;

		for (uint32_t second = now; second + seconds > now && second > 0; second--) {
			uint32_t slot = second % PM_PEAKS_SECONDS;

			if (of->seconds[slot] == second && of->rates[slot] > highest)
				highest = of->rates[slot];
		}
		if (highest != NO_RATE)
			pm_table_set(table, row, column, (uint64_t)highest);
	}
}
