#include "decimal.h"

#include <stdlib.h>

#include "check.h"
#include "real.h"

/* As in pm_scale: subtract, multiply, divide, add, decimals, is_signed. */
#define SCALE(...) (&(const pm_scale){__VA_ARGS__})
#define CHECK_DECIMAL(value, scale, wanted)                                                                            \
	do {                                                                                                           \
		char text[PM_DECIMAL_MAX];                                                                             \
		size_t len = pm_decimal(text, (uint64_t)(value), scale);                                               \
		CHECK(len <= PM_DECIMAL_MAX);                                                                          \
		CHECK_TEXT(text, len, wanted);                                                                         \
	} while (0)

static void places(void)
{
	CHECK_DECIMAL(0, SCALE(0, 1, 1, 0, 0, 0), "0");
	CHECK_DECIMAL(0, SCALE(0, 1, 1, 0, 6, 0), "0");
	CHECK_DECIMAL(1234567, SCALE(0, 1, 1, 0, 6, 0), "1.234567");
	CHECK_DECIMAL(1500000, SCALE(0, 1, 1, 0, 6, 0), "1.5");
	CHECK_DECIMAL(2000000, SCALE(0, 1, 1, 0, 6, 0), "2");
	CHECK_DECIMAL(20000000, SCALE(0, 1, 1, 0, 6, 0), "20");
	CHECK_DECIMAL(1, SCALE(0, 1, 1, 0, 6, 0), "0.000001");
	CHECK_DECIMAL(10, SCALE(0, 1, 1, 0, 6, 0), "0.00001");
	CHECK_DECIMAL(100000, SCALE(0, 1, 1, 0, 6, 0), "0.1");
	CHECK_DECIMAL(999999, SCALE(0, 1, 1, 0, 6, 0), "0.999999");
	CHECK_DECIMAL(INT64_MAX, SCALE(0, 1, 1, 0, 9, 0), "9223372036.854775807");
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, 1, 1, 0, 18, 0), "18.446744073709551615");
	CHECK_DECIMAL(1, SCALE(0, 1, 1, 0, 18, 0), "0.000000000000000001");
	CHECK_DECIMAL(100, SCALE(0, 1, 1, 0, 0, 0), "100");
}

static void widths(void)
{
	char wanted[32];
	uint64_t value = 1;

	for (int digits = 1; digits <= 19; digits++, value *= 10) {
		snprintf(wanted, sizeof(wanted), "%" PRIu64, value);
		CHECK_DECIMAL(value, SCALE(0, 1, 1, 0, 0, 0), wanted);
		snprintf(wanted, sizeof(wanted), "%" PRIu64, value - 1);
		CHECK_DECIMAL(value - 1, SCALE(0, 1, 1, 0, 0, 0), wanted);
	}
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, 1, 1, 0, 0, 0), "18446744073709551615");
}

static void signs(void)
{
	CHECK_DECIMAL(-1, SCALE(0, 1, 1, 0, 0, 1), "-1");
	CHECK_DECIMAL(-1, SCALE(0, 1, 1, 0, 0, 0), "18446744073709551615");
	CHECK_DECIMAL(-500, SCALE(0, 1, 1, 0, 3, 1), "-0.5");
	CHECK_DECIMAL(INT64_MIN, SCALE(0, 1, 1, 0, 0, 1), "-9223372036854775808");
	CHECK_DECIMAL(INT64_MIN, SCALE(0, 1, 1, 0, 9, 1), "-9223372036.854775808");
	CHECK_DECIMAL(INT64_MAX, SCALE(0, 1, 1, 0, 0, 1), "9223372036854775807");
}

static void arithmetic(void)
{
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, 4096, 1, 0, 0, 0), "75557863725914323415040");
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, UINT64_MAX, 1, 0, 0, 0), "340282366920938463426481119284349108225");
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, UINT64_MAX, 1, UINT64_MAX, 0, 0), "340282366920938463444927863358058659840");
	CHECK_DECIMAL(1ull << 63, SCALE(0, 10000000000000000000ull, 1, 0, 0, 0),
		      "92233720368547758080000000000000000000");
	CHECK_DECIMAL(UINT64_MAX, SCALE(0, 1, 1, 1, 0, 0), "18446744073709551616");
	CHECK_DECIMAL(1ull << 63, SCALE(0, 1, 1, 1ull << 63, 0, 0), "18446744073709551616");
	CHECK_DECIMAL(1ull << 62, SCALE(0, 3, 1, 1ull << 63, 0, 0), "23058430092136939520");
	CHECK_DECIMAL(9999, SCALE(1, 262142, 9999, 2, 0, 0), "262117");
	CHECK_DECIMAL(7, SCALE(0, 1, 2, 0, 0, 0), "3");
	CHECK_DECIMAL(5, SCALE(7, 1, 1, 0, 0, 0), "0");
	CHECK_DECIMAL(7, SCALE(7, 1, 1, 0, 0, 0), "0");
	CHECK_DECIMAL(8, SCALE(7, 1, 1, 0, 1, 0), "0.1");
	CHECK_DECIMAL(3, SCALE(0, 0, 1, 40, 0, 0), "40");
}

static void check_real(uint64_t value, const pm_scale *scale)
{
	char text[PM_DECIMAL_MAX + 1];
	double got = pm_real(value, scale), wanted;

	text[pm_decimal(text, value, scale)] = '\0';
	wanted = strtod(text, NULL);
	if (memcmp(&got, &wanted, sizeof(got)) != 0)
		fprintf(stderr, "%s is %.17g\n", text, got);
	CHECK(memcmp(&got, &wanted, sizeof(got)) == 0);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* As a reader of the decimal text: halves go to the even neighbour, and nothing is rounded twice. */
static void reals(void)
{
	static const uint64_t edges[] = {
		0,	   1,	       10,	  1ull << 53, (1ull << 53) + 1, (1ull << 53) + 3, (1ull << 54) + 2,
		INT64_MAX, 1ull << 63, UINT64_MAX};
	uint64_t state = 88172645463325252ull;

	for (size_t i = 0; i < sizeof(edges) / sizeof(*edges); i++)
		for (uint8_t decimals = 0; decimals <= 18; decimals++)
			for (uint8_t sign = 0; sign <= 1; sign++) {
				check_real(edges[i], SCALE(0, 1, 1, 0, decimals, sign));
				check_real(edges[i], SCALE(0, UINT64_MAX, 1, 0, decimals, sign));
				check_real(edges[i], SCALE(1, 262142, 9999, 2, decimals, sign));
			}
	for (int i = 0; i < 200000; i++) {
		uint64_t value = next_random(&state) >> next_random(&state) % 64;
		uint64_t multiply = next_random(&state) >> next_random(&state) % 64;

		check_real(value,
			   SCALE(0, i % 2 ? 1 : multiply, 1, 0, (uint8_t)(next_random(&state) % 19), i % 3 == 0));
	}
}

int main(void)
{
	reals();
	places();
	widths();
	signs();
	arithmetic();
	return check_result("decimal");
}
