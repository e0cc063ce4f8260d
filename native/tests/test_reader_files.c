/* Files of groups whose rows are devices, CPUs and NUMA nodes, and lists of processes. */
#include "groups.h"

static void devices(void)
{
	static const fixture_file files[] = {{"io.stat", "nested", 0, 0, "rbytes wbytes", 0}};
	static const uint32_t widths[] = {2, 2, 0};
	fixture f;

	fixture_init(&f, files, COUNT(files), widths);
	fixture_devices(&f, 0, 1);
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
		{"bytes", "nested", 0, 0, "Read Write", 0},
		{"serviced", "nested", 0, 2, "Read Write", 0},
		{"percpu", "percpu", 1, 0, NULL, 0},
		{"numa_stat", "nested", 2, 0, "total file", 0},
	};
	static const uint32_t widths[] = {4, 1, 1, 4, 0};
	fixture f;

	fixture_init(&f, files, COUNT(files), widths);
	fixture_devices(&f, 0, 3);
	fixture_devices(&f, 1, 3);
	fixture_label(&f.plan.files[3].targets[0], "node", PM_LABEL_NODE);
	fixture_label(&f.plan.files[3].targets[0], "scope", PM_LABEL_SCOPE);
	fixture_label(&f.plan.files[3].targets[0], "type", PM_LABEL_KEY);
	f.plan.files[3].keys.columns[1] = 0;
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

static void processes(void)
{
	static const fixture_file procs[] = {{"cgroup.procs", "procs", 0, 0, NULL, 0}};
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

int main(void)
{
	devices();
	version_one();
	processes();
	return check_result("reader files");
}
