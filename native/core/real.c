#include "real.h"

#include <string.h>

static const uint64_t tens[] = {
	1ull,
	10ull,
	100ull,
	1000ull,
	10000ull,
	100000ull,
	1000000ull,
	10000000ull,
	100000000ull,
	1000000000ull,
	10000000000ull,
	100000000000ull,
	1000000000000ull,
	10000000000000ull,
	100000000000000ull,
	1000000000000000ull,
	10000000000000000ull,
	100000000000000000ull,
	1000000000000000000ull,
};

/* 2^-bits, 0 <= bits < 1022. */
static double negative_power(unsigned bits)
{
	uint64_t word = (uint64_t)(1023 - bits) << 52;
	double power;

	memcpy(&power, &word, 8);
	return power;
}

static unsigned leading_zeros(unsigned __int128 value)
{
	uint64_t high = (uint64_t)(value >> 64);

	return high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((uint64_t)value);
}

/* value / 10^places, rounded once. */
static double quotient(unsigned __int128 value, unsigned places)
{
	unsigned shift;

	if (value <= 1ull << 53) /* both are exact, and so the division rounds once */
		return (double)(uint64_t)value / (double)tens[places];
	if (places == 0)
		return (double)value;
	/* The quotient has at least 68 bits. The last one tells whether there is a remainder, so that the conversion,
	 * which drops it, rounds as if it saw all of them. */
	shift = leading_zeros(value);
	value <<= shift;
	return (double)(value / tens[places] | (value % tens[places] != 0)) * negative_power(shift);
}

double pm_real(uint64_t value, const pm_scale *scale)
{
	int negative = scale->is_signed && (int64_t)value < 0;
	uint64_t scaled;
	double result;

	if (negative)
		value = -value;
	if (scale->subtract)
		value = value > scale->subtract ? value - scale->subtract : 0;
	if (scale->divide == 1 && !__builtin_mul_overflow(value, scale->multiply, &scaled) &&
	    !__builtin_add_overflow(scaled, scale->add, &scaled))
		result = quotient(scaled, scale->decimals);
	else
		result = quotient((unsigned __int128)value * scale->multiply / scale->divide + scale->add,
				  scale->decimals);
	return negative ? -result : result;
}
