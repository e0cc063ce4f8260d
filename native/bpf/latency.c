#include "latency.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices.h"

enum { LINKS = 3, IO_AT_ONCE = 256 };

static const int64_t DEVICES_TTL_NS = 60000000000;

static const char *const operations[] = {
	[PM_LATENCY_READ] = "read",
	[PM_LATENCY_WRITE] = "write",
	[PM_LATENCY_FLUSH] = "flush",
	[PM_LATENCY_DISCARD] = "discard",
};

typedef struct {
	char *path;		      /* NULL: no container has this row */
	uint64_t task_id, request_id; /* of its cgroups, 0: none */
	uint32_t account;
} group;

struct pm_latency {
	pthread_mutex_t lock;
	int tasks, requests, sysfs;	  /* directories */
	int are_apart;			  /* requests have another hierarchy than tasks */
	int groups, io_groups, io, state; /* maps */
	int links[LINKS];
	pm_latency_counts *counts; /* of the kernel, by row */
	size_t counts_size;
	pm_devices *devices;
	uint32_t generation;
	group rows[PM_LATENCY_GROUPS];
	struct {
		pm_latency_io_key key;
		pm_latency_histogram histogram;
	} *histograms; /* of block I/O, as they were last read */
	uint32_t histogram_count;
};

static int call(int command, union bpf_attr *attributes)
{
	return pm_bpf_call(command, attributes, sizeof(*attributes));
}

/* Maps. */

static int update(int map, const void *key, const void *value)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_fd = (uint32_t)map;
	attributes.key = (uintptr_t)key;
	attributes.value = (uintptr_t)value;
	return call(BPF_MAP_UPDATE_ELEM, &attributes) < 0 ? -errno : 0;
}

static void drop(int map, const void *key)
{
	union bpf_attr attributes;

	memset(&attributes, 0, sizeof(attributes));
	attributes.map_fd = (uint32_t)map;
	attributes.key = (uintptr_t)key;
	call(BPF_MAP_DELETE_ELEM, &attributes);
}

/* Loading. */

static int open_map(const pm_libbpf *library, struct bpf_object *object, const char *name)
{
	return fcntl(library->map_fd(library->find_map(object, name)), F_DUPFD_CLOEXEC, 0);
}

/* Set the constants of the programs and load them. 0 or an errno. */
static int load(const pm_libbpf *library, struct bpf_object *object, const pm_latency_place *place)
{
	const uint32_t values[] = {place->by_cpu != 0, place->by_blkio != 0};
	struct bpf_map *version = library->find_map(object, "version");
	struct bpf_map *constants = library->find_map(object, ".rodata");
	size_t size = 0;
	void *initial = constants ? library->initial_value(constants, &size) : NULL;

	if (version == NULL || library->max_entries(version) != PM_LATENCY_VERSION || initial == NULL ||
	    size < sizeof(values))
		return EPROTO;
	memcpy(initial, values, sizeof(values));
	return -library->object_load(object);
}

/* Have the kernel run each program from now on. 0, or -1 with errno. */
static int attach(pm_latency *latency, const pm_libbpf *library, struct bpf_object *object)
{
	struct bpf_program *program = NULL;
	uint32_t count = 0;

	while ((program = library->next_program(object, program)) != NULL && count < LINKS) {
		union bpf_attr attributes;

		memset(&attributes, 0, sizeof(attributes));
		attributes.raw_tracepoint.prog_fd = (uint32_t)library->program_fd(program);
		latency->links[count] = call(BPF_RAW_TRACEPOINT_OPEN, &attributes);
		if (latency->links[count++] < 0)
			return -1;
	}
	return 0;
}

