/* The files of a network namespace. The first byte says which. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "netns.h"
#include "tree.h"

enum { TABLES = 7 };

static const char *const names[] = {"TCP:inuse", "TCP:tw", "UDP:mem", "TCP6:inuse", "RAW:inuse", "FRAG:memory"};
static const char *const advanced[] = {"Tcp:RtoMin", "Tcp:MaxConn",	   "Tcp:InSegs",
				       "TcpExt:TW",  "TcpExt:TCPTimeouts", "TcpExt:ListenDrops"};
static const uint32_t columns[] = {0, 1, 2, 3, 4, 5};
static const struct {
	const char *name, *kind;
	uint32_t table;
	const char *const *keys;
} kinds[] = {
	{"net/dev", "interfaces", 0, NULL},
	{"net/sockstat", "nested", 1, names},
	{"net/tcp", "tcp", 2, NULL},
	{"net/udp", "udp", 4, NULL},
	{"net/tcp6", "tcp", 3, NULL},
	{"net/udp6", "udp", 5, NULL},
	{"net/sockstat6", "nested", 1, names},
	{"net/snmp", "statistics", 6, advanced},
	{"net/netstat", "statistics", 6, advanced},
};
enum { FILES = sizeof(kinds) / sizeof(*kinds) };

static char root[TREE_PATH];

static void remove_root(void)
{
	tree_remove(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_file files[FILES];
	static pm_plan plan = {.net_file_count = FILES, .net_files = files};
	static pm_table tables[TABLES];
	static pm_result result;
	static pm_context context = {.plan = &plan, .procfs = -1, .sysfs = -1, .result = &result};
	static pm_entry entry = {.path = "none", .net = {.dir = -1, .inode = 7}};
	static int fds[FILES];
	static const uint32_t widths[TABLES] = {16, 6, 11, 11, 4, 4, 6};
	pm_table *pointers[TABLES];
	unsigned file = fuzz_byte(&data, &size) % FILES;

	if (entry.net.dir < 0) {
		tree_make(root);
		atexit(remove_root);
		for (int i = 0; i < FILES; i++) {
			char *path = tree_path(root, kinds[i].name);
			tree_write(root, kinds[i].name, "");
			fds[i] = open(path, O_RDWR | O_CLOEXEC);
			free(path);
		}
		entry.net.dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		FUZZ_CHECK(entry.net.dir >= 0);
		for (int i = 0; i < FILES; i++) {
			files[i].name = (char *)kinds[i].name;
			files[i].kind = pm_kind_find(kinds[i].kind);
			files[i].target_count = 1;
			files[i].targets[0].table = kinds[i].table;
			if (kinds[i].keys)
				FUZZ_CHECK(pm_keys_init(&files[i].keys, kinds[i].keys, columns, 6) == 0);
		}
		for (int i = 0; i < TABLES; i++)
			pm_table_init(&tables[i], widths[i]);
	}
	if (ftruncate(fds[file], 0) < 0 || pwrite(fds[file], data, size, 0) != (ssize_t)size)
		abort();
	for (int i = 0; i < TABLES; i++) {
		pointers[i] = &tables[i];
		FUZZ_CHECK(pm_table_clear_to(&tables[i], i == 0 ? 0 : 3) == 0);
	}
	pm_netns_collect(&context, &entry, pointers, 1);
	for (uint32_t row = 0; row < tables[0].rows; row++)
		FUZZ_CHECK(tables[0].labels[row].parent == 1);
	for (int i = 1; i < TABLES; i++)
		for (uint32_t column = 0; column < widths[i]; column++)
			FUZZ_CHECK(!pm_table_has(&tables[i], 0, column) && !pm_table_has(&tables[i], 2, column));
	return ftruncate(fds[file], 0);
}
