/* Writes scaled 64-bit integers as exact decimal text. */
#ifndef PYMON_DECIMAL_H
#define PYMON_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/* The conversion of a cell to a number: ((value - subtract) * multiply / divide + add) / 10^decimals. A negative
 * difference counts as 0. The division by `divide` drops the remainder. `decimals` only moves the decimal point. */
typedef struct {
	uint64_t subtract;
	uint64_t multiply;
	uint64_t divide;
	uint64_t add;
	uint8_t decimals;
	uint8_t is_signed;
} pm_scale;

/* The most bytes that pm_decimal writes: sign, 39 digits of 128 bits, point, leading zero. */
#define PM_DECIMAL_MAX 64

/* Write the scaled value as text without trailing zeros after the point. Returns the number of bytes. */
size_t pm_decimal(char *out, uint64_t value, const pm_scale *scale);

#endif