static int open_directory(const char *path)
{
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int open_places(pm_latency *latency, const pm_latency_place *place)
{
	latency->are_apart = place->by_cpu || place->by_blkio;
	latency->tasks = open_directory(place->tasks);
	if (place->requests)
		latency->requests = open_directory(place->requests);
	latency->sysfs = open_directory(place->sysfs);
	if (latency->tasks < 0 || (place->requests && latency->requests < 0) || latency->sysfs < 0)
		return -1;
	latency->devices = pm_devices_new(latency->sysfs, DEVICES_TTL_NS);
	latency->histograms = calloc(PM_LATENCY_IO + IO_AT_ONCE, sizeof(*latency->histograms));
	return latency->devices && latency->histograms ? 0 : -1;
}

static int open_maps(pm_latency *latency, const pm_libbpf *library, struct bpf_object *object)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size = sizeof(pm_latency_counts) * PM_LATENCY_GROUPS;

	latency->groups = open_map(library, object, "groups");
	latency->io_groups = open_map(library, object, "io_groups");
	latency->io = open_map(library, object, "io");
	latency->state = open_map(library, object, "state");
	if (latency->groups < 0 || latency->io_groups < 0 || latency->io < 0 || latency->state < 0)
		return -1;
	latency->counts_size = (size + page - 1) / page * page;
	latency->counts = mmap(NULL, latency->counts_size, PROT_READ | PROT_WRITE, MAP_SHARED,
			       library->map_fd(library->find_map(object, "counts")), 0);
	return latency->counts == MAP_FAILED ? -1 : 0;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void pm_latency_close(pm_latency *latency)
{
	if (latency == NULL)
		return;
	for (int i = 0; i < LINKS; i++)
		close_if_open(latency->links[i]);
	if (latency->counts != MAP_FAILED)
		munmap(latency->counts, latency->counts_size);
	pm_devices_free(latency->devices);
	close_if_open(latency->groups);
	close_if_open(latency->io_groups);
	close_if_open(latency->io);
	close_if_open(latency->state);
	close_if_open(latency->tasks);
	close_if_open(latency->requests);
	close_if_open(latency->sysfs);
	free(latency->histograms);
	for (uint32_t row = 0; row < PM_LATENCY_GROUPS; row++)
		free(latency->rows[row].path);
	pthread_mutex_destroy(&latency->lock);
	free(latency);
}

pm_latency *pm_latency_open(const pm_libbpf *library, const pm_bpf_object *from, const pm_latency_place *place,
			    char *log, size_t log_size)
{
	pm_latency *latency = calloc(1, sizeof(*latency));
	struct bpf_object *object = NULL;
	int error;

	if (latency == NULL)
		return NULL;
	pm_libbpf_log(log, log_size);
	pthread_mutex_init(&latency->lock, NULL);
	latency->groups = latency->io_groups = latency->io = latency->state = -1;
	latency->tasks = latency->requests = latency->sysfs = -1;
	for (int i = 0; i < LINKS; i++)
		latency->links[i] = -1;
	latency->counts = MAP_FAILED;
	if (open_places(latency, place) < 0)
		goto fail;
	object = library->object_open(from->data, from->size, NULL);
	if (object == NULL)
		goto fail;
	errno = load(library, object, place);
	if (errno || open_maps(latency, library, object) < 0 || attach(latency, library, object) < 0)
		goto fail;
	/* The links hold the programs, and those their maps. */
	pm_libbpf_close(library, object);
	pm_libbpf_log(NULL, 0);
	return latency;
fail:
	error = errno;
	if (object)
		library->object_close(object);
	pm_latency_close(latency);
	pm_libbpf_log(NULL, 0);
	errno = error;
	return NULL;
}

/* Containers. */

static uint64_t id_of(int root, const char *path)
{
	struct stat status;

	return fstatat(root, path, &status, 0) < 0 ? 0 : status.st_ino;
}

/* Forget which group a cgroup that is none was in. */
static void renew(pm_latency *latency)
{
	const uint32_t first = 0;
	const pm_latency_state state = {++latency->generation};

	update(latency->state, &first, &state);
}

/* Tell the programs of a group, under its present ids. */
static int tell(pm_latency *latency, uint32_t row)
{
	const group *of = &latency->rows[row];
	const pm_latency_group value = {row, of->account};
	int error = 0;

	if (of->task_id)
		error = update(latency->groups, &of->task_id, &value);
	if (latency->are_apart && of->request_id && !error)
		error = update(latency->io_groups, &of->request_id, &value);
	renew(latency);
	return error;
}

static void drop_ids(pm_latency *latency, uint32_t row)
{
	const group *of = &latency->rows[row];

	if (of->task_id)
		drop(latency->groups, &of->task_id);
	if (latency->are_apart && of->request_id)
		drop(latency->io_groups, &of->request_id);
}

/* Read the histograms of block I/O. */
static int read_io(pm_latency *latency)
{
	pm_latency_io_key keys[IO_AT_ONCE];
	pm_latency_histogram values[IO_AT_ONCE];
	uint32_t at = 0, next = 0;
	int is_first = 1, error = 0;

	latency->histogram_count = 0;
	while (!error && latency->histogram_count < PM_LATENCY_IO) {
		union bpf_attr attributes;

		memset(&attributes, 0, sizeof(attributes));
		attributes.batch.map_fd = (uint32_t)latency->io;
		attributes.batch.in_batch = is_first ? 0 : (uintptr_t)&at;
		attributes.batch.out_batch = (uintptr_t)&next;
		attributes.batch.keys = (uintptr_t)keys;
		attributes.batch.values = (uintptr_t)values;
		attributes.batch.count = IO_AT_ONCE;
		if (call(BPF_MAP_LOOKUP_BATCH, &attributes) < 0)
			error = -errno;
		if (error && error != -ENOENT)
			return error;
		for (uint32_t i = 0; i < attributes.batch.count; i++) {
			latency->histograms[latency->histogram_count].key = keys[i];
			latency->histograms[latency->histogram_count++].histogram = values[i];
		}
		at = next;
		is_first = 0;
	}
	return 0;
}

/* Remove the histograms of a container's requests. */
static void forget_io(pm_latency *latency, uint32_t row)
{
	read_io(latency);
	for (uint32_t i = 0; i < latency->histogram_count; i++)
		if (latency->histograms[i].key.slot == row)
			drop(latency->io, &latency->histograms[i].key);
}

static void forget(pm_latency *latency, uint32_t row)
{
	drop_ids(latency, row);
	renew(latency);
	forget_io(latency, row);
	free(latency->rows[row].path);
	latency->rows[row] = (group){0};
}

/* Look for a container's cgroups. An id that was found stays until there is another one: a cgroup that went has no
 * tasks any more. */
static int look(pm_latency *latency, uint32_t row)
{
	group *of = &latency->rows[row];
	uint64_t task_id = id_of(latency->tasks, of->path), request_id = id_of(latency->requests, of->path);

	if ((task_id == 0 || task_id == of->task_id) && (request_id == 0 || request_id == of->request_id))
		return 0;
	drop_ids(latency, row);
	of->task_id = task_id ? task_id : of->task_id;
	of->request_id = request_id ? request_id : of->request_id;
	return tell(latency, row);
}

int pm_latency_add(pm_latency *latency, uint32_t row, const char *path)
{
	group *of;
	int error = -ENOMEM;

	if (row >= PM_LATENCY_GROUPS)
		return -ENOSPC;
	pthread_mutex_lock(&latency->lock);
	of = &latency->rows[row];
	forget(latency, row);
	memset(&latency->counts[row], 0, sizeof(latency->counts[row]));
	of->path = strdup(path);
	if (of->path)
		error = look(latency, row);
	pthread_mutex_unlock(&latency->lock);
	return error;
}

int pm_latency_look(pm_latency *latency, uint32_t first, uint32_t count)
{
	int error = 0;

	pthread_mutex_lock(&latency->lock);
	for (uint32_t row = first; row < PM_LATENCY_GROUPS && row - first < count; row++) {
		int of_row = latency->rows[row].path ? look(latency, row) : 0;

		error = error ? error : of_row;
	}
	pthread_mutex_unlock(&latency->lock);
	return error;
}

int pm_latency_own(pm_latency *latency, uint32_t row, uint32_t account)
{
	int error = 0;

	if (row >= PM_LATENCY_GROUPS)
		return -ENOSPC;
	pthread_mutex_lock(&latency->lock);
	if (latency->rows[row].account != account) {
		latency->rows[row].account = account;
		error = tell(latency, row);
	}
	pthread_mutex_unlock(&latency->lock);
	return error;
}

void pm_latency_remove(pm_latency *latency, uint32_t row)
{
	if (row >= PM_LATENCY_GROUPS)
		return;
	pthread_mutex_lock(&latency->lock);
	forget(latency, row);
	pthread_mutex_unlock(&latency->lock);
}

/* Tables. */

static void set_histogram(pm_table *table, uint32_t row, const volatile pm_latency_histogram *histogram)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < PM_LATENCY_BUCKETS; i++) {
		total += histogram->buckets[i];
		pm_table_set(table, row, i, total);
	}
	pm_table_set(table, row, PM_LATENCY_SUM, histogram->sum_ns);
}

