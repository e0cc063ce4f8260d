#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "procfile.h"
#include "proclist.h"
#include "scan_process.h"
#include "tasks.h"

/* A process and what its schedstat said last. */
typedef struct {
	int pid;
	uint64_t values[PM_SCHED_VALUES];
} known_process;

/* What makes the sums over processes counters: the share of those that are no more. */
struct pm_sched {
	uint64_t ended[PM_SCHED_VALUES];
	size_t count;
	known_process *known; /* by pid */
	int read;	      /* whether a schedstat was ever read */
};

void pm_sched_free(pm_entry *entry)
{
	if (entry->sched)
		free(entry->sched->known);
	free(entry->sched);
	entry->sched = NULL;
}

static int is_late(const pm_context *context)
{
	return pm_monotonic_ns() > context->deadline_ns;
}

/* pm_process_read of /proc/PID/`name`. */
static int read_process(pm_context *context, int pid, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "%d/%s", pid, name);
	return pm_process_read(context, path);
}

static void add_values(uint64_t sum[PM_SCHED_VALUES], const uint64_t values[PM_SCHED_VALUES])
{
	for (int i = 0; i < PM_SCHED_VALUES; i++)
		sum[i] += values[i];
}

/* 1; 0 when the process has gone; -1 for a failure, which is counted. */
static int update_process(pm_context *context, struct pm_sched *sched, known_process *process)
{
	uint64_t values[PM_SCHED_VALUES];
	int got = read_process(context, process->pid, "schedstat");
	pm_scan_result result;

	if (got <= 0)
		return got;
	result = pm_scan_schedstat(context->buffer.data, context->buffer.len, values);
	if (result != PM_OK) {
		pm_fail(context, pm_reason_of_scan(result));
		return -1;
	}
	/* Values that went back are those of another process that was given the number. */
	for (int i = 0; i < PM_SCHED_VALUES; i++)
		if (values[i] < process->values[i]) {
			add_values(sched->ended, process->values);
			break;
		}
	memcpy(process->values, values, sizeof(values));
	sched->read = 1;
	return 1;
}

static int is_running(const pm_context *context, int pid)
{
	char path[16];

	snprintf(path, sizeof(path), "%d", pid);
	return faccessat(context->procfs, path, F_OK, 0) == 0 || !pm_process_has_gone(errno);
}

/* The sums go on from what is known of processes that have ended. A process that is only not listed any more has gone
 * to another group, and may come back: it stays known, so that it is never counted twice. */
static void collect_sched(pm_context *context, pm_entry *entry, const int *pids, size_t count, pm_table *table,
			  uint32_t row)
{
	struct pm_sched *sched = entry->sched ? entry->sched : calloc(1, sizeof(*sched));
	known_process *next, *before, *end;
	uint64_t sum[PM_SCHED_VALUES];
	size_t kept = 0;
	int late = 0, failed = 0;

	entry->sched = sched;
	next = sched ? malloc((count + sched->count + 1) * sizeof(*next)) : NULL;
	if (next == NULL) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	before = sched->known;
	end = before + sched->count;
	for (size_t i = 0; i < count || before < end;) {
		int listed = i < count && (before == end || pids[i] <= before->pid);

		late = late || is_late(context);
		if (!listed) {
			if (late || is_running(context, before->pid))
				next[kept++] = *before;
			else
				add_values(sched->ended, before->values);
			before++;
			continue;
		}
		next[kept] = before < end && before->pid == pids[i] ? *before++ : (known_process){.pid = pids[i]};
		if (!late && !failed)
			failed = update_process(context, sched, &next[kept]) < 0;
		kept++;
		i++;
	}
	free(sched->known);
	sched->known = next;
	sched->count = kept;
	if (late)
		pm_fail(context, PM_REASON_DEADLINE);
	if (late || failed || !sched->read)
		return;
	memcpy(sum, sched->ended, sizeof(sum));
	for (size_t i = 0; i < kept; i++)
		add_values(sum, next[i].values);
	for (uint32_t column = 0; column < PM_SCHED_VALUES; column++)
		pm_table_set(table, row, column, sum[column]);
}

