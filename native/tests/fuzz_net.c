/* The files of a network namespace. The first byte says which. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entry.h"
#include "fuzz.h"
#include "tree.h"

enum { TABLES = 7 };

static const char *const names[] = {"TCP:inuse", "TCP:tw", "UDP:mem", "TCP6:inuse", "RAW:inuse", "FRAG:memory"};
static const char *const advanced[] = {"Tcp:RtoMin", "Tcp:MaxConn",	   "Tcp:InSegs",
				       "TcpExt:TW",  "TcpExt:TCPTimeouts", "TcpExt:ListenDrops"};
static const uint32_t columns[] = {0, 1, 2, 3, 4, 5};
static const char *const files[] = {"net/dev",	"net/sockstat",	 "net/tcp",  "net/udp",	   "net/tcp6",
				    "net/udp6", "net/sockstat6", "net/snmp", "net/netstat"};
enum { FILES = sizeof(files) / sizeof(*files) };

static char root[TREE_PATH];

static void remove_root(void)
{
	tree_remove(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static pm_plan plan = {
		.net = {.network = 0, .sockstat = 1, .tcp = 2, .tcp6 = 3, .udp = 4, .udp6 = 5, .advtcp = 6}};
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
			char *path = tree_path(root, files[i]);
			tree_write(root, files[i], "");
			fds[i] = open(path, O_RDWR | O_CLOEXEC);
			free(path);
		}
		entry.net.dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
		FUZZ_CHECK(entry.net.dir >= 0);
		FUZZ_CHECK(pm_keys_init(&plan.net.sockstat_keys, names, columns, sizeof(names) / sizeof(*names)) == 0);
		FUZZ_CHECK(pm_keys_init(&plan.net.advtcp_keys, advanced, columns,
					sizeof(advanced) / sizeof(*advanced)) == 0);
		for (int i = 0; i < TABLES; i++)
			pm_table_init(&tables[i], widths[i]);
	}
	if (ftruncate(fds[file], 0) < 0 || pwrite(fds[file], data, size, 0) != (ssize_t)size)
		abort();
	for (int i = 0; i < TABLES; i++) {
		pointers[i] = &tables[i];
		FUZZ_CHECK(pm_table_clear_to(&tables[i], i == 0 ? 0 : 3) == 0);
	}
	pm_collect_net(&context, &entry, pointers, 1);
	for (uint32_t row = 0; row < tables[0].rows; row++)
		FUZZ_CHECK(tables[0].labels[row].parent == 1);
	for (int i = 1; i < TABLES; i++)
		for (uint32_t column = 0; column < widths[i]; column++)
			FUZZ_CHECK(!pm_table_has(&tables[i], 0, column) && !pm_table_has(&tables[i], 2, column));
	return ftruncate(fds[file], 0);
}
