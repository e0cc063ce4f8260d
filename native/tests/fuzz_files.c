/* The files of a group that a reader scans by itself, over a file in memory. The first byte says which kind. */
#include <sys/mman.h>
#include <unistd.h>

#include "entry.h"
#include "fuzz.h"
#include "kfile.h"

enum { TABLES = 2, COLUMNS = 66 };

static const char *const names[] = {"rbytes", "wbytes", "rios", "wios", "Read", "Write", "total", "file", "anon"};
static const uint32_t columns[] = {0, 1, 2, 3, 4, 65, 6, 7, 8};
static const pm_file_kind kinds[] = {PM_FILE_IO,    PM_FILE_BLKIO, PM_FILE_PERCPU,   PM_FILE_NUMA, PM_FILE_PROCS,
				     PM_FILE_VALUE, PM_FILE_LIMIT, PM_FILE_PRESSURE, PM_FILE_PAIR, PM_FILE_KEYED};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_file file = {.name = "file"};
	static pm_plan plan = {.file_count = 1, .files = &file, .budget = 10, .slow_ns = 1, .table_count = TABLES};
	static pm_table tables[TABLES];
	static pm_result result;
	static pm_context context = {
		.plan = &plan, .procfs = -1, .sysfs = -1, .result = &result, .level = 1, .alive = 1};
	static int root = -1, fd = -1;
	pm_setting setting = {0};
	pm_entry entry = {
		.path = "none", .fds = &fd, .settings = &setting, .net = {.dir = -1}, .slow_due_ns = INT64_MAX};
	pm_table *pointers[TABLES] = {&tables[0], &tables[1]};
	unsigned kind = fuzz_byte(&data, &size) % (sizeof(kinds) / sizeof(*kinds));
	int appends;

	if (fd < 0) {
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		FUZZ_CHECK(fd >= 0);
		context.roots = &root;
		context.open = 1;
		plan.net = (pm_net_plan){PM_NO_TABLE, PM_NO_TABLE, PM_NO_TABLE, PM_NO_TABLE, PM_NO_TABLE,
					 PM_NO_TABLE, PM_NO_TABLE, {0},		{0}};
		FUZZ_CHECK(pm_keys_init(&file.keys, names, columns, sizeof(names) / sizeof(*names)) == 0);
		for (int i = 0; i < TABLES; i++)
			pm_table_init(&tables[i], COLUMNS);
	}
	file.kind = kinds[kind];
	appends = file.kind == PM_FILE_IO || file.kind == PM_FILE_BLKIO || file.kind == PM_FILE_PERCPU ||
		  file.kind == PM_FILE_NUMA;
	plan.io_numbered = file.kind == PM_FILE_IO || file.kind == PM_FILE_BLKIO ? 1 : PM_NO_TABLE;
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	for (int i = 0; i < TABLES; i++)
		FUZZ_CHECK(pm_table_clear_to(&tables[i], appends ? 0 : 3) == 0);
	memset(result.failures, 0, sizeof(result.failures));
	context.now_ns++;
	pm_collect_files(&context, &entry, 2, pointers, 2);
	FUZZ_CHECK(fd >= 0 && context.open == 1);
	FUZZ_CHECK(result.failures[PM_REASON_ERRNO] == 0 && result.failures[PM_REASON_ENOENT] == 0);
	for (uint32_t row = 0; row < tables[0].rows; row++) {
		const pm_row_labels *labels = &tables[0].labels[row];
		FUZZ_CHECK(labels->parent == (appends ? 2 : row));
		FUZZ_CHECK((labels->len > 0) == appends);
		FUZZ_CHECK((size_t)labels->offset + labels->len <= tables[0].arena.len);
	}
	if (plan.io_numbered == 1)
		FUZZ_CHECK(tables[0].rows == tables[1].rows);
	return 0;
}
