#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entry.h"
#include "kfile.h"

/* Names of block devices by number, as cAdvisor spells them: /dev/NAME. Looked up in sysfs once for each number and
 * forgotten on the slow clock, because the numbers of removable devices are used again. */
enum { DEVICES_MAX = 1024 };

struct pm_devices {
	uint32_t count;
	int64_t due_ns;
	struct {
		unsigned major, minor;
		char name[72];
	} known[DEVICES_MAX];
};

void pm_devices_free(pm_context *context)
{
	free(context->devices);
	context->devices = NULL;
}

static void device_name_from_sysfs(pm_context *context, unsigned major, unsigned minor, char name[72])
{
	char path[64];
	int fd;

	snprintf(name, 72, "%u:%u", major, minor);
	if (context->sysfs < 0)
		return;
	snprintf(path, sizeof(path), "dev/block/%u:%u/uevent", major, minor);
	fd = openat(context->sysfs, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (pm_read_whole(fd, &context->scratch) == 0) {
		const char *p = context->scratch.data, *end = p + context->scratch.len;
		while (p < end) {
			const char *line_end = memchr(p, '\n', (size_t)(end - p));
			if (line_end == NULL)
				break;
			if (line_end - p > 8 && line_end - p < 72 && memcmp(p, "DEVNAME=", 8) == 0)
				snprintf(name, 72, "/dev/%.*s", (int)(line_end - p - 8), p + 8);
			p = line_end + 1;
		}
	}
	close(fd);
}

static const char *device_name(pm_context *context, unsigned major, unsigned minor)
{
	struct pm_devices *devices = context->devices;

	if (devices == NULL) {
		devices = context->devices = calloc(1, sizeof(*devices));
		if (devices == NULL)
			return NULL;
	}
	if (context->now_ns > devices->due_ns || devices->count == DEVICES_MAX) {
		devices->count = 0;
		devices->due_ns = context->now_ns + context->plan->slow_ns;
	}
	for (uint32_t i = 0; i < devices->count; i++)
		if (devices->known[i].major == major && devices->known[i].minor == minor)
			return devices->known[i].name;
	devices->known[devices->count].major = major;
	devices->known[devices->count].minor = minor;
	device_name_from_sysfs(context, major, minor, devices->known[devices->count].name);
	return devices->known[devices->count++].name;
}

/* A row for a device of a container, found again if an earlier file made it; or -1. Rows of one container are
 * together at the end of the table, from `first` on. */
static int64_t device_row(pm_context *context, pm_table *table, uint32_t first, uint32_t parent, unsigned major,
			  unsigned minor, int numbered)
{
	const char *name = device_name(context, major, minor);
	char want[128], number[16];
	int64_t row;
	size_t len;

	if (name == NULL)
		return -1;
	if (numbered)
		len = (size_t)snprintf(want, sizeof(want), "device=\"%s\",major=\"%u\",minor=\"%u\",", name, major,
				       minor);
	else
		len = (size_t)snprintf(want, sizeof(want), "device=\"%s\",", name);
	for (uint32_t i = first; i < table->rows; i++)
		if (table->labels[i].len == len && memcmp(table->arena.data + table->labels[i].offset, want, len) == 0)
			return i;
	row = pm_table_append(table, parent);
	if (row < 0 || pm_table_label(table, "device", 6, name, strlen(name)) < 0)
		return -1;
	if (numbered) {
		len = (size_t)snprintf(number, sizeof(number), "%u", major);
		if (pm_table_label(table, "major", 5, number, len) < 0)
			return -1;
		len = (size_t)snprintf(number, sizeof(number), "%u", minor);
		if (pm_table_label(table, "minor", 5, number, len) < 0)
			return -1;
	}
	return row;
}

static int device_number(const char **p, const char *end, unsigned *major, unsigned *minor)
{
	const char *at = *p;
	uint64_t a, b;

	if (!pm_scan_integer(&at, end, &a) || at == end || *at++ != ':')
		return 0;
	if (!pm_scan_integer(&at, end, &b) || at == end || *at != ' ')
		return 0;
	while (at < end && *at == ' ')
		at++;
	*p = at;
	*major = (unsigned)a;
	*minor = (unsigned)b;
	return 1;
}

static int begins(const char *p, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - p) >= len && memcmp(p, word, len) == 0;
}

/* io.stat: `8:0 rbytes=1 wbytes=2 rios=3 ...` (block/blk-cgroup.c). Some kernels put devices that have no numbers yet
 * before the next one on its line, or at the end without a newline: `7:1 7:0 rbytes=1 ...`.
 * blkio.*: `8:0 Read 1`, then `Total 1` (block/blk-throttle.c); a device without a name is `(unknown)`. */
