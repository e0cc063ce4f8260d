/* The floor of rendering: copy the lines of a text, one after the other, and do nothing else.
 *
 * copy FILE    copies the lines of FILE once for each line on standard input, and answers with the nanoseconds it took.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "copy: %s: %s\n", what, strerror(errno));
	exit(1);
}

int main(int argc, char **argv)
{
	FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
	struct stat status;
	size_t size, count = 0, *ends;
	char *from, *to, *line = NULL;
	size_t room = 0;

	if (file == NULL || fstat(fileno(file), &status) < 0)
		fail("expected a file");
	size = (size_t)status.st_size;
	from = malloc(size + 1);
	to = malloc(size + 1);
	ends = malloc((size + 1) * sizeof(*ends));
	if (from == NULL || to == NULL || ends == NULL)
		fail("malloc");
	if (fread(from, 1, size, file) != size)
		fail("fread");
	for (size_t i = 0; i < size; i++)
		if (from[i] == '\n')
			ends[count++] = i + 1;
	while (getline(&line, &room, stdin) > 0) {
		int64_t start = now_ns();
		size_t at = 0;

		for (size_t i = 0; i < count; i++) {
			memcpy(to + at, from + at, ends[i] - at);
			__asm__ volatile("" ::: "memory");
			at = ends[i];
		}
		printf("%lld\n", (long long)(now_ns() - start));
		fflush(stdout);
	}
	return 0;
}
