/* Exact decimal text of scaled 64-bit integers. */
#ifndef PYMON_DECIMAL_H
#define PYMON_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/* How a cell becomes a number: (value - subtract) * multiply / divide + add, then / 10^decimals.
 * The division by `divide` drops the remainder; `decimals` only moves the point. */
typedef struct {
	uint64_t subtract;
	uint64_t multiply;
	uint64_t divide;
	uint64_t add;
	uint8_t decimals;
	uint8_t is_signed;
} pm_scale;

/* Room that pm_decimal may need: sign, 39 digits of 128 bits, point, leading zero. */
#define PM_DECIMAL_MAX 64

/* Write `value` scaled as text without trailing zeros after the point; the number of bytes. */
size_t pm_decimal(char *out, uint64_t value, const pm_scale *scale);

#endif
