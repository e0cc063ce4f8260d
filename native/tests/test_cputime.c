#include "cputime.h"

#include "check.h"

static pm_cputime_shown shown;

static void adjust(uint64_t run, uint64_t user, uint64_t system)
{
	pm_cputime_adjust(&(pm_cputime){run, user, system}, &shown);
}

static void check(uint64_t user, uint64_t system)
{
	CHECK_INT(shown.user, user);
	CHECK_INT(shown.system, system);
}

static void divided(void)
{
	shown = (pm_cputime_shown){0};
	adjust(1000, 3, 1);
	check(750, 250);
	adjust(1000, 1, 3); /* nothing has run */
	check(750, 250);
	adjust(1100, 1, 9); /* user never falls */
	check(750, 350);
	adjust(2000, 99, 1); /* nor does system */
	check(1650, 350);
}

static void ticks_of_one_kind(void)
{
	shown = (pm_cputime_shown){0};
	adjust(500, 0, 0);
	check(500, 0);
	shown = (pm_cputime_shown){0};
	adjust(500, 0, 7);
	check(0, 500);
}

/* Years of nanoseconds on many processors: the product does not fit in 64 bits. */
static void large(void)
{
	uint64_t most = UINT64_C(1) << 62;

	shown = (pm_cputime_shown){0};
	adjust(most, most / 2, most / 2);
	check(most / 2, most / 2);
}

/* Somebody else was shown more than has run here. */
static void shown_elsewhere(void)
{
	shown = (pm_cputime_shown){.user = 600, .system = 500};
	adjust(1000, 1, 1);
	check(600, 500);
}

int main(void)
{
	divided();
	ticks_of_one_kind();
	large();
	shown_elsewhere();
	return check_result("cputime");
}
