/* Containers that come and go in a reader, and the numbers of their files. */
#include "groups.h"

static void containers(void)
{
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "", 9);
	write_plain(&f, "a", 1);
	write_plain(&f, "b/c", 2);
	fixture_start(&f);
	CHECK_INT(pm_reader_shares_descriptors(f.reader), 0);
	fixture_collect(&f, 0);
	CHECK_INT(f.tables[0].rows, 0);
	fixture_collect(&f, 3);
	CHECK_INT(f.tables[0].rows, 3);
	fixture_rows(&f, 0, "");
	add(&f, 0, "a");
	add(&f, 200, "b/c");
	add(&f, 2, "");
	fixture_collect(&f, 201);
	fixture_rows(&f, 0, "0{}10 11 12 13 14 15 16 17;2{}90 91 92 93 94 95 96 97;200{}20 21 22 23 24 25 26 27;");
	fixture_failures(&f, "");
	CHECK_INT(pm_reader_open_descriptors(f.reader), 9);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}10 11 12 13 14 15 16 17;");
	fixture_ask(&f, 1, 200, INT64_MAX);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;");
	fixture_ask(&f, 1, 1, INT64_MAX);
	CHECK_INT(f.tables[0].rows, 1);
	fixture_rows(&f, 0, "");
	fixture_ask(&f, 1, 100000, INT64_MAX);
	fixture_rows(&f, 0, "");
	fixture_failures(&f, "");

	/* another container takes the row; one goes; one that is not there goes */
	add(&f, 0, "b/c");
	CHECK_INT(pm_reader_remove(f.reader, 200), 0);
	CHECK_INT(pm_reader_remove(f.reader, 5), 0);
	CHECK_INT(pm_reader_remove(f.reader, 100000), 0);
	CHECK_INT(pm_reader_refresh(f.reader, 100000), 0);
	fixture_collect(&f, 3);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;2{}90 91 92 93 94 95 96 97;");
	CHECK_INT(pm_reader_open_descriptors(f.reader), 6);
	fixture_collect(&f, UINT32_MAX);
	fixture_failures(&f, "enomem=1");
	f.unwanted = 1;
	fixture_collect(&f, 3);
	fixture_failures(&f, "");
	fixture_free(&f);
}

static void settings(void)
{
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "a", 1);
	fixture_start(&f);
	add(&f, 0, "a");
	/* due, but nobody wants the table: read all the same, for the next who asks */
	f.unwanted = 1;
	fixture_collect(&f, 1);
	f.unwanted = 0;
	write_plain(&f, "a", 2);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 15 16 17;");
	CHECK_INT(pm_reader_refresh(f.reader, 0), 0);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;");
	CHECK_INT(pm_reader_refresh(f.reader, 0), 0);
	write_file(&f, "cgroup/a/max", "max\n");
	write_file(&f, "cgroup/a/cpu.max", "max 100\n");
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 . . 100;");
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 . . 100;");
	for (int i = 0; i < 3; i++) {
		static const char *const none[] = {"-1\n", "9223372036854771712\n", "4611686018427387905\n"};
		CHECK_INT(pm_reader_refresh(f.reader, 0), 0);
		write_file(&f, "cgroup/a/max", none[i]);
		fixture_collect(&f, 1);
		fixture_rows(&f, 0, "0{}20 21 22 23 24 . . 100;");
	}
	fixture_failures(&f, "");
	fixture_free(&f);
}

