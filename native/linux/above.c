#include "above.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"
#include "kfile.h"

enum {
	PLACES = 512,	/* groups that are remembered; two that have the same place take turns */
	LEVELS_MAX = 64 /* of groups that are read for a container */
};

/* How long what a group says is good for a container that is starting: its runtime may be making the group. */
static const int64_t YOUNG_NS = 1000000000;

/* What a file of a group has said. */
typedef struct {
	char *path; /* NULL: none */
	uint32_t slot;
	int64_t read_ns;
	pm_values values;
} place;

struct pm_above {
	place places[PLACES];
};

void pm_above_free(pm_above *above)
{
	if (above == NULL)
		return;
	for (int i = 0; i < PLACES; i++)
		free(above->places[i].path);
	free(above);
}

/* Append a file of a group to `text`. 1; 0 when the group does not have it; -1 for a failure, which is
 * counted. */
static int read_one(pm_context *context, const pm_file *file, const char *path, const char *name, pm_buffer *text)
{
	char whole[4352];
	int fd, error;

	if ((size_t)snprintf(whole, sizeof(whole), "%s/%s", path, name) >= sizeof(whole)) {
		pm_fail(context, PM_REASON_ERRNO);
		return -1;
	}
	fd = pm_open_at(context->roots[file->root], whole);
	error = fd < 0 ? fd : pm_read_whole(fd, &context->buffer);
	if (fd >= 0)
		close(fd);
	if (error == 0)
		error = pm_buffer_append(text, context->buffer.data, context->buffer.len) < 0 ? -ENOMEM : 0;
	if (error == -ENOENT || error == -ENODEV || error == -EOPNOTSUPP)
		return 0;
	if (error < 0)
		pm_fail(context, pm_reason_of_errno(-error));
	return error < 0 ? -1 : 1;
}

/* Read the limit of one group. 0, or -1 for a failure, which is counted. */
static int read_level(pm_context *context, const pm_file *file, const char *path, pm_values *values)
{
	pm_buffer *text = &context->scratch;
	pm_scan_result result;
	int got;

	*values = (pm_values){0};
	text->len = 0;
	got = read_one(context, file, path, file->name, text);
	if (got > 0 && file->second)
		got = read_one(context, file, path, file->second, text);
	if (got <= 0)
		return got;
	result = file->kind->line(text->data, text->len, values);
	if (result == PM_OK)
		return 0;
	pm_fail(context, pm_reason_of_scan(result));
	return -1;
}

/* The same for a group above a container. */
static int read_above(pm_context *context, uint32_t slot, const char *path, int64_t good_ns, pm_values *values)
{
	static const uint64_t key[2]; /* who makes two groups share a place makes them be read more often, no more */
	place *found;
	size_t len = strlen(path);

	if (context->above == NULL)
		context->above = calloc(1, sizeof(*context->above));
	if (context->above == NULL) {
		pm_fail(context, PM_REASON_ENOMEM);
		return -1;
	}
	found = &context->above->places[(pm_hash(key, path, len) + slot) % PLACES];
	if (found->path && found->slot == slot && context->now_ns - found->read_ns < good_ns &&
	    strcmp(found->path, path) == 0) {
		*values = found->values;
		return 0;
	}
	free(found->path);
	found->path = NULL;
	if (read_level(context, &context->plan->files[slot], path, values) < 0)
		return -1;
	found->path = strdup(path); /* without memory it is read again */
	found->slot = slot;
	found->read_ns = context->now_ns;
	found->values = *values;
	return 0;
}

static int levels_of(const char *path)
{
	int levels = path[0] != 0;

	for (; *path; path++)
		levels += *path == '/';
	return levels;
}

void pm_above_read(pm_context *context, const pm_entry *entry, uint32_t slot, pm_values *values)
{
	int is_young = context->now_ns < entry->starting_until_ns && context->plan->slow_ns > YOUNG_NS;
	int64_t good_ns = is_young ? YOUNG_NS : context->plan->slow_ns;
	pm_values least = {0}, one;
	char path[4096], *slash;

	*values = least;
	if (levels_of(entry->path) > LEVELS_MAX ||
	    (size_t)snprintf(path, sizeof(path), "%s", entry->path) >= sizeof(path)) {
		pm_fail(context, PM_REASON_ERRNO);
		return;
	}
	for (int own = 1; path[0]; own = 0) {
		if ((own ? read_level(context, &context->plan->files[slot], path, &one)
			 : read_above(context, slot, path, good_ns, &one)) < 0)
			return;
		if (one.set[0] && (!least.set[0] || one.values[0] < least.values[0]))
			least = one;
		slash = strrchr(path, '/');
		*(slash ? slash : path) = 0;
	}
	*values = least;
}
