#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kfile.h"

static uint32_t files_of_group(const pm_context *context)
{
	uint32_t files = 0;

	for (uint32_t i = 0; i < context->plan->file_count; i++)
		files += !context->plan->files[i].slow;
	return files;
}

void pm_descriptors_share(pm_context *context)
{
	uint32_t files = files_of_group(context), budget = context->plan->budget;

	if (context->plan->net_file_count)
		files++; /* the directory of the process */
	context->level = files;
	context->extra = 0;
	if (context->alive && (uint64_t)context->alive * files > budget) {
		context->level = budget / context->alive;
		context->extra = budget % context->alive;
	}
}

void pm_descriptors_close_file(pm_context *context, pm_entry *entry, uint32_t slot)
{
	close(entry->fds[slot]);
	context->open--;
	entry->fds[slot] = PM_FD_CLOSED;
}

int pm_descriptors_keep(pm_context *context, pm_entry *entry, uint32_t nth, uint32_t slot)
{
	int keep = nth < context->level || (nth == context->level && entry->row < context->extra);

	if (!keep)
		pm_descriptors_drop(context, entry, slot);
	return keep;
}

int pm_descriptors_keep_process(const pm_context *context)
{
	return context->level > files_of_group(context) && context->open < context->plan->budget;
}

void pm_descriptors_close(pm_context *context, pm_entry *entry)
{
	for (uint32_t i = 0; i < context->plan->file_count; i++)
		pm_descriptors_drop(context, entry, i);
	if (entry->net.dir >= 0) {
		close(entry->net.dir);
		context->open--;
		entry->net.dir = -1;
	}
}

void pm_descriptors_retry(pm_context *context, pm_entry *entry)
{
	for (uint32_t i = 0; i < context->plan->file_count; i++)
		if (entry->fds[i] == PM_FD_ABSENT)
			entry->fds[i] = PM_FD_CLOSED;
}

const char *pm_group_path(const pm_entry *entry)
{
	return entry->path[0] ? entry->path : ".";
}

static int group_is_there(const pm_context *context, const pm_entry *entry, uint32_t root)
{
	return faccessat(context->roots[root], pm_group_path(entry), F_OK, 0) == 0;
}

static int has_word(const char *text, size_t len, const char *word, size_t word_len)
{
	const char *p = text, *end = text + len;

	while (p < end) {
		const char *stop = p;

		while (stop < end && *stop != ' ' && *stop != '\n')
			stop++;
		if ((size_t)(stop - p) == word_len && memcmp(p, word, word_len) == 0)
			return 1;
		p = stop + 1;
	}
	return 0;
}

/* Whether a file is missing because its controller is not enabled for the group, which version 2 says in
 * cgroup.controllers. */
static int is_of_another_controller(pm_context *context, const pm_entry *entry, const pm_file *file)
{
	const char *dot = strchr(file->name, '.');
	char path[4352];
	int fd, other;

	snprintf(path, sizeof(path), "%s/cgroup.controllers", pm_group_path(entry));
	fd = dot ? pm_open_at(context->roots[file->root], path) : -1;
	if (fd < 0)
		return 0;
	other = pm_read_whole(fd, &context->buffer) == 0 &&
		!has_word(context->buffer.data, context->buffer.len, file->name, (size_t)(dot - file->name));
	close(fd);
	return other && strncmp(file->name, "cgroup.", 7) != 0;
}

int pm_read_file(pm_context *context, pm_entry *entry, uint32_t slot, int keep)
{
	const pm_file *file = &context->plan->files[slot];
	char path[4352];
	int fd = entry->fds[slot], error;

	if (fd == PM_FD_ABSENT)
		return 0;
	if (fd < 0) {
		snprintf(path, sizeof(path), "%s/%s", pm_group_path(entry), file->name);
		fd = pm_open_at(context->roots[file->root], path);
		if (fd < 0) {
			int missing = fd == -ENOENT && !group_is_there(context, entry, file->root);
			int is_of_root =
				fd == -ENOENT && pm_entry_is_root(entry); /* which lacks many files by design */

			if (!missing && !is_of_root &&
			    !(fd == -ENOENT && is_of_another_controller(context, entry, file)))
				pm_fail(context, pm_reason_of_errno(-fd));
			/* A runtime makes the directories of a container one hierarchy after the other. */
			if (missing && context->now_ns < entry->starting_until_ns)
				return 0;
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
	if (entry->fds[slot] != fd)
		close(fd);
	if (error == 0)
		return 1;
	if (error != -ENODEV || group_is_there(context, entry, file->root))
		pm_fail(context, pm_reason_of_errno(-error));
	pm_descriptors_drop(context, entry, slot);
	if (error == -ENODEV || error == -EOPNOTSUPP)
		entry->fds[slot] = PM_FD_ABSENT;
	return 0;
}
