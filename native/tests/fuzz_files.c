/* The files of a group, over a file in memory. The first byte says of which kind. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collect.h"
#include "fuzz.h"

enum { TABLES = 2, COLUMNS = 66 };

static const char *const names[] = {"rbytes", "wbytes",	    "rios",	 "wios",      "Read",
				    "Write",  "total",	    "file",	 "anon",      "some:total",
				    "TCP:tw", "full:avg10", "TCP:inuse", "UDP6:inuse"};
enum { NAMES = sizeof(names) / sizeof(*names) };
static const uint32_t columns[NAMES] = {0, 1, 2, 3, 4, 65, 6, 7, 8, 9, 10, 11, 12, 13};

/* From '0' on, what a seed begins with. */
static const struct {
	const char *kind;
	uint32_t labels;
	pm_label_source sources[PM_LABELS];
} kinds[] = {
	{"pair", 0, {0}},
	{"flat", 0, {0}},
	{"nested", 1, {PM_LABEL_DEVICE}},
	{"nested", 1, {PM_LABEL_DEVICE}},
	{"percpu", 0, {0}},
	{"nested", 3, {PM_LABEL_NODE, PM_LABEL_SCOPE, PM_LABEL_KEY}},
	{"procs", 0, {0}},
	{"value", 0, {0}},
	{"limit", 0, {0}},
	{"nested", 0, {0}},
	{"nested", 1, {PM_LABEL_KEY}},
	{"nested", 1, {PM_LABEL_NODE}},
	{"listed", 1, {PM_LABEL_KEY}},
	{"cpus", 0, {0}},
};

static void set_up(pm_file *file, unsigned kind)
{
	static const pm_label numbered[PM_LABELS] = {
		{"device", PM_LABEL_DEVICE}, {"major", PM_LABEL_MAJOR}, {"minor", PM_LABEL_MINOR}};

	file->kind = pm_kind_find(kinds[kind].kind);
	file->targets[0].label_count = kinds[kind].labels;
	for (uint32_t i = 0; i < kinds[kind].labels; i++)
		file->targets[0].labels[i] = (pm_label){"label", kinds[kind].sources[i]};
	file->target_count = kinds[kind].labels && kinds[kind].sources[0] == PM_LABEL_DEVICE ? 2 : 1;
	file->targets[1].table = 1;
	file->targets[1].label_count = PM_LABELS;
	memcpy(file->targets[1].labels, numbered, sizeof(numbered));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_file file = {.name = "file"};
	static pm_plan plan = {.file_count = 1, .files = &file, .budget = 10, .slow_ns = 1, .table_count = TABLES};
	static pm_table tables[TABLES];
	static pm_result result;
	static pm_context context = {
		.plan = &plan, .procfs = -1, .sysfs = -1, .result = &result, .level = 1, .alive = 1};
	static int root = -1, fd = -1;
	pm_kept kept = {0};
	pm_entry entry = {
		.row = 2, .path = "none", .fds = &fd, .kept = &kept, .net = {.dir = -1}, .slow_due_ns = INT64_MAX};
	pm_table *pointers[TABLES] = {&tables[0], &tables[1]};
	int adds;

	if (fd < 0) {
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		FUZZ_CHECK(fd >= 0);
		root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		context.roots = &root;
		context.open = 1;
		FUZZ_CHECK(pm_keys_init(&file.keys, names, columns, NAMES) == 0);
		for (int i = 0; i < TABLES; i++)
			pm_table_init(&tables[i], COLUMNS);
	}
	set_up(&file, fuzz_byte(&data, &size) % (sizeof(kinds) / sizeof(*kinds)));
	adds = pm_file_adds_rows(&file, 0) != 0;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	for (int i = 0; i < TABLES; i++)
		FUZZ_CHECK(pm_table_clear_to(&tables[i], adds ? 0 : 3) == 0);
	memset(result.failures, 0, sizeof(result.failures));
	context.now_ns++;
	pm_collect_files(&context, &entry, pointers, 2);
	FUZZ_CHECK(fd >= 0 && context.open == 1);
	FUZZ_CHECK(result.failures[PM_REASON_ERRNO] == 0 && result.failures[PM_REASON_ENOENT] == 0);
	for (uint32_t row = 0; row < tables[0].rows; row++) {
		const pm_row_labels *labels = &tables[0].labels[row];
		FUZZ_CHECK(labels->parent == (adds ? 2 : row));
		FUZZ_CHECK((labels->len > 0) == adds);
		FUZZ_CHECK((size_t)labels->offset + labels->len <= tables[0].arena.len);
	}
	if (file.target_count == 2)
		FUZZ_CHECK(tables[0].rows == tables[1].rows);
	return 0;
}
