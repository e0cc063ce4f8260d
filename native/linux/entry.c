#include "entry.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int reserve(pm_context *context, uint32_t row)
{
	uint32_t count = context->entry_count ? context->entry_count : 64;
	pm_entry *entries;

	if (row < context->entry_count)
		return 0;
	if (row >= UINT32_MAX / 2)
		return -1;
	while (count <= row)
		count *= 2;
	entries = realloc(context->entries, count * sizeof(*entries));
	if (entries == NULL)
		return -1;
	memset(entries + context->entry_count, 0, (count - context->entry_count) * sizeof(*entries));
	context->entries = entries;
	context->entry_count = count;
	return 0;
}

void pm_entry_remove(pm_context *context, uint32_t row)
{
	pm_entry *entry;

	if (row >= context->entry_count || context->entries[row].path == NULL)
		return;
	entry = &context->entries[row];
	pm_entry_close(context, entry);
	pm_sched_free(entry);
	free(entry->path);
	free(entry->fds);
	free(entry->settings);
	memset(entry, 0, sizeof(*entry));
	context->alive--;
}

/* A container that was there before the reader is no longer young, however new it is to the reader. */
static const int64_t YOUNG_NS = 10000000000;

static int64_t age_ns(int64_t start_ns)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - start_ns;
	return age < 0 ? 0 : age;
}

void pm_entry_add(pm_context *context, uint32_t row, char *path, int64_t start_ns)
{
	uint32_t files = context->plan->file_count;
	pm_entry *entry;

	if (reserve(context, row) < 0) {
		free(path);
		return;
	}
	pm_entry_remove(context, row);
	entry = &context->entries[row];
	entry->fds = malloc((files + 1) * sizeof(*entry->fds));
	entry->settings = calloc(files + 1, sizeof(*entry->settings));
	if (entry->fds == NULL || entry->settings == NULL) {
		free(entry->fds);
		free(entry->settings);
		free(path);
		memset(entry, 0, sizeof(*entry));
		return;
	}
	for (uint32_t i = 0; i < files; i++)
		entry->fds[i] = PM_FD_CLOSED;
	entry->net.dir = -1;
	entry->path = path;
	entry->start_ns = start_ns;
	entry->young_until_ns = pm_monotonic_ns() + YOUNG_NS - age_ns(start_ns);
	context->alive++;
}

void pm_entry_close(pm_context *context, pm_entry *entry)
{
	for (uint32_t i = 0; i < context->plan->file_count; i++) {
		if (entry->fds[i] >= 0) {
			close(entry->fds[i]);
			context->open--;
		}
		entry->fds[i] = PM_FD_CLOSED;
	}
	if (entry->net.dir >= 0) {
		close(entry->net.dir);
		context->open--;
	}
	entry->net = (pm_entry_net){.dir = -1};
}

void pm_entry_refresh(pm_context *context, uint32_t row)
{
	pm_entry *entry;

	if (row >= context->entry_count || context->entries[row].path == NULL)
		return;
	entry = &context->entries[row];
	for (uint32_t i = 0; i < context->plan->file_count; i++)
		if (entry->fds[i] == PM_FD_ABSENT)
			entry->fds[i] = PM_FD_CLOSED;
	entry->slow_due_ns = 0;
	entry->net.check_ns = 0;
}
