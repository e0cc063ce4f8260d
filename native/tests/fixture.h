/* A reader over a tree of files, asked and answered in one call. */
#ifndef PYMON_FIXTURE_H
#define PYMON_FIXTURE_H

#include <poll.h>

#include "check.h"
#include "clock.h"
#include "reader.h"
#include "tree.h"

enum { FIXTURE_TABLES = 10, FIXTURE_FILES = 32, FIXTURE_KEYS = 8 };

typedef struct {
	const char *name;
	const char *kind;
	uint32_t table;
	uint32_t column;
	const char *keys; /* by spaces, of the columns from `column` on */
	int slow;
} fixture_file;

typedef struct {
	char root[TREE_PATH]; /* holds cgroup, proc and sys */
	pm_plan plan;
	pm_mailbox *mailbox;
	pm_reader *reader;
	pm_result result;
	pm_table tables[FIXTURE_TABLES];
	unsigned unwanted; /* bits of tables that are not asked for */
} fixture;

static inline void fixture_keys(pm_keys *keys, const char *names, uint32_t column)
{
	char *copy = names ? strdup(names) : NULL, *rest = copy;
	const char *list[FIXTURE_KEYS];
	uint32_t columns[FIXTURE_KEYS], count = 0;

	while (rest && count < FIXTURE_KEYS) {
		columns[count] = column + count;
		list[count++] = strsep(&rest, " ");
	}
	if (pm_keys_init(keys, list, columns, count) < 0)
		tree_die("keys");
	free(copy);
}

static inline void fixture_label(pm_file_target *target, const char *name, pm_label_source source)
{
	target->labels[target->label_count++] = (pm_label){name, source};
}

/* Rows of the file's table are block devices, and those of table `numbered` have their numbers, too. */
static inline void fixture_devices(fixture *fixture, uint32_t index, uint32_t numbered)
{
	pm_file *file = &fixture->plan.files[index];

	fixture_label(&file->targets[0], "device", PM_LABEL_DEVICE);
	file->target_count = 2;
	file->targets[1].table = numbered;
	fixture_label(&file->targets[1], "device", PM_LABEL_DEVICE);
	fixture_label(&file->targets[1], "major", PM_LABEL_MAJOR);
	fixture_label(&file->targets[1], "minor", PM_LABEL_MINOR);
}

static inline pm_file *fixture_files(const fixture_file *files, uint32_t count)
{
	pm_file *made = calloc(count + 1, sizeof(*made));

	for (uint32_t i = 0; i < count; i++) {
		made[i].name = strdup(files[i].name);
		made[i].kind = pm_kind_find(files[i].kind);
		if (made[i].kind == NULL)
			tree_die(files[i].kind);
		made[i].column = files[i].column;
		made[i].slow = files[i].slow;
		made[i].target_count = 1;
		made[i].targets[0].table = files[i].table;
		fixture_keys(&made[i].keys, files[i].keys, files[i].column);
	}
	return made;
}

static inline void fixture_free_files(pm_file *files, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		free(files[i].name);
		pm_keys_free(&files[i].keys);
	}
	free(files);
}

/* Tables have `widths` columns, 0 ends the list. */
static inline void fixture_init(fixture *fixture, const fixture_file *files, uint32_t count, const uint32_t *widths)
{
	char *cgroup, *proc, *sys;

	memset(fixture, 0, sizeof(*fixture));
	tree_make(fixture->root);
	cgroup = tree_path(fixture->root, "cgroup");
	proc = tree_path(fixture->root, "proc");
	sys = tree_path(fixture->root, "sys");
	tree_link(fixture->root, "proc/1/ns/net", "net:[1]");
	tree_parents(fixture->root, "cgroup/");
	tree_parents(fixture->root, "sys/");
	fixture->plan = (pm_plan){
		.root_count = 1,
		.roots = malloc(sizeof(char *)),
		.procfs = proc,
		.sysfs = sys,
		.file_count = count,
		.files = fixture_files(files, count),
		.processes = {[0 ... PM_PROCESS_TABLES - 1] = PM_NO_TABLE},
		.budget = 1000,
		.sharers = 1,
		.slow_ns = INT64_MAX / 4,
	};
	fixture->plan.roots[0] = cgroup;
	for (; widths[fixture->plan.table_count]; fixture->plan.table_count++)
		pm_table_init(&fixture->tables[fixture->plan.table_count], widths[fixture->plan.table_count]);
}

