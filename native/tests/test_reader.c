#include <dirent.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fixture.h"

#ifdef __SANITIZE_THREAD__
enum { THREAD_SANITIZER = 1 }; /* has a thread of its own and does not like to be forked */
#else
enum { THREAD_SANITIZER = 0 };
#endif

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static const fixture_file plain[] = {
	{"current", PM_FILE_VALUE, 0, 0, NULL, 0},     {"stat", PM_FILE_KEYED, 0, 1, "anon file", 0},
	{"pressure", PM_FILE_PRESSURE, 0, 3, NULL, 0}, {"max", PM_FILE_LIMIT, 0, 5, NULL, 1},
	{"cpu.max", PM_FILE_PAIR, 0, 6, NULL, 1},
};
static const uint32_t plain_widths[] = {8, 0};

static void write_plain(fixture *fixture, const char *group, unsigned number)
{
	static const char *const names[] = {"current", "stat", "pressure", "max", "cpu.max"};
	static const char *const formats[] = {"%u0\n", "anon %u1\nother 5\nfile %u2\n",
					      "some avg10=0.00 total=%u3\nfull avg10=0.00 total=%u4\n", "%u5\n",
					      "%u6 %u7\n"};

	for (size_t i = 0; i < COUNT(names); i++) {
		char name[128], content[128];
		snprintf(name, sizeof(name), "cgroup/%s%s%s", group, group[0] ? "/" : "", names[i]);
		snprintf(content, sizeof(content), formats[i], number, number);
		tree_write(fixture->root, name, content);
	}
}

static void add(fixture *fixture, uint32_t row, const char *path)
{
	CHECK_INT(pm_reader_add(fixture->reader, row, path, row), 0);
}

static void write_file(fixture *fixture, const char *name, const char *content)
{
	tree_write(fixture->root, name, content);
}

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

static void devices(void)
{
	static const fixture_file files[] = {{"io.stat", PM_FILE_IO, 0, 0, "rbytes wbytes", 0}};
	static const uint32_t widths[] = {2, 2, 0};
	fixture f;

	fixture_init(&f, files, COUNT(files), widths);
	f.plan.io_numbered = 1;
	write_file(&f, "sys/dev/block/8:0/uevent", "MAJOR=8\nMINOR=0\nDEVNAME=sda\nDEVTYPE=disk\n");
	write_file(&f, "sys/dev/block/8:16/uevent", "MAJOR=8\nDEVNAME=sd");
	write_file(&f, "cgroup/a/io.stat",
		   "8:0 rbytes=1 wbytes=2 rios=3\n8:16 rbytes=4 wbytes=5\n7:0 \n(unknown) rbytes=6 wbytes=7\n");
	write_file(&f, "cgroup/b/io.stat", "7:7 7:6 8:0 rbytes=8 wbytes=9 rios=1\n7:1 7:0 ");
	write_file(&f, "cgroup/c/io.stat", "");
	fixture_start(&f);
	add(&f, 0, "a");
	add(&f, 1, "b");
	add(&f, 2, "c");
	fixture_collect(&f, 3);
	fixture_failures(&f, "");
	fixture_rows(&f, 0, "0{device=\"/dev/sda\",}1 2;0{device=\"8:16\",}4 5;1{device=\"/dev/sda\",}8 9;");
	fixture_rows(
		&f, 1,
		"0{device=\"/dev/sda\",major=\"8\",minor=\"0\",}1 2;0{device=\"8:16\",major=\"8\",minor=\"16\",}4 5;"
		"1{device=\"/dev/sda\",major=\"8\",minor=\"0\",}8 9;");
	fixture_ask(&f, 1, 1, INT64_MAX);
	fixture_rows(&f, 0, "0{device=\"/dev/sda\",}8 9;");
	f.unwanted = 1;
	fixture_collect(&f, 2);
	fixture_rows(
		&f, 1,
		"0{device=\"/dev/sda\",major=\"8\",minor=\"0\",}1 2;0{device=\"8:16\",major=\"8\",minor=\"16\",}4 5;"
		"1{device=\"/dev/sda\",major=\"8\",minor=\"0\",}8 9;");
	f.unwanted = 2;
	CHECK_INT(pm_reader_remove(f.reader, 1), 0);
	for (int i = 0; i < 7; i++) {
		static const struct {
			const char *content, *failures, *rows;
		} cases[] = {
			{"8:0 rbytes=1 wbytes=2", "truncated=1", ""},
			{"8:0 rbytes=1\n8:1", "truncated=1", "0{device=\"/dev/sda\",}1 .;"},
			{"8:0 rbytes=x wbytes=2\n", "malformed=1", "0{device=\"/dev/sda\",}. 2;"},
			{"8:0 rbytes=18446744073709551616 wbytes=2\n", "malformed=1", "0{device=\"/dev/sda\",}. 2;"},
			{"8:0 rbytes=1 wbytes\n", "malformed=1", "0{device=\"/dev/sda\",}1 .;"},
			{"8 rbytes=1\nx:y rbytes=2\n\n8:0 rbytes=3\n", "malformed=1", "0{device=\"/dev/sda\",}3 .;"},
			{"8:0 cost.usage=1 rbytes=2\n", "", "0{device=\"/dev/sda\",}2 .;"},
		};
		write_file(&f, "cgroup/a/io.stat", cases[i].content);
		fixture_collect(&f, 1);
		fixture_rows(&f, 0, cases[i].rows);
		fixture_failures(&f, cases[i].failures);
	}
	fixture_free(&f);
}

