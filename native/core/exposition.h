/* Parser of expositions in the text format 0.0.4 from untrusted sources.
 *
 * It parses line by line and looks at each byte a bounded number of times. Time and memory are linear in the length for
 * any input. Hash tables have random keys, so that nobody can construct collisions. Results are offsets into the text,
 * which must not change while the parser is in use.
 *
 * There are two dialects. The loose one accepts what the format's definition and Prometheus's Go library accept: blanks
 * between all parts of a line, comments, empty lines, samples of a family in several places, families without TYPE. The
 * strict one is what agents write: one family after the other, each with an optional HELP, a TYPE and at least one
 * sample, single spaces between the parts of a line, and no spaces in labels outside of values.
 *
 * Both refuse what Prometheus would refuse or treat as separate families or series with the same name: a second TYPE or
 * HELP, duplicate labels, duplicate series in a family (regardless of the order of labels and of empty labels), bounds
 * that are not numbers, a bound on the wrong sample, time stamps, NUL, and bytes that are not UTF-8. */
#ifndef PYMON_EXPOSITION_H
#define PYMON_EXPOSITION_H

#include "exposition_types.h"

/* Initialize the parser. `len` is at most UINT32_MAX. allow_repeated: duplicate series are marked and not refused. key:
 * random. */
void pm_exposition_init(pm_exposition *reader, const char *data, size_t len, int strict, int allow_repeated,
			const uint64_t key[2]);
void pm_exposition_free(pm_exposition *reader);

/* Parse lines until at least `bytes` more bytes are parsed. Returns 1 at the end of the text, 0 if there is more, -1 if
 * there is a problem, -2 if out of memory. After -1, further calls return -1. */
int pm_exposition_run(pm_exposition *reader, size_t bytes);

/* Parse labels in the loose dialect. *at is the offset after the opening brace, and is set to that after the closing
 * one. Returns 0, -1 if there is a problem, -2 if out of memory. */
int pm_exposition_labels(pm_exposition *reader, size_t *at);

#endif