typedef struct {
	uint64_t files;
	uint64_t sockets;
	int sockets_unknown; /* where links may not be read */
} descriptors;

/* Whether the link is `socket:[1234]`. A link that has gone in between is a file like others. */
static void count_link(pm_context *context, int dir, const char *name, descriptors *sum)
{
	static const char prefix[] = "socket:";
	char link[sizeof(prefix) - 1];
	ssize_t len = readlinkat(dir, name, link, sizeof(link));

	if (len == (ssize_t)sizeof(link) && memcmp(link, prefix, sizeof(link)) == 0) {
		sum->sockets++;
	} else if (len < 0 && !pm_process_has_gone(errno)) {
		pm_fail(context, pm_reason_of_errno(errno));
		sum->sockets_unknown = 1;
	}
}

/* Add the entries of /proc/PID/fd. 1; 0 when the process has gone; -1 for a failure, which is counted. */
static int count_descriptors(pm_context *context, int pid, descriptors *sum)
{
	enum { LISTING = 32768 };
	descriptors own = {.sockets_unknown = sum->sockets_unknown};
	char path[32], *listing;
	int dir, error = 0;
	ssize_t got;

	context->buffer.len = 0;
	if (pm_buffer_reserve(&context->buffer, LISTING) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return -1;
	}
	listing = context->buffer.data;
	snprintf(path, sizeof(path), "%d/fd", pid);
	dir = openat(context->procfs, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		error = errno;
	} else {
		while ((got = getdents64(dir, listing, LISTING)) > 0 && !is_late(context)) {
			const struct dirent64 *item;
			for (ssize_t at = 0; at < got; at += item->d_reclen) {
				item = (const struct dirent64 *)(const void *)(listing + at);
				if (item->d_name[0] == '.')
					continue;
				own.files++;
				if (!own.sockets_unknown)
					count_link(context, dir, item->d_name, &own);
			}
		}
		if (got < 0)
			error = errno;
		close(dir);
		if (got > 0) {
			pm_fail(context, PM_REASON_DEADLINE);
			return -1;
		}
	}
	sum->sockets_unknown = own.sockets_unknown;
	if (error) {
		if (pm_process_has_gone(error))
			return 0;
		pm_fail(context, pm_reason_of_errno(error));
		return -1;
	}
	sum->files += own.files;
	sum->sockets += own.sockets;
	return 1;
}

/* A sum that lacks a process is none. */
static void collect_descriptors(pm_context *context, const int *pids, size_t count, pm_table *table, uint32_t row)
{
	descriptors sum = {0};
	int any = count == 0;

	for (size_t i = 0; i < count; i++) {
		int got;

		if (is_late(context)) {
			pm_fail(context, PM_REASON_DEADLINE);
			return;
		}
		got = count_descriptors(context, pids[i], &sum);
		if (got < 0)
			return;
		any |= got;
	}
	if (!any)
		return; /* all have gone, or processes of other users are hidden */
	pm_table_set(table, row, 0, sum.files);
	if (!sum.sockets_unknown)
		pm_table_set(table, row, 1, sum.sockets);
}

/* The limit of a process. 0 when it has gone. A failure is counted. */
static int read_ulimits(pm_context *context, int pid, pm_table *table, uint32_t row)
{
	pm_values limit;
	pm_scan_result result;
	int got = read_process(context, pid, "limits");

	if (got <= 0)
		return got != 0;
	result = pm_scan_open_files_limit(context->buffer.data, context->buffer.len, &limit);
	if (result == PM_EMPTY && !is_running(context, pid)) /* it has ended since the file was opened */
		return 0;
	if (result != PM_OK)
		pm_fail(context, pm_reason_of_scan(result));
	else if (limit.set[0])
		pm_table_set(table, row, 0, limit.values[0]);
	return 1;
}