static void failures(void)
{
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "a", 1);
	write_file(&f, "cgroup/a/current", "x\n");
	write_file(&f, "cgroup/a/stat", "anon 1\nfile");
	write_file(&f, "cgroup/a/pressure", "");
	write_plain(&f, "b", 2);
	tree_write(f.root, "cgroup/d/stat/file", "");
	tree_write(f.root, "cgroup/e", "a file where the group should be");
	fixture_start(&f);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}. 1 . . . 15 16 17;");
	fixture_failures(&f, "empty=1 truncated=1 malformed=1");

	/* what is absent is looked for again on the slow clock or after a refresh; a group that has gone is no failure
	 */
	add(&f, 0, "gone");
	fixture_collect(&f, 1);
	fixture_failures(&f, "");
	fixture_collect(&f, 1);
	fixture_failures(&f, "");
	write_plain(&f, "gone", 4);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "");
	CHECK_INT(pm_reader_refresh(f.reader, 0), 0);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}40 41 42 43 44 45 46 47;");
	fixture_failures(&f, "");

	add(&f, 0, "d");
	fixture_collect(&f, 1);
	fixture_failures(&f, "enoent=4 errno=1");
	fixture_collect(&f, 1);
	fixture_failures(&f, "errno=1");
	CHECK_INT(pm_reader_open_descriptors(f.reader), 0);
	add(&f, 0, "e");
	fixture_collect(&f, 1);
	fixture_failures(&f, "enoent=5");

	add(&f, 0, "b");
	fixture_ask(&f, 0, 1, 0);
	fixture_failures(&f, "deadline=1");
	CHECK_INT(f.tables[0].rows, 1);
	fixture_rows(&f, 0, "");
	fixture_ask(&f, 1, 0, 0);
	fixture_failures(&f, "deadline=1");
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;");
	fixture_free(&f);
}

/* A file that has gone away under its descriptor reads on; the group that comes back under the path is another one. */
static void replaced(void)
{
	fixture f;
	char *group;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_plain(&f, "a", 1);
	fixture_start(&f);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	group = tree_path(f.root, "cgroup/a");
	tree_remove(group);
	free(group);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}10 11 12 13 14 15 16 17;");
	write_plain(&f, "a", 2);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 26 27;");
	fixture_failures(&f, "");
	fixture_free(&f);
}

static void budgets(void)
{
	static const uint32_t sizes[] = {0, 1, 2, 3, 5, 8, 9, 100};

	for (size_t i = 0; i < COUNT(sizes); i++) {
		fixture f;
		uint32_t kept = sizes[i] < 9 ? sizes[i] : 9;

		fixture_init(&f, plain, COUNT(plain), plain_widths);
		f.plan.budget = sizes[i];
		write_plain(&f, "a", 1);
		write_plain(&f, "b", 2);
		write_plain(&f, "c", 3);
		fixture_start(&f);
		add(&f, 0, "a");
		fixture_collect(&f, 1);
		CHECK_INT(pm_reader_open_descriptors(f.reader), kept < 3 ? kept : 3);
		add(&f, 1, "b");
		add(&f, 2, "c");
		for (int again = 0; again < 3; again++) {
			fixture_collect(&f, 3);
			fixture_rows(
				&f, 0,
				"0{}10 11 12 13 14 15 16 17;1{}20 21 22 23 24 25 26 27;2{}30 31 32 33 34 35 36 37;");
			fixture_failures(&f, "");
			CHECK(pm_reader_open_descriptors(f.reader) <= sizes[i]);
		}
		CHECK_INT(pm_reader_open_descriptors(f.reader), kept);
		for (uint32_t row = 0; row < 3; row++)
			CHECK_INT(pm_reader_remove(f.reader, row), 0);
		fixture_collect(&f, 3);
		CHECK_INT(pm_reader_open_descriptors(f.reader), 0);
		fixture_free(&f);
	}
}

static void bad_roots(void)
{
	fixture f;
	int root = 7;
	char *file;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	write_file(&f, "file", "");
	f.mailbox = pm_mailbox_new();
	file = f.plan.roots[0];
	f.plan.roots[0] = tree_path(f.root, "nothing");
	CHECK(pm_reader_start(&f.plan, f.mailbox, &root) == NULL);
	CHECK(errno == ENOENT && root == 0);
	free(f.plan.roots[0]);
	f.plan.roots[0] = tree_path(f.root, "file");
	CHECK(pm_reader_start(&f.plan, f.mailbox, &root) == NULL);
	CHECK(errno == ENOTDIR && root == 0);
	free(f.plan.roots[0]);
	f.plan.roots[0] = file;
	f.reader = pm_reader_start(&f.plan, f.mailbox, &root);
	CHECK(f.reader != NULL && root == -1);
	fixture_free(&f);
}