static inline void fixture_start(fixture *fixture)
{
	int root;

	fixture->mailbox = pm_mailbox_new();
	fixture->reader = pm_reader_start(&fixture->plan, fixture->mailbox, &root);
	if (fixture->reader == NULL)
		tree_die("reader");
}

static inline void fixture_stop(fixture *fixture)
{
	pm_reader_stop(fixture->reader);
	pm_mailbox_free(fixture->mailbox);
	fixture->reader = NULL;
	fixture->mailbox = NULL;
}

static inline void fixture_free(fixture *fixture)
{
	if (fixture->reader)
		fixture_stop(fixture);
	for (uint32_t i = 0; i < fixture->plan.table_count; i++)
		pm_table_free(&fixture->tables[i]);
	fixture_free_files(fixture->plan.files, fixture->plan.file_count);
	fixture_free_files(fixture->plan.net_files, fixture->plan.net_file_count);
	free(fixture->plan.roots[0]);
	free(fixture->plan.roots);
	free(fixture->plan.procfs);
	free(fixture->plan.sysfs);
	tree_remove(fixture->root);
}

static inline pm_ticket *fixture_wait(pm_mailbox *mailbox)
{
	struct pollfd event = {.fd = pm_mailbox_event(mailbox), .events = POLLIN};

	if (poll(&event, 1, 60000) != 1)
		tree_die("no ticket in a minute");
	return pm_mailbox_take(mailbox);
}

static inline void fixture_ask(fixture *fixture, int one, uint32_t rows, int64_t deadline_ns)
{
	pm_table *tables[FIXTURE_TABLES];
	pm_ticket ticket = {.pending = 1, .mailbox = fixture->mailbox};
	int posted;

	for (uint32_t i = 0; i < fixture->plan.table_count; i++)
		tables[i] = fixture->unwanted >> i & 1 ? NULL : &fixture->tables[i];
	fixture->result = (pm_result){0};
	if (one)
		posted =
			pm_reader_collect_row(fixture->reader, &ticket, &fixture->result, tables, rows, deadline_ns, 0);
	else
		posted = pm_reader_collect(fixture->reader, &ticket, &fixture->result, tables, rows, deadline_ns);
	pm_reader_wake(fixture->reader);
	CHECK_INT(posted, 0);
	CHECK(fixture_wait(fixture->mailbox) == &ticket);
	CHECK(pm_mailbox_take(fixture->mailbox) == NULL);
	CHECK(fixture->result.done && ticket.pending == 0);
	CHECK(fixture->result.finished_ns >= fixture->result.started_ns);
}

static inline void fixture_collect(fixture *fixture, uint32_t rows)
{
	fixture_ask(fixture, 0, rows, INT64_MAX);
}

/* The failures as `reason=count`, by spaces. */
static inline void fixture_failures(const fixture *fixture, const char *wanted)
{
	char got[512] = "";
	size_t len = 0;

	for (int reason = 0; reason < PM_REASON_COUNT; reason++)
		if (fixture->result.failures[reason])
			len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s=%" PRIu64, len ? " " : "",
						pm_reason_name((pm_reason)reason), fixture->result.failures[reason]);
	CHECK_TEXT(got, len, wanted);
}

/* The rows of a table that have a cell or labels, as `parent{labels}cells`, by semicolons; an absent cell is a dot. */
static inline void fixture_rows(const fixture *fixture, uint32_t index, const char *wanted)
{
	const pm_table *table = &fixture->tables[index];
	char *got;
	size_t len;
	FILE *stream = open_memstream(&got, &len);

	for (uint32_t row = 0; row < table->rows; row++) {
		const pm_row_labels *labels = &table->labels[row];
		int any = labels->len != 0;
		for (uint32_t column = 0; column < table->columns; column++)
			any |= pm_table_has(table, row, column);
		if (!any)
			continue;
		fprintf(stream, "%" PRIu32 "{%.*s}", labels->parent, (int)labels->len,
			labels->len ? table->arena.data + labels->offset : "");
		for (uint32_t column = 0; column < table->columns; column++) {
			if (pm_table_has(table, row, column))
				fprintf(stream, "%s%" PRIu64, column ? " " : "", pm_table_get(table, row, column));
			else
				fprintf(stream, "%s.", column ? " " : "");
		}
		fputc(';', stream);
	}
	fclose(stream);
	CHECK_TEXT(got, len, wanted);
	free(got);
}

#endif
