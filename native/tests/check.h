/* Checks of the unit tests. A check that fails says where and goes on; `check_result` is what main returns. */
#ifndef PYMON_CHECK_H
#define PYMON_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned check_count, check_failures;

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		check_count++;                                                                                         \
		if (!(condition)) {                                                                                    \
			check_failures++;                                                                              \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
		}                                                                                                      \
	} while (0)

#define CHECK_INT(got, wanted) check_int(__FILE__, __LINE__, #got, (int64_t)(got), (int64_t)(wanted))
#define CHECK_TEXT(data, len, wanted) check_text(__FILE__, __LINE__, data, len, wanted)

static inline void check_int(const char *file, int line, const char *what, int64_t got, int64_t wanted)
{
	check_count++;
	if (got == wanted)
		return;
	check_failures++;
	fprintf(stderr, "%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", file, line, what, got, wanted);
}

static inline void check_text(const char *file, int line, const char *data, size_t len, const char *wanted)
{
	check_count++;
	if (len == strlen(wanted) && (len == 0 || memcmp(data, wanted, len) == 0))
		return;
	check_failures++;
	fprintf(stderr, "%s:%d: `%.*s`, not `%s`\n", file, line, (int)len, data ? data : "", wanted);
}

static inline int check_result(const char *name)
{
	printf("%s: %u checks, %u failed\n", name, check_count, check_failures);
	return check_failures != 0;
}

#endif