static void version_one(void)
{
	static const fixture_file files[] = {
		{"bytes", PM_FILE_BLKIO, 0, 0, "Read Write", 0},
		{"serviced", PM_FILE_BLKIO, 0, 2, "Read Write", 0},
		{"percpu", PM_FILE_PERCPU, 1, 0, NULL, 0},
		{"numa_stat", PM_FILE_NUMA, 2, 0, "total file", 0},
	};
	static const uint32_t widths[] = {4, 1, 1, 4, 0};
	fixture f;

	fixture_init(&f, files, COUNT(files), widths);
	f.plan.io_numbered = 3;
	write_file(&f, "cgroup/a/bytes", "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n(unknown) Read 5\nTotal 3\n");
	write_file(&f, "cgroup/a/serviced", "8:0 Read 3\n8:0 Write 4\nTotal 7\n");
	write_file(&f, "cgroup/a/percpu", "5 0 7 \n");
	write_file(&f, "cgroup/a/numa_stat",
		   "total=3 N0=1 N1=2\nfile=9 N0=9\nanon=7 N0=7\nhierarchical_total=30 N0=10 N1=20\n");
	fixture_start(&f);
	add(&f, 0, "a");
	fixture_collect(&f, 1);
	fixture_failures(&f, "");
	fixture_rows(&f, 0, "0{device=\"8:0\",}1 2 3 4;");
	fixture_rows(&f, 3, "0{device=\"8:0\",major=\"8\",minor=\"0\",}1 2 3 4;");
	fixture_rows(&f, 1, "0{cpu=\"cpu00\",}5;0{cpu=\"cpu02\",}7;");
	fixture_rows(
		&f, 2,
		"0{node=\"0\",scope=\"container\",type=\"total\",}1;0{node=\"1\",scope=\"container\",type=\"total\",}2;"
		"0{node=\"0\",scope=\"container\",type=\"file\",}9;"
		"0{node=\"0\",scope=\"hierarchy\",type=\"total\",}10;0{node=\"1\",scope=\"hierarchy\",type=\"total\",}"
		"20;");
	write_file(&f, "cgroup/a/bytes", "8:0 Read\n");
	write_file(&f, "cgroup/a/serviced", "8:0 Read 1x\n");
	write_file(&f, "cgroup/a/percpu", "1 x\n");
	write_file(&f, "cgroup/a/numa_stat", "total=1 N0=x\n");
	fixture_collect(&f, 1);
	fixture_failures(&f, "malformed=4");
	write_file(&f, "cgroup/a/percpu", "1 2");
	write_file(&f, "cgroup/a/numa_stat", "total=1 N0=");
	fixture_collect(&f, 1);
	fixture_failures(&f, "truncated=2 malformed=2");
	write_file(&f, "cgroup/a/percpu", "");
	write_file(&f, "cgroup/a/numa_stat", "");
	fixture_collect(&f, 1);
	fixture_failures(&f, "empty=2 malformed=2");
	fixture_free(&f);
}

static const fixture_file procs[] = {{"cgroup.procs", PM_FILE_PROCS, 0, 0, NULL, 0}};

