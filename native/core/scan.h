/* Scanners of kernel text. They take bytes and a length, need no terminating NUL, and never read past the end. */
#ifndef PYMON_SCAN_H
#define PYMON_SCAN_H

#include "keys.h"
#include "table.h"

/* The result of scanning a file. */
typedef enum {
	PM_OK = 0,
	PM_EMPTY,     /* the file has no bytes */
	PM_TRUNCATED, /* the last line has no newline, which the kernel always writes */
	PM_MALFORMED, /* a word that should be a number is not one, or is negative where that cannot be */
	PM_NO_MEMORY, /* the table could not grow */
} pm_scan_result;

/* Scan an unsigned or negative decimal integer of 64 bits at *cursor, and move the cursor past it. Returns 1, or 0 if
 * there is none; then the cursor stays. Negative numbers are stored as two's complement. */
int pm_scan_integer(const char **cursor, const char *end, uint64_t *value);

/* The same for a number that cannot be negative: for one there is none. */
static inline int pm_scan_unsigned(const char **cursor, const char *end, uint64_t *value)
{
	return *cursor < end && **cursor != '-' && pm_scan_integer(cursor, end, value);
}

static inline const char *pm_skip_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

/* Whether a word is `max`, which the kernel writes where there is no limit. */
static inline int pm_is_max(const char *word, const char *end)
{
	return end - word == 3 && memcmp(word, "max", 3) == 0;
}

/* Files of one line. */

typedef struct {
	uint64_t values[2];
	int set[2];
} pm_values;

/* One integer and a newline. For the word `max` no value is set, and the result is PM_OK. */
pm_scan_result pm_scan_value(const char *data, size_t len, pm_values *out);

/* The same for a number that cannot be negative. */
pm_scan_result pm_scan_amount(const char *data, size_t len, pm_values *out);

/* A pm_scan_value for a limit: a negative number or one above 2^62 means that there is no limit, and is not set. */
pm_scan_result pm_scan_limit(const char *data, size_t len, pm_values *out);

/* The same for a list of CPUs, `0-3,8`: the value is how many there are. */
pm_scan_result pm_scan_cpu_list(const char *data, size_t len, pm_values *out);

/* cpu.max: `quota period` or `max period`. */
pm_scan_result pm_scan_pair(const char *data, size_t len, pm_values *out);

/* The same for how many CPUs that is, in billionths, rounded down: `quota period`. A negative quota is none, and
 * one of five hours or more, which no machine has the CPUs for. The two numbers may be on lines of their own. */
pm_scan_result pm_scan_cores(const char *data, size_t len, pm_values *out);

/* Files of lines. */

/* Lines `key value`, where the key ends at a blank, a control character or a colon. Word number `field` after the key
 * is stored in the key's column of `row`. Unknown keys are skipped, as is the value `max`. *set is the number of cells
 * that were set. A negative number of a key that is an amount is malformed. */
pm_scan_result pm_scan_keyed(const pm_keys *keys, const char *data, size_t len, uint32_t field, pm_table *table,
			     uint32_t row, uint32_t *set);

/* How lines of words become rows. */
typedef struct {
	const char *label; /* its value is word number `key`, up to its last colon if there is one */
	size_t label_len;
	uint32_t parent; /* of the rows */
	uint32_t skip;	 /* lines at the beginning that are no rows */
	uint32_t key;
	uint32_t first;	 /* word number, after `key`, of the first number. What follows a colon is a word of its own */
	uint32_t column; /* of the first number */
	/* Whether lines with a name are no rows, or NULL; gets `state`. */
	int (*is_excluded)(const void *state, const char *name, size_t len);
	const void *state;
	int is_strict; /* a line without a colon, or with fewer numbers than columns, is malformed */
} pm_lines;

/* Append a row for each line. Of lines with the same name, the first counts. */
pm_scan_result pm_scan_lines(pm_table *table, const pm_lines *lines, const char *data, size_t len);

/* The same for rows without a parent, from the first column on. */
pm_scan_result pm_scan_rows(pm_table *table, const char *data, size_t len, const char *label, size_t label_len,
			    uint32_t skip, uint32_t key, uint32_t first);

#endif
