/* The time that programs on trace points take for an event, while a command runs.
 *
 *   latency OBJECT CGROUP|- COMMAND
 *
 * OBJECT has programs like those of native/bpf/latency.bpf.c, or none but an empty one. CGROUP: a directory of version 1
 * of the controller cpu, or of version 2, whose tasks are counted. Prints a JSON object: events and nanoseconds for an
 * event by program, as the kernel counts them (BPF_ENABLE_STATS). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "latency_record.h"

enum { PROGRAMS = 8 };

static struct bpf_prog_info info_of(int program)
{
	struct bpf_prog_info info;
	unsigned size = sizeof(info);

	memset(&info, 0, sizeof(info));
	if (bpf_obj_get_info_by_fd(program, &info, &size) < 0)
		exit(1);
	return info;
}

/* Have a cgroup counted, as row 0 of account 1. */
static void count(struct bpf_object *object, const char *cgroup)
{
	struct bpf_map *groups = bpf_object__find_map_by_name(object, "groups");
	const pm_latency_group group = {0, 1};
	unsigned long long id;
	struct stat status;

	if (groups == NULL || strcmp(cgroup, "-") == 0)
		return;
	if (stat(cgroup, &status) < 0)
		exit(1);
	id = status.st_ino;
	if (bpf_map_update_elem(bpf_map__fd(groups), &id, &group, BPF_ANY) < 0)
		exit(1);
}

int main(int argc, char **argv)
{
	struct bpf_prog_info before[PROGRAMS];
	struct bpf_program *program;
	struct bpf_object *object;
	int programs[PROGRAMS], n = 0;
	size_t size = 0;
	unsigned *constants;

	if (argc != 4)
		return 2;
	object = bpf_object__open(argv[1]);
	if (object == NULL)
		return 1;
	constants = (unsigned *)bpf_map__initial_value(bpf_object__find_map_by_name(object, ".rodata"), &size);
	if (constants && size >= 2 * sizeof(*constants))
		constants[0] = constants[1] = strstr(argv[2], "/cpu") != NULL; /* by_cpu, by_blkio */
	if (bpf_object__load(object) < 0)
		return 1;
	count(object, argv[2]);
	bpf_object__for_each_program(program, object)
	{
		programs[n] = bpf_program__fd(program);
		if (n == PROGRAMS || bpf_raw_tracepoint_open(NULL, programs[n++]) < 0)
			return 1;
	}
	if (bpf_enable_stats(BPF_STATS_RUN_TIME) < 0)
		return 1;
	for (int i = 0; i < n; i++)
		before[i] = info_of(programs[i]);
	if (system(argv[3]) != 0)
		return 1;
	printf("{");
	for (int i = 0; i < n; i++) {
		struct bpf_prog_info after = info_of(programs[i]);
		unsigned long long events = after.run_cnt - before[i].run_cnt;
		unsigned long long ns = after.run_time_ns - before[i].run_time_ns;

		printf("%s\"%s\": [%llu, %.1f]", i ? ", " : "", after.name, events,
		       events ? (double)ns / (double)events : 0.0);
	}
	printf("}\n");
	return 0;
}