/* Of the process that was read last while it is there, else of the first one of `pids` that is. */
static void collect_ulimits(pm_context *context, pm_entry *entry, const int *pids, size_t count, pm_table *table,
			    uint32_t row)
{
	enum { TRIES = 64 };
	size_t first = 0;

	for (size_t i = 0; i < count; i++)
		if (pids[i] == entry->limits_pid)
			first = i;
	for (size_t i = 0; i < count && i < TRIES && !is_late(context); i++) {
		int pid = pids[i == 0 ? first : i <= first ? i - 1 : i];

		if (pid != 0 && read_ulimits(context, pid, table, row)) {
			entry->limits_pid = pid;
			return;
		}
	}
}

static int by_number(const void *left, const void *right)
{
	const int *a = left, *b = right;

	return (*a > *b) - (*a < *b);
}

/* A process that moved while the groups were listed is there twice. The number of those that stay. */
static size_t sort_once(int *pids, size_t count)
{
	size_t kept = 0;

	if (count == 0)
		return 0;
	qsort(pids, count, sizeof(*pids), by_number);
	for (size_t i = 0; i < count; i++)
		if (i == 0 || pids[i] != pids[kept - 1])
			pids[kept++] = pids[i];
	return kept;
}

const pm_process_kind pm_process_kinds[PM_PROCESS_TABLES] = {
	[PM_PROCESS_SCHED] = {"sched", PM_SCHED_VALUES},
	[PM_PROCESS_DESCRIPTORS] = {"descriptors", 2},
	[PM_PROCESS_ULIMITS] = {"ulimits", 1},
	[PM_PROCESS_TASKS] = {"tasks", PM_TASK_STATES},
};

static pm_table *table_of(const pm_context *context, pm_table *const *tables, pm_process_table which)
{
	uint32_t index = context->plan->processes[which];

	return index == PM_NO_TABLE ? NULL : tables[index];
}

int pm_processes_are_wanted(const pm_context *context, pm_table *const *tables)
{
	for (int which = 0; which < PM_PROCESS_TABLES; which++)
		if (table_of(context, tables, (pm_process_table)which))
			return 1;
	return 0;
}

static void collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row)
{
	const uint32_t *places = context->plan->processes;
	pm_table *sched = table_of(context, tables, PM_PROCESS_SCHED);
	pm_table *descriptor_table = table_of(context, tables, PM_PROCESS_DESCRIPTORS);
	pm_table *ulimits = table_of(context, tables, PM_PROCESS_ULIMITS);
	pm_table *tasks = table_of(context, tables, PM_PROCESS_TASKS);
	int first = 0, *pids;
	size_t count;

	if (context->procfs < 0 || pm_entry_is_root(entry) || !pm_proclist_list(context, entry, &first))
		return;
	pids = (int *)(void *)context->pids.data;
	count = context->pids.len / sizeof(*pids);
	context->place = places[PM_PROCESS_ULIMITS];
	if (ulimits)
		collect_ulimits(context, entry, pids, count, ulimits, row);
	context->place = PM_PLACE_PROCESSES;
	count = sort_once(pids, count);
	if (count && pids[0] == 0) { /* a process of a pid namespace that is not below this one */
		pm_fail(context, PM_REASON_ESRCH);
		return;
	}
	context->place = places[PM_PROCESS_SCHED];
	if (sched)
		collect_sched(context, entry, pids, count, sched, row);
	context->place = places[PM_PROCESS_DESCRIPTORS];
	if (descriptor_table)
		collect_descriptors(context, pids, count, descriptor_table, row);
	context->place = places[PM_PROCESS_TASKS];
	if (tasks)
		pm_tasks_collect(context, pids, count, tasks, row);
}

void pm_processes_collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row)
{
	context->place = PM_PLACE_PROCESSES;
	collect(context, entry, tables, row);
	context->place = PM_PLACE_ALL;
}
