#include "number.h"

#include <stdint.h>
#include <string.h>

/* 2^1024 - 2^970: numbers from here on round to infinity as a double (ties go to even). */
static const char infinite_from[] =
	"17976931348623158079372897140530341507993413271003782693617377898044496829276475094664901797758720709633028641"
	"6"
	"69288791094655554785194040263065748867150582068190890200070838367627385484581771153176447573027006985557136695"
	"9"
	"622842914819860834936475292719074168444365510704342711559699508093042880177904174497792";
enum { INFINITE_DIGITS = sizeof(infinite_from) - 1 };

static int is_digit(char c)
{
	return (unsigned char)(c - '0') < 10;
}

/* Returns whether the bytes are a word, ignoring case. `word`: in lower case. */
static int is_word(const char *data, size_t len, const char *word)
{
	if (len != strlen(word))
		return 0;
	for (size_t i = 0; i < len; i++)
		if ((data[i] | 0x20) != word[i])
			return 0;
	return 1;
}

static pm_number_class strict_word(const char *data, size_t len)
{
	if (len == 4 && memcmp(data + 1, "Inf", 3) == 0)
		return data[0] == '+' ? PM_PLUS_INFINITY : data[0] == '-' ? PM_MINUS_INFINITY : PM_NO_NUMBER;
	return len == 3 && memcmp(data, "NaN", 3) == 0 ? PM_NAN : PM_NO_NUMBER;
}

static pm_number_class loose_word(const char *data, size_t len)
{
	size_t sign = len && (*data == '+' || *data == '-');

	if (is_word(data, len, "nan"))
		return PM_NAN;
	if (is_word(data + sign, len - sign, "inf") || is_word(data + sign, len - sign, "infinity"))
		return *data == '-' ? PM_MINUS_INFINITY : PM_PLUS_INFINITY;
	return PM_NO_NUMBER;
}

/* Returns whether a decimal number times 10^exponent rounds to infinity. */
static int is_infinite(const char *p, const char *end, size_t integer_digits, int64_t exponent)
{
	int64_t magnitude = (int64_t)integer_digits + exponent;
	int compared = 0;

	while (p < end && (*p == '0' || *p == '.')) {
		magnitude -= *p == '0';
		p++;
	}
	/* The number is now 0.ddd times 10^magnitude, and the first digit d is not 0. */
	if (p == end || magnitude < INFINITE_DIGITS)
		return 0;
	if (magnitude > INFINITE_DIGITS)
		return 1;
	for (int i = 0; i < INFINITE_DIGITS && compared == 0; i++) {
		if (p < end && *p == '.')
			p++;
		compared = (p < end ? *p++ : '0') - infinite_from[i];
	}
	return compared >= 0;
}

pm_number_class pm_number(const char *data, size_t len, int strict)
{
	enum { FEW = 40 };
	static const int64_t exponent_max = INT64_C(1) << 60;
	const char *p = data, *end = data + len, *digits, *digits_end;
	size_t integer_digits, fraction_digits = 0, exponent_digits = 0;
	int point, plain = 1, minus = 0;
	int64_t exponent = 0;

	if (p < end && (*p == '+' || *p == '-'))
		plain = *p++ == '-';
	digits = p;
	while (p < end && is_digit(*p))
		p++;
	integer_digits = (size_t)(p - digits);
	point = p < end && *p == '.';
	if (point) {
		p++;
		while (p < end && is_digit(*p)) {
			p++;
			fraction_digits++;
		}
	}
	if (integer_digits + fraction_digits == 0)
		return strict ? strict_word(data, len) : loose_word(data, len);
	digits_end = p;
	if (p < end && (*p == 'e' || *p == 'E')) {
		plain = plain && *p == 'e';
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			minus = *p++ == '-';
		else
			plain = 0;
		for (; p < end && is_digit(*p); p++, exponent_digits++)
			if (exponent < exponent_max / 16)
				exponent = exponent * 10 + (*p - '0');
		if (exponent_digits == 0)
			return PM_NO_NUMBER;
		plain = plain && exponent_digits == 2;
	}
	if (p != end)
		return PM_NO_NUMBER;
	if (is_infinite(digits, digits_end, integer_digits, minus ? -exponent : exponent))
		return PM_TOO_LARGE;
	plain = plain && integer_digits >= 1 && integer_digits <= FEW && fraction_digits <= FEW &&
		(fraction_digits > 0 || !point);
	return plain ? PM_FEW_DIGITS : PM_MANY_DIGITS;
}