static void processes(void)
{
	static const uint32_t widths[] = {1, 0};
	fixture f;

	fixture_init(&f, procs, COUNT(procs), widths);
	write_file(&f, "cgroup/a/cgroup.procs", "7\n8\n9\n");
	write_file(&f, "cgroup/b/cgroup.procs", "");
	write_file(&f, "cgroup/b/init.scope/cgroup.procs", "10\n");
	write_file(&f, "cgroup/b/system.slice/x/y/cgroup.procs", "11\n12\n13");
	write_file(&f, "cgroup/c/cgroup.procs", "");
	fixture_start(&f);
	for (uint32_t row = 0; row < 3; row++)
		add(&f, row, (const char *[]){"a", "b", "c"}[row]);
	fixture_collect(&f, 3);
	fixture_rows(&f, 0, "0{}3;1{}3;2{}0;");
	fixture_failures(&f, "");
	fixture_free(&f);
}

#define DEV                                                                                                            \
	"Inter-|   Receive                            |  Transmit\n face |bytes packets|bytes packets\n"               \
	"    lo: 1 2 3\n  eth0: 4 5 6 7\n veth1:7 8 9\n"
#define SOCKETS "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

static void write_process(fixture *fixture, int pid, int namespace)
{
	static const char *const names[] = {"dev", "sockstat", "sockstat6", "tcp", "udp", "tcp6", "udp6"};
	static const char *const contents[] = {
		DEV,
		"sockets: used 5\nTCP: inuse 1 orphan 2 tw 3\nUDP: inuse 4 mem 5\n",
		"TCP6: inuse 6\n",
		SOCKETS "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1\n"
			"   1: 0100007F:0016 00000000:0000 01 00000000:00000000 00:00000000 00000000 0 0 2\n",
		SOCKETS "   0: 00000000:0044 00000000:0000 07 00000010:000000FF 00:00000000 00000000 0 0 3 2 "
			"0000000000000000 12\n",
		SOCKETS,
		SOCKETS,
	};
	char name[64], link[32];

	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(name, sizeof(name), "proc/%d/net/%s", pid, names[i]);
		tree_write(fixture->root, name, contents[i]);
	}
	snprintf(name, sizeof(name), "proc/%d/ns/net", pid);
	snprintf(link, sizeof(link), "net:[%d]", namespace);
	tree_link(fixture->root, name, link);
}

static void plan_net(fixture *fixture)
{
	fixture->plan.net.network = 1;
	fixture->plan.net.sockstat = 2;
	fixture->plan.net.tcp = 3;
	fixture->plan.net.udp = 4;
	fixture->plan.net.tcp6 = 5;
	fixture->plan.net.udp6 = 6;
	fixture_keys(&fixture->plan.net.sockstat_keys, "TCP:inuse TCP:tw UDP:mem TCP6:inuse", 0);
}

static const uint32_t net_widths[] = {1, 3, 4, 11, 4, 11, 4, 0};

static void namespaces(uint32_t budget)
{
	fixture f;

	fixture_init(&f, procs, COUNT(procs), net_widths);
	plan_net(&f);
	f.plan.budget = budget;
	write_process(&f, 1, 1);
	write_process(&f, 20, 2);
	write_process(&f, 30, 3);
	write_process(&f, 31, 3);
	write_file(&f, "cgroup/host/cgroup.procs", "1\n");
	write_file(&f, "cgroup/own/cgroup.procs", "20\n21\n");
	write_file(&f, "cgroup/older/cgroup.procs", "30\n");
	write_file(&f, "cgroup/younger/cgroup.procs", "31\n");
	write_file(&f, "cgroup/none/cgroup.procs", "");
	write_file(&f, "cgroup/gone/cgroup.procs", "99\n");
	write_file(&f, "cgroup/foreign/cgroup.procs", "0\n");
	fixture_start(&f);
	add(&f, 0, "host");
	add(&f, 1, "own");
	add(&f, 2, "younger");
	CHECK_INT(pm_reader_add(f.reader, 3, "older", 1), 0);
	add(&f, 4, "none");
	add(&f, 5, "gone");
	add(&f, 6, "foreign");
	for (int again = 0; again < 2; again++) {
		fixture_collect(&f, 7);
		fixture_rows(&f, 0, "0{}1;1{}2;2{}1;3{}1;4{}0;5{}1;6{}1;");
		fixture_rows(&f, 1,
			     "1{interface=\"eth0\",}4 5 6;1{interface=\"veth1\",}7 8 9;"
			     "3{interface=\"eth0\",}4 5 6;3{interface=\"veth1\",}7 8 9;");
		fixture_rows(&f, 2, "1{}1 3 5 6;3{}1 3 5 6;");
		fixture_rows(&f, 3, "1{}1 0 0 0 0 0 0 0 0 1 0;3{}1 0 0 0 0 0 0 0 0 1 0;");
		fixture_rows(&f, 4, "1{}1 12 255 16;3{}1 12 255 16;");
		fixture_rows(&f, 6, "1{}0 0 0 0;3{}0 0 0 0;");
		CHECK(pm_reader_open_descriptors(f.reader) <= budget);
	}
	fixture_ask(&f, 1, 1, INT64_MAX);
	fixture_rows(&f, 1, "0{interface=\"eth0\",}4 5 6;0{interface=\"veth1\",}7 8 9;");
	fixture_ask(&f, 1, 2, INT64_MAX);
	fixture_rows(&f, 1, "");
	CHECK_INT(pm_reader_remove(f.reader, 3), 0);
	fixture_ask(&f, 1, 2, INT64_MAX);
	fixture_rows(&f, 1, "0{interface=\"eth0\",}4 5 6;0{interface=\"veth1\",}7 8 9;");
	fixture_free(&f);
}