static pm_scan_result scan_devices(pm_context *context, const pm_file *file, pm_table **tables, const uint32_t *firsts,
				   uint32_t parent)
{
	const char *p = context->buffer.data, *end = p + context->buffer.len;
	pm_scan_result result = PM_OK;

	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *word = p;
		uint32_t targets[2] = {file->table, context->plan->io_numbered};
		unsigned major, minor;
		int cut = line_end == NULL;

		if (cut)
			line_end = end;
		p = cut ? end : line_end + 1;
		if (!device_number(&word, line_end, &major, &minor)) {
			if (cut)
				return PM_TRUNCATED;
			if (!begins(word, line_end, "Total ") && !begins(word, line_end, "(unknown) "))
				result = PM_MALFORMED;
			continue;
		}
		while (device_number(&word, line_end, &major, &minor))
			;
		if (cut && word < line_end)
			return PM_TRUNCATED;
		while (word < line_end) {
			char separator = file->kind == PM_FILE_IO ? '=' : ' ';
			const char *value = memchr(word, separator, (size_t)(line_end - word)), *next;
			int64_t index;
			uint64_t number;

			if (value == NULL) {
				result = PM_MALFORMED;
				break;
			}
			index = pm_keys_find(&file->keys, word, (size_t)(value - word));
			next = ++value;
			while (next < line_end && *next != ' ')
				next++;
			if (index >= 0 && (!pm_scan_integer(&value, next, &number) || value != next)) {
				result = PM_MALFORMED;
				index = -1;
			}
			for (int i = 0; index >= 0 && i < 2; i++) {
				int64_t row;
				if (targets[i] == PM_NO_TABLE || tables[targets[i]] == NULL)
					continue;
				row = device_row(context, tables[targets[i]], firsts[i], parent, major, minor, i);
				if (row < 0)
					return PM_MALFORMED;
				pm_table_set(tables[targets[i]], (uint32_t)row, file->keys.columns[index], number);
			}
			word = next;
			while (word < line_end && *word == ' ')
				word++;
		}
	}
	return result;
}

/* cpuacct.usage_percpu: nanoseconds of each possible CPU on one line (kernel/sched/cpuacct.c). A CPU that never ran
 * the group has no row, as in cAdvisor: a kernel built for 8,192 CPUs would have that many. */
static pm_scan_result scan_percpu(const pm_file *file, const pm_buffer *buffer, pm_table *table, uint32_t parent)
{
	const char *p = buffer->data, *end = p + buffer->len;
	unsigned cpu = 0;
	uint64_t value;

	if (buffer->len == 0)
		return PM_EMPTY;
	if (end[-1] != '\n')
		return PM_TRUNCATED;
	for (; p < end; cpu++) {
		while (p < end && (*p == ' ' || *p == '\n'))
			p++;
		if (p == end)
			break;
		if (!pm_scan_integer(&p, end, &value))
			return PM_MALFORMED;
		if (value) {
			char name[16];
			int len = snprintf(name, sizeof(name), "cpu%02u", cpu);
			int64_t row = pm_table_append(table, parent);
			if (row < 0 || pm_table_label(table, "cpu", 3, name, (size_t)len) < 0)
				return PM_MALFORMED;
			pm_table_set(table, (uint32_t)row, file->column, value);
		}
	}
	return PM_OK;
}

/* memory.numa_stat of v1: `total=1 N0=1 N1=0`, and `hierarchical_total=…` for the subtree, in pages. */
static pm_scan_result scan_numa(const pm_file *file, const pm_buffer *buffer, pm_table *table, uint32_t parent)
{
	const char *p = buffer->data, *end = p + buffer->len;

	if (buffer->len == 0)
		return PM_EMPTY;
	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p)), *type = p, *equals, *word;
		const char *scope = "container";

		if (line_end == NULL)
			return PM_TRUNCATED;
		p = line_end + 1;
		if (line_end - type > 13 && memcmp(type, "hierarchical_", 13) == 0) {
			scope = "hierarchy";
			type += 13;
		}
		equals = memchr(type, '=', (size_t)(line_end - type));
		if (equals == NULL)
			return PM_MALFORMED;
		if (pm_keys_find(&file->keys, type, (size_t)(equals - type)) < 0)
			continue;
		word = memchr(equals, ' ', (size_t)(line_end - equals));
		while (word && word + 2 < line_end && word[1] == 'N') {
			const char *node = word + 2, *value = memchr(node, '=', (size_t)(line_end - node));
			uint64_t number;
			int64_t row;
			const char *after;

			if (value == NULL)
				return PM_MALFORMED;
			after = value + 1;
			if (!pm_scan_integer(&after, line_end, &number))
				return PM_MALFORMED;
			row = pm_table_append(table, parent);
			if (row < 0 || pm_table_label(table, "node", 4, node, (size_t)(value - node)) < 0 ||
			    pm_table_label(table, "scope", 5, scope, strlen(scope)) < 0 ||
			    pm_table_label(table, "type", 4, type, (size_t)(equals - type)) < 0)
				return PM_MALFORMED;
			pm_table_set(table, (uint32_t)row, file->column, number);
			word = after < line_end ? after : NULL;
		}
	}
	return PM_OK;
}

