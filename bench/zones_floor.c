/* The floor: a chain update and a kstat_read of every kstat of some classes, and nothing else.
 *
 * zones_floor LIBRARY MODULE:CLASS...   does so once for each line on standard input, and answers with the nanoseconds
 * it took and the number of kstats that were read.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kstat_abi.h"

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "zones_floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void find(void *library, const char *name, void *function)
{
	void *symbol = dlsym(library, name);

	if (symbol == NULL)
		fail(name);
	memcpy(function, &symbol, sizeof(symbol));
}

static int is_wanted(const kstat_t *kstat, char **wanted)
{
	char family[2 * KSTAT_STRLEN + 2];

	snprintf(family, sizeof(family), "%.*s:%.*s", KSTAT_STRLEN, kstat->ks_module, KSTAT_STRLEN, kstat->ks_class);
	for (; *wanted; wanted++)
		if (strcmp(family, *wanted) == 0)
			return kstat->ks_instance > 0 || strcmp(family, "link:net") == 0;
	return 0;
}

int main(int argc, char **argv)
{
	void *library = argc > 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
	kstat_open_fn *open;
	kstat_chain_update_fn *update;
	kstat_read_fn *read;
	kstat_ctl_t *ctl;
	kstat_t **kstats = NULL;
	size_t count = 0, cap = 0;

	if (library == NULL)
		fail("expected a library and what to read");
	find(library, "kstat_open", &open);
	find(library, "kstat_chain_update", &update);
	find(library, "kstat_read", &read);
	ctl = open();
	if (ctl == NULL)
		fail("kstat_open");
	for (kstat_t *kstat = ctl->kc_chain; kstat; kstat = kstat->ks_next) {
		if (!is_wanted(kstat, argv + 2))
			continue;
		if (count == cap) {
			cap = cap ? 2 * cap : 1024;
			kstats = realloc(kstats, cap * sizeof(*kstats));
			if (kstats == NULL)
				fail("realloc");
		}
		kstats[count++] = kstat;
	}
	while (getchar() != EOF) {
		int64_t start = now_ns();

		if (update(ctl) != 0)
			fail("the chain changed");
		for (size_t i = 0; i < count; i++)
			if (read(ctl, kstats[i], NULL) == -1)
				fail("kstat_read");
		printf("%lld %zu\n", (long long)(now_ns() - start), count);
		fflush(stdout);
	}
	return 0;
}
