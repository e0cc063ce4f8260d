/* Writes a parsed exposition in OpenMetrics 2.0, without its last line.
 * https://prometheus.io/docs/specs/om/open_metrics_spec_2_0/ */
#ifndef PYMON_EXPOSITION_OPENMETRICS2_H
#define PYMON_EXPOSITION_OPENMETRICS2_H

#include "buffer.h"
#include "exposition_types.h"

/* The metadata lines of a family. */
typedef struct {
	const char *data;
	size_t len;
} pm_exposition_head;

/* Append the families of a text that was parsed to its end. heads: of each family. Duplicate series are left out. The
 * lines of a histogram or summary become one sample: they follow one another, as agents write them; of two that are
 * apart, the first is written. What the format does not allow is left out: a counter that is not a number, a histogram
 * without sum or without count, one whose counts are negative or not numbers, a summary whose count is not an integer
 * or whose sum is negative or not a number, its quantiles beyond 0 and 1 or with a negative value, and all but the
 * first of equal bounds. start_ms: when all counters, histograms and summaries began, in milliseconds since the epoch;
 * 0: not known. LC_NUMERIC must be that of C. Returns 0, or -1 if out of memory; then `out` has its previous content.
 */
int pm_exposition_openmetrics2(const pm_exposition *reader, const pm_exposition_head *heads, uint64_t start_ms,
			       pm_buffer *out);

#endif
