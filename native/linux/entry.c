#include "entry.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "descriptors.h"
#include "processes.h"

/* For how long after its start a container counts as starting. */
static const int64_t STARTING_NS = 10000000000;

static int64_t age_ns(int64_t start_ns)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - start_ns;
	return age < 0 ? 0 : age;
}

static void free_entry(pm_entry *entry)
{
	pm_sched_free(entry);
	free(entry->path);
	free(entry->fds);
	free(entry->kept);
	free(entry);
}

pm_entry *pm_entry_new(const pm_plan *plan, uint32_t row, const char *path, int64_t start_ns)
{
	uint32_t files = plan->file_count;
	pm_entry *entry = calloc(1, sizeof(*entry));

	if (entry == NULL)
		return NULL;
	entry->path = strdup(path);
	entry->fds = malloc((files + 1) * sizeof(*entry->fds));
	entry->kept = calloc(files + 1, sizeof(*entry->kept));
	if (entry->path == NULL || entry->fds == NULL || entry->kept == NULL) {
		free_entry(entry);
		return NULL;
	}
	for (uint32_t i = 0; i < files; i++)
		entry->fds[i] = PM_FD_CLOSED;
	entry->row = row;
	entry->net.dir = -1;
	entry->start_ns = start_ns;
	entry->starting_until_ns = pm_monotonic_ns() + STARTING_NS - age_ns(start_ns);
	return entry;
}

static int reserve(pm_context *context, uint32_t row)
{
	size_t count = context->entry_count ? context->entry_count : 64;
	pm_entry **entries;

	if (row < context->entry_count)
		return 0;
	while (count <= row)
		count *= 2;
	if (count > UINT32_MAX)
		return -1;
	entries = realloc(context->entries, count * sizeof(*entries));
	if (entries == NULL)
		return -1;
	memset(entries + context->entry_count, 0, (count - context->entry_count) * sizeof(*entries));
	context->entries = entries;
	context->entry_count = (uint32_t)count;
	return 0;
}

void pm_entry_add(pm_context *context, pm_entry *entry)
{
	pm_entry_remove(context, entry->row);
	if (reserve(context, entry->row) < 0) {
		entry->next = context->waiting;
		context->waiting = entry;
		return;
	}
	context->entries[entry->row] = entry;
	context->alive++;
}

void pm_entry_remove(pm_context *context, uint32_t row)
{
	pm_entry *entry = pm_entry_at(context, row), **at = &context->waiting;

	if (entry) {
		pm_descriptors_close(context, entry);
		free_entry(entry);
		context->entries[row] = NULL;
		context->alive--;
		return;
	}
	while (*at && (*at)->row != row)
		at = &(*at)->next;
	if (*at) {
		entry = *at;
		*at = entry->next;
		free_entry(entry);
	}
}

void pm_entry_refresh(pm_context *context, uint32_t row)
{
	pm_entry *entry = pm_entry_at(context, row);

	if (entry == NULL)
		return;
	pm_descriptors_retry(context, entry);
	entry->slow_due_ns = 0;
	entry->net.check_ns = 0;
}

void pm_entry_admit(pm_context *context)
{
	pm_entry *waiting = context->waiting, *next;

	context->waiting = NULL;
	for (; waiting; waiting = next) {
		next = waiting->next;
		pm_entry_add(context, waiting);
	}
	for (waiting = context->waiting; waiting; waiting = waiting->next)
		pm_fail(context, PM_REASON_ENOMEM);
}

void pm_entries_free(pm_context *context)
{
	for (uint32_t row = 0; row < context->entry_count; row++)
		pm_entry_remove(context, row);
	while (context->waiting)
		pm_entry_remove(context, context->waiting->row);
	free(context->entries);
	context->entries = NULL;
	context->entry_count = 0;
}
