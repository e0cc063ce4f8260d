/* What a reader has of the process: its thread, its descriptors, its memory. */
#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "groups.h"

#ifdef __SANITIZE_THREAD__
enum { THREAD_SANITIZER = 1 }; /* has a thread of its own and does not like to be forked */
#else
enum { THREAD_SANITIZER = 0 };
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; /* needs more address space than a limit leaves */
#else
enum { SANITIZED = 0 };
#endif

/* The highest number in a thread's descriptor table. */
static int highest_descriptor(const char *task)
{
	char path[300];
	struct dirent *entry;
	DIR *stream;
	int highest = -1;

	snprintf(path, sizeof(path), "/proc/self/task/%s/fd", task);
	stream = opendir(path);
	while (stream && (entry = readdir(stream)) != NULL)
		if (atoi(entry->d_name) > highest)
			highest = atoi(entry->d_name);
	if (stream)
		closedir(stream);
	return highest;
}

/* How many threads have a descriptor numbered `high` or above. */
static int threads_with(int high, int *threads)
{
	DIR *stream = opendir("/proc/self/task");
	struct dirent *entry;
	int having = 0;

	*threads = 0;
	while (stream && (entry = readdir(stream)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		*threads += 1;
		having += highest_descriptor(entry->d_name) >= high;
	}
	closedir(stream);
	return having;
}

static int refuse_close_range(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 436, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = COUNT(code), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0;
}

/* A reader has a descriptor table of its own: nothing of the process stays open in it, also where close_range(2) is
 * not known. */
static void own_descriptors(int old_kernel)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		fixture f;
		int high = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 300);
		int right, having, before, threads;

		if (old_kernel && refuse_close_range())
			_exit(0);
		fixture_init(&f, plain, COUNT(plain), plain_widths);
		write_plain(&f, "a", 1);
		having = threads_with(high, &before);
		fixture_start(&f);
		add(&f, 0, "a");
		fixture_collect(&f, 1);
		right = high >= 300 && check_failures == 0 && pm_reader_open_descriptors(f.reader) == 3;
		right = right && having >= 1 && threads_with(high, &threads) == having && threads == before + 1;
		fixture_free(&f);
		close(high);
		_exit(!right);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Two readers under one ticket, again and again, while containers come and go. */
static void crowd(void)
{
	enum { READERS = 2, ROUNDS = 300, ROWS = 16 };
	static fixture fixtures[READERS];
	pm_mailbox *mailbox = pm_mailbox_new();

	for (int i = 0; i < READERS; i++) {
		int root;
		fixture_init(&fixtures[i], plain, COUNT(plain), plain_widths);
		fixtures[i].plan.budget = 20;
		write_plain(&fixtures[i], "a", 1);
		fixtures[i].reader = pm_reader_start(&fixtures[i].plan, mailbox, &root);
		CHECK(fixtures[i].reader != NULL);
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		pm_ticket ticket = {.pending = READERS, .mailbox = mailbox};
		for (int i = 0; i < READERS; i++) {
			fixture *f = &fixtures[i];
			pm_table *tables[] = {&f->tables[0]};
			f->result = (pm_result){0};
			add(f, round % ROWS, round % 3 ? "a" : "nothing");
			CHECK_INT(pm_reader_remove(f->reader, (round + 5) % ROWS), 0);
			CHECK_INT(pm_reader_refresh(f->reader, (round + 3) % ROWS), 0);
			CHECK_INT(pm_reader_collect(f->reader, &ticket, &f->result, tables, ROWS, INT64_MAX), 0);
		}
		CHECK(fixture_wait(mailbox) == &ticket);
		for (int i = 0; i < READERS; i++) {
			CHECK(fixtures[i].result.done && fixtures[i].tables[0].rows == ROWS);
			CHECK_INT(pm_table_has(&fixtures[i].tables[0], round % ROWS, 0), round % 3 != 0);
			CHECK(pm_reader_open_descriptors(fixtures[i].reader) <= 20);
		}
	}
	for (int i = 0; i < READERS; i++)
		fixture_free(&fixtures[i]);
	pm_mailbox_free(mailbox);
}

/* What was posted before the stop is done before it. */
static void stopped(void)
{
	fixture f;
	pm_table *tables[1];
	pm_ticket tickets[50];
	pm_result results[50] = {0};

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "a", 1);
	fixture_start(&f);
	add(&f, 0, "a");
	tables[0] = &f.tables[0];
	for (int i = 0; i < 50; i++) {
		tickets[i] = (pm_ticket){.pending = 1, .mailbox = f.mailbox};
		CHECK_INT(pm_reader_collect(f.reader, &tickets[i], &results[i], tables, 1, INT64_MAX), 0);
	}
	pm_reader_stop(f.reader);
	f.reader = NULL;
	for (int i = 0; i < 50; i++)
		CHECK(pm_mailbox_take(f.mailbox) == &tickets[i] && results[i].done);
	CHECK(pm_mailbox_take(f.mailbox) == NULL);
	fixture_rows(&f, 0, "0{}10 11 12 13 14 15 16 17;");
	pm_mailbox_free(f.mailbox);
	fixture_free(&f);
}

/* The address space that the process has, in bytes. */
static rlim_t address_space(void)
{
	FILE *stream = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (stream == NULL || fscanf(stream, "%lu", &pages) != 1)
		tree_die("/proc/self/statm");
	fclose(stream);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* Whether the limit of the address space is in force: what is mapped without access counts there, and nowhere else. */
static int limited(void)
{
	size_t beyond = (size_t)1 << 30;
	void *got = mmap(NULL, beyond, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (got == MAP_FAILED)
		return 1;
	munmap(got, beyond);
	return 0;
}

/* A container for which there is no memory waits, and is a failure as long as it does. */
static void no_memory(void)
{
	enum { FAR = 20000000, FARTHER = FAR + 1 };
	struct rlimit before, little;
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "a", 1);
	write_plain(&f, "b", 2);
	fixture_start(&f);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	CHECK_INT(getrlimit(RLIMIT_AS, &before), 0);
	little = before;
	little.rlim_cur = address_space() + (16 << 20);
	CHECK_INT(setrlimit(RLIMIT_AS, &little), 0);
	if (!limited()) {
		puts("reader: no lack of memory was tried: RLIMIT_AS is not in force here, as under qemu-user");
		CHECK_INT(setrlimit(RLIMIT_AS, &before), 0);
		fixture_free(&f);
		return;
	}
	add(&f, FAR, "b");
	add(&f, FARTHER, "b");
	for (int again = 0; again < 2; again++) {
		fixture_collect(&f, 1);
		fixture_rows(&f, 0, "0{}10 11 12 13 14 15 16 17;");
		fixture_failures(&f, "enomem=2");
	}
	CHECK_INT(pm_reader_remove(f.reader, FARTHER), 0);
	fixture_ask(&f, 1, FAR, INT64_MAX);
	fixture_rows(&f, 0, "");
	fixture_failures(&f, "enomem=1");
	CHECK_INT(setrlimit(RLIMIT_AS, &before), 0);
	fixture_ask(&f, 1, FAR, INT64_MAX);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;");
	fixture_failures(&f, "");
	fixture_free(&f);
}

int main(void)
{
	for (int old_kernel = 0; old_kernel < 2 && !THREAD_SANITIZER; old_kernel++)
		own_descriptors(old_kernel);
	if (!SANITIZED)
		no_memory();
	crowd();
	stopped();
	return check_result("reader threads");
}
