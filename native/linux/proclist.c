#include "proclist.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "descriptors.h"
#include "kfile.h"
#include "scan_process.h"

enum { DEPTH_MAX = 16 };

/* A walk over the groups of one container. */
typedef struct {
	pm_context *context;
	uint64_t count;
	int first;
	pm_buffer *pids; /* NULL: only counted */
	int failed;
} walk;

uint32_t pm_proclist_file(const pm_context *context)
{
	for (uint32_t i = 0; i < context->plan->file_count; i++)
		if (pm_kind_is_procs(context->plan->files[i].kind))
			return i;
	return PM_NO_FILE;
}

void pm_proclist_look(pm_context *context, pm_entry *entry)
{
	uint32_t slot = pm_proclist_file(context);
	struct stat stat;

	/* kernfs counts a directory's subdirectories in its links */
	if (slot != PM_NO_FILE)
		entry->has_children =
			fstatat(context->roots[context->plan->files[slot].root], pm_group_path(entry), &stat, 0) == 0 &&
			stat.st_nlink > 2;
}

static void add_list(walk *to, const pm_buffer *list)
{
	pm_scan_result result = pm_scan_pids(list->data, list->len, &to->count, &to->first, to->pids);

	if (result != PM_OK) {
		to->failed = 1;
		pm_fail(to->context, pm_reason_of_scan(result));
	}
}

/* A group may go at any time, and a threaded one has no list: its processes are in that of the group above. */
static void add_failure(walk *to, int error)
{
	if (error == ENOENT || error == ENODEV || error == EOPNOTSUPP)
		return;
	to->failed = 1;
	pm_fail(to->context, pm_reason_of_errno(error));
}

/* The groups below `dir`, which is closed here. */
static void add_descendants(walk *to, int dir, int depth)
{
	pm_buffer *scratch = &to->context->scratch;
	DIR *stream = fdopendir(dir);
	struct dirent *item;

	if (stream == NULL) {
		add_failure(to, errno);
		close(dir);
		return;
	}
	while (depth > 0 && (item = readdir(stream)) != NULL) {
		int child, procs, error;

		if (item->d_type != DT_DIR || item->d_name[0] == '.')
			continue;
		child = openat(dirfd(stream), item->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (child < 0) {
			add_failure(to, errno);
			continue;
		}
		procs = pm_open_at(child, "cgroup.procs");
		error = procs < 0 ? procs : pm_read_whole(procs, scratch);
		if (procs >= 0)
			close(procs);
		if (error)
			add_failure(to, -error);
		else
			add_list(to, scratch);
		add_descendants(to, child, depth - 1);
	}
	closedir(stream);
}

/* A container that runs an init has its processes in groups below its own. */
static void walk_groups(walk *to, pm_entry *entry, const pm_file *file)
{
	int dir;

	add_list(to, &to->context->buffer);
	if (to->count && !entry->has_children)
		return;
	dir = openat(to->context->roots[file->root], pm_group_path(entry),
		     O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		add_failure(to, errno);
	else
		add_descendants(to, dir, DEPTH_MAX);
}

uint64_t pm_proclist_count(pm_context *context, pm_entry *entry, const pm_file *file, int *first)
{
	walk to = {.context = context};

	walk_groups(&to, entry, file);
	*first = to.first;
	return to.count;
}

int pm_proclist_list(pm_context *context, pm_entry *entry, int *first)
{
	uint32_t slot = pm_proclist_file(context);
	walk to = {.context = context, .pids = &context->pids};

	context->pids.len = 0;
	if (slot == PM_NO_FILE || !pm_read_file(context, entry, slot, 0))
		return 0;
	walk_groups(&to, entry, &context->plan->files[slot]);
	*first = to.first;
	return !to.failed;
}