static void malformed_namespaces(void)
{
	static const struct {
		const char *file, *content, *failures;
	} cases[] = {
		{"dev", "", "empty=1"},
		{"dev", "one\ntwo\neth0: 1 2", "truncated=1"},
		{"dev", "one\ntwo\nno numbers\n", "malformed=1"},
		{"dev", "one\ntwo\n eth0: 1 2\n", "malformed=1"},
		{"dev", "one\ntwo\n eth0: 1 99999999999999999999 3\n", "malformed=1"},
		{"dev", "one\n", ""},
		{"sockstat", "TCP: inuse 1", "truncated=1"},
		{"sockstat", "no colon\nA much too long heading: inuse 1\nTCP: inuse x\n", "malformed=3"},
		{"sockstat", "TCP:\nTCP: \nTCP: inuse\nTCP: inuse 1 tw\n:\n", ""},
		{"tcp", SOCKETS "0: 1:1 2:2", "truncated=1"},
		{"tcp", SOCKETS "\n0: 1:1 2:2\n0: 1:1 2:2 zz 1:1\n0: 1:1 2:2 FFFFFFFFFFFFFFFFF 1:1\n", "malformed=3"},
		{"udp", SOCKETS "0: 1:1 2:2 07\n0: 1:1 2:2 07 zz\n0: 1:1 2:2 07 10\n0: 1:1 2:2 07 10:\n", ""},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		fixture f;
		char name[64];

		fixture_init(&f, procs, COUNT(procs), net_widths);
		plan_net(&f);
		write_process(&f, 20, 2);
		snprintf(name, sizeof(name), "proc/20/net/%s", cases[i].file);
		write_file(&f, name, cases[i].content);
		write_file(&f, "cgroup/a/cgroup.procs", "20\n");
		fixture_start(&f);
		add(&f, 0, "a");
		fixture_collect(&f, 1);
		fixture_failures(&f, cases[i].failures);
		fixture_free(&f);
	}
	for (int i = 0; i < 5; i++) {
		static const char *const links[] = {"net", "net:[", "net:[]", "net:[x]", "mnt:[7]"};
		fixture f;

		fixture_init(&f, procs, COUNT(procs), net_widths);
		plan_net(&f);
		write_process(&f, 20, 2);
		tree_link(f.root, "proc/20/ns/net", links[i]);
		write_file(&f, "cgroup/a/cgroup.procs", "20\n");
		fixture_start(&f);
		add(&f, 0, "a");
		fixture_collect(&f, 1);
		fixture_rows(&f, 1, "");
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
	for (int old_kernel = 0; old_kernel < 2 && !THREAD_SANITIZER; old_kernel++)
		own_descriptors(old_kernel);
	containers();
	settings();
	failures();
	replaced();
	budgets();
	devices();
	version_one();
	processes();
	namespaces(1000);
	namespaces(8);
	namespaces(0);
	malformed_namespaces();
	bad_roots();
	crowd();
	stopped();
	reasons();
	return check_result("reader");
}
