#include "decimal.h"

#include <string.h>

static const char digit_pairs[201] = "00010203040506070809"
				     "10111213141516171819"
				     "20212223242526272829"
				     "30313233343536373839"
				     "40414243444546474849"
				     "50515253545556575859"
				     "60616263646566676869"
				     "70717273747576777879"
				     "80818283848586878889"
				     "90919293949596979899";

/* Write the digits of `value` before `end`. Returns the start of the digits. */
static char *digits_before(char *end, uint64_t value)
{
	while (value >= 100) {
		end -= 2;
		memcpy(end, digit_pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (value >= 10) {
		end -= 2;
		memcpy(end, digit_pairs + 2 * value, 2);
	} else {
		*--end = (char)('0' + value);
	}
	return end;
}

static char *wide_digits_before(char *end, unsigned __int128 value)
{
	const uint64_t chunk = 10000000000000000000ull; /* 10^19 */
	char *begin;

	if (value <= UINT64_MAX)
		return digits_before(end, (uint64_t)value);
	begin = digits_before(end, (uint64_t)(value % chunk));
	while (end - begin < 19)
		*--begin = '0';
	return wide_digits_before(begin, value / chunk);
}

size_t pm_decimal(char *out, uint64_t value, const pm_scale *scale)
{
	char text[PM_DECIMAL_MAX];
	char *end = text + sizeof(text), *begin;
	size_t len, whole, places = scale->decimals;
	size_t written = 0;
	uint64_t scaled;

	if (scale->is_signed && (int64_t)value < 0) {
		out[written++] = '-';
		value = -value;
	}
	if (scale->subtract)
		value = value > scale->subtract ? value - scale->subtract : 0;
	if (scale->divide == 1 && !__builtin_mul_overflow(value, scale->multiply, &scaled) &&
	    !__builtin_add_overflow(scaled, scale->add, &scaled)) {
		begin = digits_before(end, scaled);
	} else {
		unsigned __int128 wide = (unsigned __int128)value * scale->multiply / scale->divide + scale->add;
		begin = wide_digits_before(end, wide);
	}
	len = (size_t)(end - begin);
	if (places == 0) {
		memcpy(out + written, begin, len);
		return written + len;
	}
	while (places > 0 && len > 0 && end[-1] == '0') { /* drop trailing zeros */
		end--;
		len--;
		places--;
	}
	if (len == 0) { /* all digits were zeros */
		out[written++] = '0';
		return written;
	}
	whole = len > places ? len - places : 0;
	if (whole == 0) {
		out[written++] = '0';
	} else {
		memcpy(out + written, begin, whole);
		written += whole;
	}
	if (places == 0)
		return written;
	out[written++] = '.';
	for (size_t zeros = places - (len - whole); zeros > 0; zeros--)
		out[written++] = '0';
	memcpy(out + written, begin + whole, len - whole);
	return written + (len - whole);
}
