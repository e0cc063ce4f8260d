/* The floor: pread files over descriptors kept open, once each, and do nothing else.
 *
 * floor FILE    reads the paths in FILE once for each line on standard input, and answers with the nanoseconds it took.
 *
 * Where RLIMIT_NOFILE is lower than the number of paths, the paths are spread over processes that each keep their
 * share open and are asked in turn: the time of a round is that of all reads, one after the other.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Open the paths first .. first+count-1, then read them all whenever asked; answer with the time taken. */
static void serve(char **paths, size_t first, size_t count, int asked, int answers)
{
	static char buffer[1 << 16];
	int *fds = malloc(count * sizeof(*fds));
	char ask;

	if (fds == NULL)
		fail("malloc");
	for (size_t i = 0; i < count; i++) {
		fds[i] = open(paths[first + i], O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			fail(paths[first + i]);
	}
	while (read(asked, &ask, 1) == 1) {
		int64_t start = now_ns(), taken;
		for (size_t i = 0; i < count; i++)
			if (pread(fds[i], buffer, sizeof(buffer), 0) < 0)
				fail(paths[first + i]);
		taken = now_ns() - start;
		if (write(answers, &taken, sizeof(taken)) != sizeof(taken))
			fail("pipe");
	}
	exit(0);
}

int main(int argc, char **argv)
{
	FILE *list = argc > 1 ? fopen(argv[1], "r") : NULL;
	struct rlimit limit;
	char **paths = NULL, *line = NULL;
	size_t count = 0, cap = 0, room = 0, share, workers;
	ssize_t len;
	int (*pipes)[2][2];

	if (list == NULL)
		fail("expected a file of paths");
	while ((len = getline(&line, &room, list)) > 0) {
		if (line[len - 1] == '\n')
			line[len - 1] = 0;
		if (count == cap) {
			cap = cap ? 2 * cap : 1024;
			paths = realloc(paths, cap * sizeof(*paths));
			if (paths == NULL)
				fail("realloc");
		}
		paths[count++] = strdup(line);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		fail("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	share = limit.rlim_cur - 64;
	workers = (count + share - 1) / share;
	pipes = calloc(workers, sizeof(*pipes));
	if (pipes == NULL)
		fail("calloc");
	for (size_t w = 0; w < workers; w++) {
		if (pipe(pipes[w][0]) < 0 || pipe(pipes[w][1]) < 0)
			fail("pipe");
		switch (fork()) {
		case -1:
			fail("fork");
		case 0:
			for (size_t other = 0; other <= w; other++)
				close(pipes[other][0][1]);
			serve(paths, w * share, count - w * share < share ? count - w * share : share, pipes[w][0][0],
			      pipes[w][1][1]);
		}
		close(pipes[w][0][0]);
		close(pipes[w][1][1]);
	}
	while (getline(&line, &room, stdin) > 0) {
		int64_t total = 0, taken;
		for (size_t w = 0; w < workers; w++) {
			if (write(pipes[w][0][1], "r", 1) != 1 ||
			    read(pipes[w][1][0], &taken, sizeof(taken)) != sizeof(taken))
				fail("a reader has ended");
			total += taken;
		}
		printf("%lld\n", (long long)total);
		fflush(stdout);
	}
	for (size_t w = 0; w < workers; w++)
		close(pipes[w][0][1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
