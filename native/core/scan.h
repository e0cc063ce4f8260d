/* Scanners of kernel text. They take bytes and a length, need no terminating NUL, and never read past the end. */
#ifndef PYMON_SCAN_H
#define PYMON_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "table.h"

/* What a scan could make of a file. PM_OK is 0 so that it can be tested. */
typedef enum {
	PM_OK = 0,
	PM_EMPTY,     /* no byte at all */
	PM_TRUNCATED, /* the last line has no newline: the kernel always writes one */
	PM_MALFORMED, /* a word that should be a number is none */
} pm_scan_result;

/* An unsigned or negative decimal integer at *cursor that fits 64 bits; the cursor moves past it.
 * 1, or 0 when there is none (the cursor stays). Negative numbers come as two's complement. */
int pm_scan_integer(const char **cursor, const char *end, uint64_t *value);

/* Keys that a file of `key value` lines is asked for, and the column of each. */
typedef struct {
	uint32_t count;
	uint32_t mask; /* buckets - 1 */
	const char **keys;
	uint32_t *lens;
	uint32_t *columns;
	uint32_t *buckets; /* 1 + index into keys, 0 empty */
} pm_keys;

/* Build from `count` keys; they are copied. 0 or -1 (out of memory). */
int pm_keys_init(pm_keys *keys, const char *const *names, const uint32_t *columns, uint32_t count);
void pm_keys_free(pm_keys *keys);

/* Index of the key, or -1. */
int64_t pm_keys_find(const pm_keys *keys, const char *key, size_t len);

/* Lines `key value`, where the key ends at a blank or colon: word `field` after the key goes to the key's column of
 * `row`. Unknown keys are passed over. `set` counts the cells set. */
pm_scan_result pm_scan_keyed(const pm_keys *keys, const char *data, size_t len, uint32_t field, pm_table *table,
			     uint32_t row, uint32_t *set);

/* Lines of words: append a row for each line after the first `skip`. Word `key` becomes label `label`; the integers
 * from word `first` on fill the columns. A colon at the end of the key word is dropped; `first` is after `key`. */
pm_scan_result pm_scan_rows(pm_table *table, const char *data, size_t len, const char *label, size_t label_len,
			    uint32_t skip, uint32_t key, uint32_t first);

/* One integer and a newline. The word `max` is no number here: *set stays 0 and the result is PM_OK. */
pm_scan_result pm_scan_value(const char *data, size_t len, uint64_t *value, int *set);

/* cpu.max: `quota period` or `max period`. */
pm_scan_result pm_scan_pair(const char *data, size_t len, uint64_t values[2], int set[2]);

/* A pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=N` and the same for `full` (kernel/sched/psi.c).
 * Totals in microseconds, [0] some, [1] full. */
pm_scan_result pm_scan_pressure(const char *data, size_t len, uint64_t values[2], int set[2]);

#endif