/* It runs in the reader's thread. */
static void fill_current(void *state, const pm_fill *fill)
{
	unsigned *calls = state;
	pm_table *table = fill->tables[0];

	*calls += fill->rows == 4 && strcmp(fill->paths[0], "a") == 0 && fill->paths[1] == NULL;
	if (table == NULL)
		return;
	fill->columns[0][0] = fill->columns[0][5] = 1;
	fill->filled[0] = fill->filled[1] = fill->filled[3] = 1;
	pm_table_set(table, 0, 0, 77);
	fill->failures[PM_REASON_EIO]++;
}

/* The last call, in the same thread. */
static void end_of_current(void *state)
{
	unsigned *calls = state;

	*calls += 100;
}

/* What a filler has filled is not read; files fill the rest. */
static void filled(void)
{
	unsigned calls = 0;
	pm_filler filler = {fill_current, end_of_current, &calls};
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	f.plan.filler = &filler;
	write_plain(&f, "a", 1);
	write_plain(&f, "b", 2);
	write_plain(&f, "c", 3);
	write_file(&f, "cgroup/a/current", "x\n");
	fixture_start(&f);
	add(&f, 0, "a");
	add(&f, 2, "b");
	add(&f, 3, "c");
	for (int again = 0; again < 2; again++) {
		fixture_collect(&f, 4);
		fixture_rows(&f, 0, "0{}77 11 12 13 14 . 16 17;2{}20 21 22 23 24 25 26 27;3{}. 31 32 33 34 . 36 37;");
		fixture_failures(&f, "eio=1");
	}
	f.unwanted = 1;
	fixture_collect(&f, 4);
	CHECK_INT(calls, 3);
	f.unwanted = 0;
	fixture_ask(&f, 1, 3, INT64_MAX);
	fixture_rows(&f, 0, "0{}30 31 32 33 34 35 36 37;");
	CHECK_INT(calls, 3);
	fixture_free(&f);
	CHECK_INT(calls, 103);
}

static void fill_max(void *state, const pm_fill *fill)
{
	const int *on = state;

	if (!*on)
		return;
	fill->columns[0][5] = 1;
	fill->filled[0] = 1;
	pm_table_set(fill->tables[0], 0, 5, 99);
}

/* A setting that was filled when it was due is read as soon as it is not filled, and others when they are due. */
static void filled_setting(void)
{
	int on = 1;
	pm_filler filler = {.fill = fill_max, .state = &on};
	fixture f;

	fixture_init(&f, plain, COUNT(plain), plain_widths);
	f.plan.filler = &filler;
	f.plan.slow_ns = INT64_MAX / 4;
	write_plain(&f, "a", 1);
	fixture_start(&f);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	write_plain(&f, "a", 2);
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 99 16 17;");
	on = 0;
	fixture_collect(&f, 1);
	fixture_rows(&f, 0, "0{}20 21 22 23 24 25 16 17;");
	fixture_free(&f);
}

static void reasons(void)
{
	CHECK_INT(pm_reason_of_errno(EACCES), PM_REASON_EACCES);
	CHECK_INT(pm_reason_of_errno(EPERM), PM_REASON_EACCES);
	CHECK_INT(pm_reason_of_errno(ENODEV), PM_REASON_ENODEV);
	CHECK_INT(pm_reason_of_errno(EMFILE), PM_REASON_EMFILE);
	CHECK_INT(pm_reason_of_errno(ENOMEM), PM_REASON_ENOMEM);
	CHECK_INT(pm_reason_of_errno(ESRCH), PM_REASON_ESRCH);
	CHECK_INT(pm_reason_of_errno(EIO), PM_REASON_EIO);
	CHECK_INT(pm_reason_of_errno(EOPNOTSUPP), PM_REASON_EOPNOTSUPP);
	CHECK_INT(pm_reason_of_errno(ELOOP), PM_REASON_ERRNO);
	for (int reason = 0; reason < PM_REASON_COUNT; reason++)
		CHECK(pm_reason_name((pm_reason)reason) != NULL);
}

int main(void)
{
	containers();
	settings();
	failures();
	replaced();
	budgets();
	bad_roots();
	filled();
	filled_setting();
	reasons();
	return check_result("reader");
}
