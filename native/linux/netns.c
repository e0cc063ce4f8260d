#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptors.h"
#include "fill.h"
#include "kfile.h"
#include "proclist.h"

/* A process may enter another namespace after it was put in the group (runc does so), so the namespace is looked
 * at often while the container is starting, and rarely afterwards. */
static const int64_t STARTING_CHECK_NS = 200000000, RUNNING_CHECK_NS = 30000000000;

/* The namespace files are links `net:[4026531840]`; the number is the inode in nsfs. */
uint64_t pm_netns_inode(int dir, const char *path)
{
	char link[64];
	ssize_t len = readlinkat(dir, path, link, sizeof(link));
	const char *p = link + 5;
	uint64_t inode;

	if (len < 0)
		return 0;
	if (len >= 7 && (size_t)len < sizeof(link) && memcmp(link, "net:[", 5) == 0 &&
	    pm_scan_integer(&p, link + len, &inode) && *p == ']')
		return inode;
	errno = EINVAL;
	return 0;
}

static void forget(pm_context *context, pm_entry *entry)
{
	if (entry->net.dir >= 0) {
		close(entry->net.dir);
		context->open--;
	}
	entry->net = (pm_entry_net){.dir = -1};
}

static int open_process(const pm_context *context, int pid)
{
	char path[32];

	snprintf(path, sizeof(path), "%d", pid);
	return openat(context->procfs, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static int has_gone(int error)
{
	return error == ENOENT || error == ESRCH;
}

/* Look at the namespace through a process. 0 when the process is no longer there. */
static int find_by(pm_context *context, pm_entry *entry, int pid)
{
	pm_entry_net *net = &entry->net;
	int dir;

	forget(context, entry);
	net->pid = pid;
	net->check_ns =
		context->now_ns + (context->now_ns < entry->starting_until_ns ? STARTING_CHECK_NS : RUNNING_CHECK_NS);
	if (pid == 0 || context->procfs < 0)
		return 1;
	dir = open_process(context, pid);
	if (dir < 0) {
		if (has_gone(errno))
			return 0;
		pm_fail(context, pm_reason_of_errno(errno));
		return 1;
	}
	net->inode = pm_netns_inode(dir, "ns/net");
	if (net->inode == 0) {
		int gone = has_gone(errno);
		if (!gone)
			pm_fail(context, pm_reason_of_errno(errno));
		close(dir);
		return !gone;
	}
	/* What is on the host's network has no traffic of its own to tell. */
	if (net->inode == context->host_netns || !pm_descriptors_keep_process(context)) {
		if (net->inode == context->host_netns)
			net->inode = 0;
		close(dir);
		return 1;
	}
	net->dir = dir;
	context->open++;
	return 1;
}

static int is_listed(const pm_buffer *list, int pid)
{
	const char *p = list->data, *end = p + list->len;
	uint64_t listed;

	for (; p < end && pm_scan_integer(&p, end, &listed); p++)
		if (listed == (uint64_t)pid)
			return 1;
	return 0;
}

/* The process that was used last is used while it lives: the list may begin with others that end between two looks.
 * Version 1 keeps a list of pids for a second (cgroup_pidlist), so it may begin with a process that has gone: take the
 * next one that is there. */
static void find(pm_context *context, pm_entry *entry, int pid)
{
	enum { TRIES = 16 };
	pm_entry_net *net = &entry->net;
	const char *p, *end;
	uint64_t next;

	if (pid != 0 && net->pid != 0) {
		if (context->now_ns < net->check_ns &&
		    (net->dir < 0 || pm_netns_inode(net->dir, "ns/net") == net->inode))
			return;
		if (is_listed(&context->buffer, net->pid))
			pid = net->pid;
	}
	if (find_by(context, entry, pid))
		return;
	p = context->buffer.data;
	end = p + context->buffer.len;
	for (int tries = 0; tries < TRIES && p < end && pm_scan_integer(&p, end, &next); tries++, p++)
		if (next != 0 && next <= INT32_MAX && (int)next != pid && find_by(context, entry, (int)next))
			return;
	net->is_lost = 1;
}

void pm_netns_find(pm_context *context, pm_entry *entry, int pid)
{
	uint32_t place = context->place;

	context->place = PM_PLACE_NETWORK;
	find(context, entry, pid);
	context->place = place;
}

int pm_netns_is_as_before(const pm_context *context, const pm_entry *entry, uint32_t row)
{
	const pm_entry_net *net = &entry->net;
	uint64_t inode = net->inode ? net->inode : context->host_netns;

	if (context->fill == NULL || !context->fill->filled[row] || net->pid == 0 || net->is_lost ||
	    context->fill->namespaces[row] != inode)
		return 0;
	/* The process through which files are read may have left the group. */
	return net->dir < 0 || pm_netns_inode(net->dir, "ns/net") == inode;
}

void pm_netns_look(pm_context *context, pm_entry *entry)
{
	uint32_t slot = pm_proclist_file(context);
	int64_t check_ns = entry->net.check_ns;
	int first;

	if (check_ns != 0 && (context->now_ns < check_ns || check_ns >= entry->starting_until_ns))
		return;
	entry->net.check_ns = context->now_ns + 1;
	if (slot == PM_NO_FILE || !pm_read_file(context, entry, slot, 0))
		return;
	pm_proclist_count(context, entry, &context->plan->files[slot], &first);
	pm_netns_find(context, entry, first);
}

static int older(const pm_entry *a, const pm_entry *b)
{
	return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : strcmp(a->path, b->path) < 0;
}

static int by_namespace(const void *left, const void *right)
{
	const pm_entry *a = *(const pm_entry *const *)left, *b = *(const pm_entry *const *)right;

	if (a->net.inode != b->net.inode)
		return a->net.inode < b->net.inode ? -1 : 1;
	return older(a, b) ? -1 : 1;
}

int pm_netns_share(pm_context *context)
{
	pm_entry **sorted = malloc((context->alive + 1) * sizeof(*sorted));
	uint32_t count = 0;

	if (sorted == NULL)
		return -1;
	for (uint32_t i = 0; i < context->entry_count; i++)
		if (context->entries[i] && context->entries[i]->net.inode)
			sorted[count++] = context->entries[i];
	qsort(sorted, count, sizeof(*sorted), by_namespace);
	for (uint32_t i = 0; i < count; i++)
		sorted[i]->net.is_shared = i > 0 && sorted[i - 1]->net.inode == sorted[i]->net.inode;
	free(sorted);
	return 0;
}

void pm_netns_share_one(pm_context *context, pm_entry *entry)
{
	entry->net.is_shared = 0;
	if (entry->net.inode == 0)
		return;
	for (uint32_t i = 0; i < context->entry_count; i++) {
		const pm_entry *other = context->entries[i];
		if (other && other != entry && other->net.inode == entry->net.inode && older(other, entry)) {
			entry->net.is_shared = 1;
			return;
		}
	}
}

int pm_netns_is_wanted(const pm_plan *plan, pm_table *const *tables)
{
	for (uint32_t i = 0; i < plan->net_file_count; i++)
		if (pm_file_is_wanted(&plan->net_files[i], tables))
			return 1;
	return 0;
}

static int is_excluded(const void *state, const char *name, size_t len)
{
	enum { INTERFACE_MAX = 64 }; /* the kernel's names have at most 15 bytes */
	char copy[INTERFACE_MAX];

	if (len >= sizeof(copy))
		return 0;
	memcpy(copy, name, len);
	copy[len] = 0;
	for (char *const *pattern = state; *pattern; pattern++)
		if (fnmatch(*pattern, copy, 0) == 0)
			return 1;
	return 0;
}

/* 1, or 0 when the process is no longer in the namespace. A failure is counted. */
static int collect_file(pm_context *context, const pm_entry *entry, const pm_file *file, pm_table *const *tables,
			uint32_t row)
{
	pm_sink sink = {
		.row = row,
		.column = file->column,
		.keys = &file->keys,
		.target_count = 1,
		.interfaces = {context->plan->excluded ? is_excluded : NULL, context->plan->excluded},
		.targets[0].table = tables[file->targets[0].table],
	};
	int fd = pm_open_at(entry->net.dir, file->name), error = fd;
	pm_scan_result result;

	if (fd >= 0) {
		error = pm_read_whole(fd, &context->buffer);
		close(fd);
	}
	if (error < 0) {
		if (has_gone(-error) && pm_netns_inode(entry->net.dir, "ns/net") != entry->net.inode)
			return 0;
		pm_fail(context, pm_reason_of_errno(-error));
		return 1;
	}
	result = file->kind->scan(&sink, context->buffer.data, context->buffer.len);
	if (result != PM_OK)
		pm_fail(context, pm_reason_of_scan(result));
	return 1;
}

/* Open the process's directory if the budget did not let it stay open. 0 when the process is no longer in the
 * namespace. */
static int enter(pm_context *context, pm_entry *entry)
{
	if (entry->net.dir >= 0)
		return 1;
	entry->net.dir = open_process(context, entry->net.pid);
	if (entry->net.dir < 0) {
		if (!has_gone(errno))
			pm_fail(context, pm_reason_of_errno(errno));
		return 0;
	}
	context->open++;
	return pm_netns_inode(entry->net.dir, "ns/net") == entry->net.inode;
}

/* Enter the namespace by another process of the container, from a new list. 0 when there is none. */
static int enter_by_another(pm_context *context, pm_entry *entry)
{
	enum { TRIES = 64 };
	uint64_t inode = entry->net.inode;
	const int *pids;
	size_t count;
	int first;

	if (!pm_proclist_list(context, entry, &first))
		return 0;
	pids = (const int *)(const void *)context->pids.data;
	count = context->pids.len / sizeof(*pids);
	for (size_t i = 0; i < count && i < TRIES; i++) {
		if (pids[i] == 0 || !find_by(context, entry, pids[i]) || entry->net.inode == 0)
			continue;
		if ((inode == 0 || entry->net.inode == inode) && enter(context, entry))
			return 1;
	}
	forget(context, entry);
	entry->net.is_lost = first != 0;
	return 0;
}

static void collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row)
{
	enum { CHANGES = 4 };
	const pm_plan *plan = context->plan;
	int keep = pm_descriptors_keep_process(context) || entry->net.dir >= 0, changes = 0;

	if (entry->net.is_lost) {
		if (!enter_by_another(context, entry))
			return;
		pm_netns_share_one(context, entry);
	}
	if (entry->net.inode == 0 || entry->net.is_shared)
		return;
	if (!enter(context, entry) && !enter_by_another(context, entry))
		return;
	for (uint32_t i = 0; i < plan->net_file_count; i++) {
		const pm_file *file = &plan->net_files[i];

		if (!pm_file_is_wanted(file, tables) || pm_fill_covers(context, plan->file_count + i, row))
			continue;
		context->place = file->targets[0].table;
		while (!collect_file(context, entry, file, tables, row))
			if (changes++ == CHANGES || !enter_by_another(context, entry))
				return;
	}
	if (!keep && entry->net.dir >= 0) {
		close(entry->net.dir);
		context->open--;
		entry->net.dir = -1;
	}
}

void pm_netns_collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row)
{
	context->place = PM_PLACE_NETWORK;
	collect(context, entry, tables, row);
	context->place = PM_PLACE_ALL;
}
