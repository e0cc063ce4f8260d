/* Network namespaces of the processes in a group. */
#include "groups.h"

static const fixture_file procs[] = {{"cgroup.procs", "procs", 0, 0, NULL, 0}};
static const uint32_t net_widths[] = {1, 3, 4, 11, 4, 11, 4, 0};

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
	static const fixture_file files[] = {
		{"net/dev", "interfaces", 1, 0, NULL, 0},
		{"net/sockstat", "nested", 2, 0, "TCP:inuse TCP:tw UDP:mem TCP6:inuse", 0},
		{"net/sockstat6", "nested", 2, 0, "TCP:inuse TCP:tw UDP:mem TCP6:inuse", 0},
		{"net/tcp", "tcp", 3, 0, NULL, 0},
		{"net/udp", "udp", 4, 0, NULL, 0},
		{"net/tcp6", "tcp", 5, 0, NULL, 0},
		{"net/udp6", "udp", 6, 0, NULL, 0},
	};

	fixture->plan.net_file_count = COUNT(files);
	fixture->plan.net_files = fixture_files(files, COUNT(files));
}

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
		{"sockstat", "no value\nA much too long heading: inuse 1\nTCP: inuse x\n", "malformed=1"},
		{"sockstat", "TCP:\nTCP: \n:\nTCP: inuse 1\n", ""},
		{"sockstat", "TCP: inuse\nTCP: inuse 1 tw\n", "malformed=1"},
		{"tcp", SOCKETS "0: 1:1 2:2", "truncated=1"},
		{"tcp", SOCKETS "\n0: 1:1 2:2\n0: 1:1 2:2 zz 1:1\n0: 1:1 2:2 FFFFFFFFFFFFFFFFF 1:1\n", "malformed=1"},
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

int main(void)
{
	namespaces(1000);
	namespaces(8);
	namespaces(0);
	malformed_namespaces();
	return check_result("reader net");
}