/* Lines of cgroup.procs and the first pid; all of them where they are to be listed. */
static uint64_t count_procs(pm_context *context, const pm_buffer *buffer, int *first)
{
	const char *p = buffer->data, *end = p + buffer->len;
	uint64_t lines = 0, pid;

	while (p < end) {
		const char *line_end = memchr(p, '\n', (size_t)(end - p));
		if (line_end == NULL)
			break;
		if ((*first == 0 || context->listing) && pm_scan_integer(&p, line_end, &pid) && p == line_end &&
		    pid <= INT32_MAX) {
			int number = (int)pid; /* 0 stands for a process of another pid namespace */
			if (*first == 0)
				*first = number;
			if (context->listing &&
			    pm_buffer_append(&context->pids, (const char *)&number, sizeof(number)) < 0)
				context->listing = 0;
		}
		lines++;
		p = line_end + 1;
	}
	return lines;
}

#include <dirent.h>

/* Processes of the groups below `dir` (which is closed here): a container that runs an init has its processes there. */
static uint64_t count_descendants(pm_context *context, int dir, int depth, int *first)
{
	DIR *stream = fdopendir(dir);
	struct dirent *entry;
	uint64_t total = 0;

	if (stream == NULL) {
		close(dir);
		return 0;
	}
	while (depth > 0 && (entry = readdir(stream)) != NULL) {
		int child, procs;

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		child = openat(dirfd(stream), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (child < 0)
			continue;
		procs = pm_open_at(child, "cgroup.procs");
		if (procs >= 0) {
			if (pm_read_whole(procs, &context->scratch) == 0)
				total += count_procs(context, &context->scratch, first);
			close(procs);
		}
		total += count_descendants(context, child, depth - 1, first);
	}
	closedir(stream);
	return total;
}

enum { DESCENDANTS_DEPTH = 16 };

static void file_path(const pm_entry *entry, const pm_file *file, char *path, size_t size)
{
	if (entry->path[0])
		snprintf(path, size, "%s/%s", entry->path, file->name);
	else
		snprintf(path, size, "%s", file->name);
}

static int open_entry_dir(pm_context *context, const pm_entry *entry, uint32_t root)
{
	return openat(context->roots[root], entry->path[0] ? entry->path : ".",
		      O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static void store(pm_table *table, uint32_t row, uint32_t column, const uint64_t *values, const int *set, int count)
{
	for (int i = 0; i < count; i++)
		if (set[i])
			pm_table_set(table, row, column + (uint32_t)i, values[i]);
}

static int wanted(const pm_context *context, const pm_file *file, pm_table **tables)
{
	const pm_net_plan *net = &context->plan->net;

	if (tables[file->table])
		return 1;
	if (file->kind == PM_FILE_PROCS)
		return (net->network != PM_NO_TABLE && tables[net->network]) ||
		       (net->sockstat != PM_NO_TABLE && tables[net->sockstat]) ||
		       (net->tcp != PM_NO_TABLE && tables[net->tcp]) || (net->udp != PM_NO_TABLE && tables[net->udp]) ||
		       (net->tcp6 != PM_NO_TABLE && tables[net->tcp6]) ||
		       (net->udp6 != PM_NO_TABLE && tables[net->udp6]) ||
		       (net->advtcp != PM_NO_TABLE && tables[net->advtcp]);
	if (file->kind == PM_FILE_IO || file->kind == PM_FILE_BLKIO)
		return context->plan->io_numbered != PM_NO_TABLE && tables[context->plan->io_numbered];
	return 0;
}

/* A group that is not in a hierarchy, or has just gone from it, has no files there: that is no failure. */
static int group_is_there(const pm_context *context, const pm_entry *entry, uint32_t root)
{
	return faccessat(context->roots[root], entry->path[0] ? entry->path : ".", F_OK, 0) == 0;
}

/* Bring the file into context->buffer. 1, or 0 when there is nothing (counted where it is a failure). */
static int read_file(pm_context *context, pm_entry *entry, uint32_t slot, const pm_file *file, int keep)
{
	char path[4352];
	int fd = entry->fds[slot], error;

	if (fd == PM_FD_ABSENT)
		return 0;
	if (fd < 0) {
		file_path(entry, file, path, sizeof(path));
		fd = pm_open_at(context->roots[file->root], path);
		if (fd < 0) {
			if (fd != -ENOENT || group_is_there(context, entry, file->root))
				pm_fail(context, pm_reason_of_errno(-fd));
			if (fd == -ENOENT || fd == -ENOTDIR || fd == -EOPNOTSUPP)
				entry->fds[slot] = PM_FD_ABSENT;
			return 0;
		}
		if (keep && context->open < context->plan->budget) {
			entry->fds[slot] = fd;
			context->open++;
		}
	}
	error = pm_read_whole(fd, &context->buffer);
	if (error < 0) {
		pm_fail(context, pm_reason_of_errno(-error));
		if (entry->fds[slot] == fd) {
			context->open--;
			entry->fds[slot] = PM_FD_CLOSED;
		}
		close(fd);
		if (error == -ENODEV || error == -EOPNOTSUPP)
			entry->fds[slot] = PM_FD_ABSENT;
		return 0;
	}
	if (entry->fds[slot] != fd)
		close(fd);
	return 1;
}

/* Processes of the group and, where it has groups below it, of those. The content of cgroup.procs is in
 * context->buffer. */
static uint64_t walk_procs(pm_context *context, pm_entry *entry, const pm_file *file, int *first)
{
	uint64_t count = count_procs(context, &context->buffer, first);

	if (count == 0 || entry->has_children) {
		int dir = open_entry_dir(context, entry, file->root);
		if (dir >= 0)
			count += count_descendants(context, dir, DESCENDANTS_DEPTH, first);
	}
	return count;
}

/* The first process has gone. Version 1 keeps a list of pids for a second (cgroup_pidlist), so the list may still begin
 * with it: take the next that is there. */
static void find_living(pm_context *context, pm_entry *entry, int gone)
{
	enum { TRIES = 16 };
	const char *p = context->buffer.data, *end = p + context->buffer.len;
	uint64_t pid;

	for (int tries = 0; tries < TRIES && p < end && pm_scan_integer(&p, end, &pid); tries++, p++)
		if (pid != 0 && pid <= INT32_MAX && (int)pid != gone && pm_netns_find(context, entry, (int)pid))
			return;
}

/* The same, and the way to the network namespace. */
static uint64_t read_procs(pm_context *context, pm_entry *entry, const pm_file *file)
{
	int first = 0;
	uint64_t count = walk_procs(context, entry, file, &first);

	if (context->plan->net.network != PM_NO_TABLE && !pm_netns_find(context, entry, first))
		find_living(context, entry, first);
	return count;
}

void pm_look_for_netns(pm_context *context, pm_entry *entry)
{
	if (!pm_netns_is_vague(context, entry))
		return;
	entry->net.check_ns = context->now_ns + 1;
	for (uint32_t i = 0; i < context->plan->file_count; i++) {
		const pm_file *file = &context->plan->files[i];
		if (file->kind == PM_FILE_PROCS && read_file(context, entry, i, file, 0))
			read_procs(context, entry, file);
	}
}

int pm_list_processes(pm_context *context, pm_entry *entry, int *first)
{
	int listed = 0;

	context->pids.len = 0;
	for (uint32_t i = 0; i < context->plan->file_count; i++) {
		const pm_file *file = &context->plan->files[i];
		if (file->kind != PM_FILE_PROCS || !read_file(context, entry, i, file, 0))
			continue;
		context->listing = 1;
		walk_procs(context, entry, file, first);
		listed = context->listing;
		context->listing = 0;
		if (!listed)
			pm_fail(context, PM_REASON_ENOMEM);
	}
	return listed;
}

static pm_scan_result scan_file(pm_context *context, pm_entry *entry, const pm_file *file, pm_setting *setting,
				pm_table **tables, const uint32_t *firsts, uint32_t parent, uint32_t row)
{
	const pm_buffer *buffer = &context->buffer;
	pm_table *table = tables[file->table];
	pm_scan_result result = PM_OK;
	uint32_t set;
	int count = 1;

	switch (file->kind) {
	case PM_FILE_VALUE:
	case PM_FILE_LIMIT:
		result = pm_scan_value(buffer->data, buffer->len, &setting->values[0], &setting->set[0]);
		if (file->kind == PM_FILE_LIMIT && setting->values[0] > 1ull << 62)
			setting->set[0] = 0;
		break;
	case PM_FILE_PAIR:
		count = 2;
		result = pm_scan_pair(buffer->data, buffer->len, setting->values, setting->set);
		break;
	case PM_FILE_PRESSURE:
		count = 2;
		result = pm_scan_pressure(buffer->data, buffer->len, setting->values, setting->set);
		break;
	case PM_FILE_KEYED:
		return pm_scan_keyed(&file->keys, buffer->data, buffer->len, 1, table, row, &set);
	case PM_FILE_IO:
	case PM_FILE_BLKIO:
		return scan_devices(context, file, tables, firsts, parent);
	case PM_FILE_PERCPU:
		return scan_percpu(file, buffer, table, parent);
	case PM_FILE_NUMA:
		return scan_numa(file, buffer, table, parent);
	case PM_FILE_PROCS:
		setting->values[0] = read_procs(context, entry, file);
		setting->set[0] = 1;
		break;
	}
	if (table)
		store(table, row, file->column, setting->values, setting->set, count);
	return result;
}

/* On the slow clock: look for files that were absent, and whether the group has groups below it. */
static void look_again(pm_context *context, pm_entry *entry)
{
	const pm_plan *plan = context->plan;
	struct stat stat;

	for (uint32_t i = 0; i < plan->file_count; i++) {
		if (entry->fds[i] == PM_FD_ABSENT)
			entry->fds[i] = PM_FD_CLOSED;
		if (plan->files[i].kind == PM_FILE_PROCS)
			/* kernfs counts a directory's subdirectories in its links */
			entry->has_children = fstatat(context->roots[plan->files[i].root],
						      entry->path[0] ? entry->path : ".", &stat, 0) == 0 &&
					      stat.st_nlink > 2;
	}
}

/* A runtime makes a group first and writes its settings then: those of a young container are read again soon. */
static const int64_t YOUNG_SLOW_NS = 1000000000;

void pm_collect_files(pm_context *context, pm_entry *entry, uint32_t index, pm_table **tables, uint32_t row)
{
	const pm_plan *plan = context->plan;
	int slow = context->now_ns >= entry->slow_due_ns;
	uint32_t parent = row, fast = 0;
	uint32_t firsts[2] = {0, 0};

	if (slow) {
		/* Spread by the row, so that the settings of all containers are not due in one scrape. */
		entry->slow_due_ns = context->now_ns + plan->slow_ns - plan->slow_ns / 4 * (index % 16) / 16;
		if (context->now_ns < entry->young_until_ns && plan->slow_ns > YOUNG_SLOW_NS)
			entry->slow_due_ns = context->now_ns + YOUNG_SLOW_NS;
		look_again(context, entry);
	}
	for (uint32_t i = 0; i < plan->file_count; i++) {
		const pm_file *file = &plan->files[i];
		pm_setting *setting = &entry->settings[i];
		pm_scan_result result;
		int keep = 0;

		if (!file->slow) {
			keep = fast < context->level || (fast == context->level && index < context->extra);
			fast++;
			if (!keep && entry->fds[i] >= 0) {
				close(entry->fds[i]);
				entry->fds[i] = PM_FD_CLOSED;
				context->open--;
			}
		}
		/* Settings are read when they are due even if this collection wants none of them: the next may. */
		if (!wanted(context, file, tables) && !(slow && file->slow))
			continue;
		if (file->kind == PM_FILE_IO || file->kind == PM_FILE_BLKIO) {
			/* the first io file of the container: its rows begin where the table ends now */
			if (i == 0 ||
			    (plan->files[i - 1].kind != PM_FILE_IO && plan->files[i - 1].kind != PM_FILE_BLKIO)) {
				firsts[0] = tables[file->table] ? tables[file->table]->rows : 0;
				firsts[1] = plan->io_numbered != PM_NO_TABLE && tables[plan->io_numbered]
						    ? tables[plan->io_numbered]->rows
						    : 0;
			}
		}
		if (file->slow && !slow) {
			if (tables[file->table])
				store(tables[file->table], row, file->column, setting->values, setting->set, 2);
			continue;
		}
		setting->set[0] = setting->set[1] = 0;
		if (!read_file(context, entry, i, file, keep))
			continue;
		result = scan_file(context, entry, file, setting, tables, firsts, parent, row);
		if (result != PM_OK)
			pm_fail(context, pm_reason_of_scan(result));
	}
}