static void set_container(pm_latency *latency, pm_table *table, uint32_t at, uint32_t row)
{
	const volatile pm_latency_counts *counts = &latency->counts[row];

	if (row >= PM_LATENCY_GROUPS || latency->rows[row].task_id == 0)
		return;
	set_histogram(table, at, &counts->run_delay);
	for (uint32_t i = 0; i < PM_LATENCY_BY; i++)
		pm_table_set(table, at, PM_LATENCY_PREEMPTED + i, counts->preempted[i]);
	pm_table_set(table, at, PM_LATENCY_OTHER_NS, counts->other_ns);
}

static int append_io(pm_latency *latency, pm_table *table, uint32_t parent, uint32_t index)
{
	const pm_latency_io_key *key = &latency->histograms[index].key;
	const char *device = pm_devices_name(latency->devices, key->major, key->minor);
	int64_t row = pm_table_append(table, parent);

	if (row < 0 || key->operation >= sizeof(operations) / sizeof(operations[0]) ||
	    pm_table_label(table, "device", 6, device, strlen(device)) < 0 ||
	    pm_table_label(table, "operation", 9, operations[key->operation], strlen(operations[key->operation])) < 0)
		return -ENOMEM;
	set_histogram(table, (uint32_t)row, &latency->histograms[index].histogram);
	return 0;
}

