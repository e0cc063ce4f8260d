#include "tasks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "clock.h"
#include "procfile.h"
#include "scan_process.h"

/* In the order of the columns. What the kernel calls stopped is T, and t under a debugger. Zombies, Z, and idle kernel
 * threads, I, are in none, as in the kernel's own count by group (cgroupstats_build of kernel/cgroup/cgroup-v1.c). */
static const char states[PM_TASK_STATES][2] = {{'S', 'S'}, {'R', 'R'}, {'T', 't'}, {'D', 'D'}};

static int is_late(pm_context *context)
{
	if (pm_monotonic_ns() <= context->deadline_ns)
		return 0;
	pm_fail(context, PM_REASON_DEADLINE);
	return 1;
}

/* Whether a container has too many threads when there are `more` besides those seen. A failure, which is counted. */
static int are_too_many(pm_context *context, uint64_t seen, uint64_t more)
{
	if (more <= PM_TASKS_MAX - seen)
		return 0;
	pm_fail(context, PM_REASON_TOOMANY);
	return 1;
}

static void count_state(char state, uint64_t counts[PM_TASK_STATES])
{
	for (int i = 0; i < PM_TASK_STATES; i++)
		if (state == states[i][0] || state == states[i][1])
			counts[i]++;
}

/* As pm_process_read. */
static int read_stat(pm_context *context, const char *path, char *state, uint64_t *threads)
{
	int got = pm_process_read(context, path);
	pm_scan_result result;

	if (got <= 0)
		return got;
	result = pm_scan_stat(context->buffer.data, context->buffer.len, state, threads);
	if (result == PM_OK)
		return 1;
	pm_fail(context, pm_reason_of_scan(result));
	return -1;
}

/* Count the threads that a listing of /proc/PID/task names, and add them to `seen`. 0, or -1 for a failure, which is
 * counted. */
static int count_listed(pm_context *context, int pid, ssize_t listed, uint64_t *seen, uint64_t counts[PM_TASK_STATES])
{
	const struct dirent64 *item;

	for (ssize_t at = 0; at < listed; at += item->d_reclen) {
		char path[64], state;
		uint64_t threads;
		int got;

		item = (const struct dirent64 *)(const void *)(context->scratch.data + at);
		if (item->d_name[0] == '.')
			continue;
		if (is_late(context) || are_too_many(context, *seen, 1))
			return -1;
		*seen += 1;
		snprintf(path, sizeof(path), "%d/task/%.20s/stat", pid, item->d_name);
		got = read_stat(context, path, &state, &threads);
		if (got < 0)
			return -1;
		if (got)
			count_state(state, counts);
	}
	return 0;
}

/* 1; 0 when the process has gone; -1 for a failure, which is counted. */
static int count_threads(pm_context *context, int pid, uint64_t *seen, uint64_t counts[PM_TASK_STATES])
{
	enum { LISTING = 32768 };
	char path[32];
	ssize_t listed;
	int dir, error, failed = 0;

	context->scratch.len = 0;
	if (pm_buffer_reserve(&context->scratch, LISTING) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return -1;
	}
	snprintf(path, sizeof(path), "%d/task", pid);
	dir = openat(context->procfs, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		while (!failed && (listed = getdents64(dir, context->scratch.data, LISTING)) > 0)
			failed = count_listed(context, pid, listed, seen, counts);
		error = errno;
		close(dir);
		if (failed)
			return -1;
		if (listed == 0)
			return 1;
	} else {
		error = errno;
	}
	if (pm_process_has_gone(error))
		return 0;
	pm_fail(context, pm_reason_of_errno(error));
	return -1;
}

/* As count_threads. A process of one thread is one file. */
static int count_process(pm_context *context, int pid, uint64_t *seen, uint64_t counts[PM_TASK_STATES])
{
	uint64_t threads;
	char path[32], state;
	int got;

	snprintf(path, sizeof(path), "%d/stat", pid);
	got = read_stat(context, path, &state, &threads);
	if (got <= 0)
		return got;
	if (are_too_many(context, *seen, threads))
		return -1;
	if (threads > 1)
		return count_threads(context, pid, seen, counts);
	*seen += 1;
	count_state(state, counts);
	return 1;
}

void pm_tasks_collect(pm_context *context, const int *pids, size_t count, pm_table *table, uint32_t row)
{
	uint64_t counts[PM_TASK_STATES] = {0}, seen = 0;
	int any = count == 0;

	if (are_too_many(context, 0, count))
		return;
	for (size_t i = 0; i < count; i++) {
		int got = is_late(context) ? -1 : count_process(context, pids[i], &seen, counts);

		if (got < 0)
			return;
		any |= got;
	}
	for (uint32_t column = 0; any && column < PM_TASK_STATES; column++)
		pm_table_set(table, row, column, counts[column]);
}
