#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "record.h"

struct pm_bpf_walk {
	int root;
	int flush; /* or -1 */
	int link;
	char *memory; /* the array map: a head, then records */
	size_t memory_size;
	size_t record_size;
};

static int call(int command, union bpf_attr *attributes)
{
	return pm_bpf_call(command, attributes, sizeof(*attributes));
}

static size_t record_size(const pm_bpf_walk_plan *plan)
{
	size_t size = sizeof(uint64_t) * (1 + (size_t)plan->values + plan->cpus);

	return size < sizeof(pm_bpf_head) ? sizeof(pm_bpf_head) : size;
}

static struct bpf_program *choose_program(const pm_libbpf *library, struct bpf_object *object, const char *name)
{
	struct bpf_program *program = NULL, *chosen = NULL;

	while ((program = library->next_program(object, program)) != NULL) {
		int is_chosen = strcmp(library->program_name(program), name) == 0;

		library->set_autoload(program, is_chosen);
		if (is_chosen)
			chosen = program;
	}
	return chosen;
}

/* The object with one program loaded; NULL with errno. */
static struct bpf_object *load(const pm_bpf_walk_plan *plan, const pm_bpf_object *from, uint32_t capacity,
			       struct bpf_program **program)
{
	const pm_libbpf *library = plan->library;
	struct bpf_object *object = library->object_open(from->data, from->size, NULL);
	struct bpf_map *version, *records, *constants;
	pm_bpf_given given = {(uint64_t)sysconf(_SC_PAGESIZE), plan->cpus};
	size_t size;
	void *value;
	int error = EPROTO;

	if (object == NULL)
		return NULL;
	version = library->find_map(object, "version");
	records = library->find_map(object, "records");
	constants = library->find_map(object, ".rodata");
	*program = choose_program(library, object, plan->program);
	if (version == NULL || library->max_entries(version) != PM_BPF_VERSION || records == NULL ||
	    constants == NULL || *program == NULL)
		goto fail;
	value = library->initial_value(constants, &size);
	if (value == NULL || size < sizeof(given))
		goto fail;
	memcpy(value, &given, sizeof(given));
	error = -library->set_max_entries(records, capacity + 1);
	if (error == 0)
		error = -library->set_value_size(records, (uint32_t)record_size(plan));
	if (error == 0)
		error = -library->object_load(object);
	if (error == 0)
		return object;
fail:
	library->object_close(object);
	errno = error;
	return NULL;
}

static int link_to(int program, int root)
{
	struct {
		uint32_t order;
		uint32_t cgroup_fd;
		uint64_t cgroup_id;
	} where = {.order = BPF_CGROUP_ITER_DESCENDANTS_PRE, .cgroup_fd = (uint32_t)root};
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.link_create.prog_fd = (uint32_t)program;
	attributes.link_create.attach_type = BPF_TRACE_ITER;
	attributes.link_create.iter_info = (uintptr_t)&where;
	attributes.link_create.iter_info_len = sizeof(where);
	return call(BPF_LINK_CREATE, &attributes);
}

static void close_walk(pm_bpf_walk *walk)
{
	if (walk == NULL)
		return;
	if (walk->memory != MAP_FAILED)
		munmap(walk->memory, walk->memory_size);
	if (walk->link >= 0)
		close(walk->link);
	if (walk->flush >= 0)
		close(walk->flush);
	if (walk->root >= 0)
		close(walk->root);
	free(walk);
}

static pm_bpf_walk *open_walk(const pm_bpf_walk_plan *plan, uint32_t capacity, char *log, size_t log_size)
{
	pm_bpf_walk *walk = calloc(1, sizeof(*walk));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct bpf_object *object = NULL;
	struct bpf_program *program;
	int error;

	pm_libbpf_log(log, log_size);
	if (walk == NULL)
		goto fail;
	walk->link = walk->flush = -1;
	walk->memory = MAP_FAILED;
	walk->record_size = record_size(plan);
	walk->root = open(plan->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (walk->root < 0)
		goto fail;
	if (plan->flush && (walk->flush = openat(walk->root, plan->flush, O_RDONLY | O_CLOEXEC)) < 0)
		goto fail;
	for (uint32_t i = 0; i < plan->object_count && object == NULL; i++)
		object = load(plan, &plan->objects[i], capacity, &program);
	if (object == NULL)
		goto fail;
	walk->memory_size = ((capacity + 1) * walk->record_size + page - 1) / page * page;
	walk->memory = mmap(NULL, walk->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			    plan->library->map_fd(plan->library->find_map(object, "records")), 0);
	if (walk->memory == MAP_FAILED)
		goto fail;
	walk->link = link_to(plan->library->program_fd(program), walk->root);
	if (walk->link < 0)
		goto fail;
	/* The link holds the program, and that its maps. */
	pm_libbpf_close(plan->library, object);
	pm_libbpf_log(NULL, 0);
	return walk;
fail:
	error = errno;
	if (object)
		plan->library->object_close(object);
	close_walk(walk);
	pm_libbpf_log(NULL, 0);
	errno = error;
	return NULL;
}

static int run_walk(pm_bpf_walk *walk, pm_bpf_records *records)
{
	volatile pm_bpf_head *head = (volatile pm_bpf_head *)walk->memory;
	size_t room = walk->memory_size / walk->record_size - 1;
	union bpf_attr attributes;
	char byte;
	int iterator, error = 0;

	/* The file is made when it is read, and made whole. */
	if (walk->flush >= 0 && pread(walk->flush, &byte, 1, 0) < 0)
		return -errno;
	head->records = head->dropped = head->done = 0;
	memset(&attributes, 0, sizeof(attributes));
	attributes.iter_create.link_fd = (uint32_t)walk->link;
	iterator = call(BPF_ITER_CREATE, &attributes);
	if (iterator < 0)
		return -errno;
	if (read(iterator, &byte, 1) < 0)
		error = -errno;
	close(iterator);
	if (error)
		return error;
	if (!head->done || head->records > room)
		return -ECANCELED;
	*records = (pm_bpf_records){
		.first = walk->memory + walk->record_size,
		.size = walk->record_size,
		.count = (uint32_t)head->records,
		.dropped = (uint32_t)head->dropped,
	};
	return 0;
}

const pm_bpf_walker pm_bpf_kernel = {open_walk, run_walk, close_walk};

int pm_bpf_is_cgroup(const char *path)
{
	struct statfs status;

	return statfs(path, &status) == 0 &&
	       (status.f_type == CGROUP_SUPER_MAGIC || status.f_type == CGROUP2_SUPER_MAGIC);
}