/* Fill rows of block I/O of all containers below `rows`, or of `one` alone. */
static int fill_io(pm_latency *latency, pm_table *io, uint32_t rows, const uint32_t *one)
{
	int error = read_io(latency);

	for (uint32_t i = 0; !error && i < latency->histogram_count; i++) {
		uint32_t row = latency->histograms[i].key.slot;

		if (row >= PM_LATENCY_GROUPS || latency->rows[row].request_id == 0)
			continue;
		if (one ? row == *one : row < rows)
			error = append_io(latency, io, one ? 0 : row, i);
	}
	return error;
}

int pm_latency_fill(pm_latency *latency, pm_table *containers, pm_table *io, uint32_t rows)
{
	int error = 0;

	pthread_mutex_lock(&latency->lock);
	if (containers) {
		error = pm_table_clear_to(containers, rows) < 0 ? -ENOMEM : 0;
		for (uint32_t row = 0; !error && row < rows; row++)
			set_container(latency, containers, row, row);
	}
	if (io && !error) {
		pm_table_clear(io);
		error = fill_io(latency, io, rows, NULL);
	}
	pthread_mutex_unlock(&latency->lock);
	return error;
}

int pm_latency_fill_one(pm_latency *latency, pm_table *containers, pm_table *io, uint32_t row)
{
	int error = 0;

	pthread_mutex_lock(&latency->lock);
	if (containers) {
		error = pm_table_clear_to(containers, 1) < 0 ? -ENOMEM : 0;
		if (!error)
			set_container(latency, containers, 0, row);
	}
	if (io && !error) {
		pm_table_clear(io);
		error = fill_io(latency, io, 0, &row);
	}
	pthread_mutex_unlock(&latency->lock);
	return error;
}
