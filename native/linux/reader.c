#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "above.h"
#include "clock.h"
#include "collect.h"
#include "entry.h"
#include "netns.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

typedef enum { JOB_ADD, JOB_REMOVE, JOB_REFRESH, JOB_COLLECT, JOB_COLLECT_ROW, JOB_STOP } job_kind;

typedef struct job {
	struct job *next;
	job_kind kind;
	uint32_t row; /* or the number of rows */
	pm_entry *entry;
	int64_t deadline_ns;
	pm_ticket *ticket;
	pm_result *result;
	pm_table *tables[];
} job;

struct pm_reader {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t posted;
	job *first, *last;
	pm_ticket *done_first, *done_last;
	pm_plan *plan;
	pm_mailbox *mailbox;
	pm_context context;
	int *roots;
	int failed_root;
	int start_error;
	int started;
	int shared;
	atomic_uint open;
};

static int post(pm_reader *reader, job *item, int wake)
{
	if (item == NULL)
		return -1;
	pthread_mutex_lock(&reader->lock);
	if (reader->last)
		reader->last->next = item;
	else
		reader->first = item;
	reader->last = item;
	if (wake)
		pthread_cond_signal(&reader->posted);
	pthread_mutex_unlock(&reader->lock);
	return 0;
}

static job *new_job(job_kind kind, uint32_t row, uint32_t tables)
{
	job *item = calloc(1, sizeof(*item) + tables * sizeof(pm_table *));

	if (item) {
		item->kind = kind;
		item->row = row;
	}
	return item;
}

int pm_reader_add(pm_reader *reader, uint32_t row, const char *path, int64_t start_ns)
{
	job *item = new_job(JOB_ADD, row, 0);

	if (item == NULL)
		return -1;
	item->entry = pm_entry_new(reader->plan, row, path, start_ns);
	if (item->entry == NULL) {
		free(item);
		return -1;
	}
	return post(reader, item, 1);
}

int pm_reader_remove(pm_reader *reader, uint32_t row)
{
	return post(reader, new_job(JOB_REMOVE, row, 0), 1);
}

int pm_reader_refresh(pm_reader *reader, uint32_t row)
{
	return post(reader, new_job(JOB_REFRESH, row, 0), 1);
}

static int post_collect(pm_reader *reader, job_kind kind, pm_ticket *ticket, pm_result *result, pm_table **tables,
			uint32_t row, int64_t deadline_ns, int wake)
{
	uint32_t count = reader->plan->table_count;
	job *item = new_job(kind, row, count);

	if (item == NULL)
		return -1;
	item->deadline_ns = deadline_ns;
	item->ticket = ticket;
	item->result = result;
	memcpy(item->tables, tables, count * sizeof(*tables));
	return post(reader, item, wake);
}

int pm_reader_collect(pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t rows,
		      int64_t deadline_ns)
{
	return post_collect(reader, JOB_COLLECT, ticket, result, tables, rows, deadline_ns, 1);
}

int pm_reader_collect_row(pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t row,
			  int64_t deadline_ns, int wake)
{
	return post_collect(reader, JOB_COLLECT_ROW, ticket, result, tables, row, deadline_ns, wake);
}

void pm_reader_wake(pm_reader *reader)
{
	pthread_mutex_lock(&reader->lock);
	pthread_cond_signal(&reader->posted);
	pthread_mutex_unlock(&reader->lock);
}

uint32_t pm_reader_open_descriptors(const pm_reader *reader)
{
	return atomic_load(&((pm_reader *)reader)->open);
}

int pm_reader_shares_descriptors(const pm_reader *reader)
{
	return reader->shared;
}

static void do_job(pm_reader *reader, job *item)
{
	pm_context *context = &reader->context;

	switch (item->kind) {
	case JOB_ADD:
		pm_entry_add(context, item->entry);
		break;
	case JOB_REMOVE:
		pm_entry_remove(context, item->row);
		break;
	case JOB_REFRESH:
		pm_entry_refresh(context, item->row);
		break;
	case JOB_COLLECT:
	case JOB_COLLECT_ROW:
		context->result = item->result;
		memset(item->result->failures, 0, sizeof(item->result->failures));
		memset(item->result->of_place, 0, sizeof(item->result->of_place));
		context->place = PM_PLACE_ALL;
		item->result->started_ns = pm_monotonic_ns();
		if (item->kind == JOB_COLLECT)
			pm_collect(context, item->tables, item->row, item->deadline_ns);
		else
			pm_collect_row(context, item->tables, item->row, item->deadline_ns);
		item->result->finished_ns = pm_monotonic_ns();
		context->result = NULL;
		break;
	case JOB_STOP:
		break;
	}
	atomic_store(&reader->open, context->open);
	if (item->ticket) {
		pm_ticket *ticket = item->ticket;
		atomic_store(&item->result->done, 1);
		if (atomic_fetch_sub(&ticket->pending, 1) == 1) {
			ticket->next = NULL;
			if (reader->done_last)
				reader->done_last->next = ticket;
			else
				reader->done_first = ticket;
			reader->done_last = ticket;
		}
	}
}

/* close_range(2) came with Linux 5.9. A descriptor that stayed here would keep a connection open that the process has
 * closed. */
static void close_listed(int keep)
{
	DIR *stream = opendir("/proc/thread-self/fd");
	struct dirent *entry;

	while (stream && (entry = readdir(stream)) != NULL) {
		int fd = atoi(entry->d_name);
		if (fd > 2 && fd != keep && fd != dirfd(stream))
			close(fd);
	}
	if (stream)
		closedir(stream);
}

/* Leave the process's descriptor table, keeping only the standard streams and the mailbox's event. */
static int own_descriptors(int keep)
{
	if (unshare(CLONE_FILES) < 0)
		return -1;
	if ((keep > 3 && syscall(SYS_close_range, 3, keep - 1, 0) < 0) ||
	    syscall(SYS_close_range, keep > 2 ? keep + 1 : 3, ~0U, 0) < 0)
		close_listed(keep);
	return 0;
}

static int open_roots(pm_reader *reader)
{
	pm_plan *plan = reader->plan;
	pm_context *context = &reader->context;

	for (uint32_t i = 0; i < plan->root_count; i++) {
		reader->roots[i] = open(plan->roots[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (reader->roots[i] < 0) {
			reader->failed_root = (int)i;
			return -1;
		}
	}
	context->procfs = open(plan->procfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	context->sysfs = open(plan->sysfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (context->procfs >= 0)
		context->host_netns = pm_netns_inode(context->procfs, "1/ns/net");
	if (context->procfs >= 0 && context->host_netns == 0)
		context->host_netns = pm_netns_inode(context->procfs, "self/ns/net");
	return 0;
}

static void *run(void *argument)
{
	pm_reader *reader = argument;
	/* Answers of short jobs that were posted together go out together: where both threads have one processor,
	 * waking the other for each would cost more than the job. */
	static const int64_t DELIVER_NS = 1000000;
	job *item, *list;
	int64_t began_ns;
	int stop = 0;

	pthread_mutex_lock(&reader->lock);
	if (own_descriptors(pm_mailbox_event(reader->mailbox)) < 0) {
		reader->shared = 1;
		if (reader->plan->sharers)
			reader->plan->budget /= reader->plan->sharers;
	}
	if (open_roots(reader) < 0)
		reader->start_error = errno;
	reader->started = 1;
	pthread_cond_broadcast(&reader->posted);
	pthread_mutex_unlock(&reader->lock);
	while (!stop) {
		pthread_mutex_lock(&reader->lock);
		while (reader->first == NULL)
			pthread_cond_wait(&reader->posted, &reader->lock);
		list = reader->first;
		reader->first = reader->last = NULL;
		pthread_mutex_unlock(&reader->lock);
		began_ns = pm_monotonic_ns();
		while ((item = list) != NULL) {
			list = item->next;
			stop |= item->kind == JOB_STOP;
			do_job(reader, item);
			free(item);
			if (reader->done_first && (list == NULL || pm_monotonic_ns() - began_ns > DELIVER_NS)) {
				pm_mailbox_deliver(reader->done_first, reader->done_last);
				reader->done_first = reader->done_last = NULL;
				began_ns = pm_monotonic_ns();
			}
		}
	}
	if (reader->plan->filler && reader->plan->filler->end)
		reader->plan->filler->end(reader->plan->filler->state);
	pm_entries_free(&reader->context);
	for (uint32_t i = 0; i < reader->plan->root_count; i++)
		if (reader->roots[i] >= 0)
			close(reader->roots[i]);
	if (reader->context.procfs >= 0)
		close(reader->context.procfs);
	if (reader->context.sysfs >= 0)
		close(reader->context.sysfs);
	return NULL;
}

pm_reader *pm_reader_start(pm_plan *plan, pm_mailbox *mailbox, int *root)
{
	pm_reader *reader = calloc(1, sizeof(*reader));
	sigset_t all, before;
	int error;

	*root = -1;
	if (reader == NULL)
		return NULL;
	reader->plan = plan;
	reader->mailbox = mailbox;
	reader->failed_root = -1;
	reader->roots = malloc((plan->root_count + 1) * sizeof(int));
	if (reader->roots == NULL) {
		free(reader);
		errno = ENOMEM;
		return NULL;
	}
	for (uint32_t i = 0; i < plan->root_count; i++)
		reader->roots[i] = -1;
	reader->context.plan = plan;
	reader->context.roots = reader->roots;
	reader->context.procfs = reader->context.sysfs = -1;
	pthread_mutex_init(&reader->lock, NULL);
	pthread_cond_init(&reader->posted, NULL);
	/* Signals are for the interpreter's main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&reader->thread, NULL, run, reader);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error) {
		pthread_mutex_destroy(&reader->lock);
		pthread_cond_destroy(&reader->posted);
		free(reader->roots);
		free(reader);
		errno = error;
		return NULL;
	}
	pthread_mutex_lock(&reader->lock);
	while (!reader->started)
		pthread_cond_wait(&reader->posted, &reader->lock);
	error = reader->start_error;
	*root = reader->failed_root;
	pthread_mutex_unlock(&reader->lock);
	if (error) {
		pm_reader_stop(reader);
		errno = error;
		return NULL;
	}
	return reader;
}

void pm_reader_stop(pm_reader *reader)
{
	job *stop;

	if (reader == NULL)
		return;
	while ((stop = new_job(JOB_STOP, 0, 0)) == NULL)
		usleep(1000);
	post(reader, stop, 1);
	pthread_join(reader->thread, NULL);
	pthread_mutex_destroy(&reader->lock);
	pthread_cond_destroy(&reader->posted);
	pm_devices_free(reader->context.devices);
	pm_above_free(reader->context.above);
	pm_buffer_free(&reader->context.buffer);
	pm_buffer_free(&reader->context.scratch);
	pm_buffer_free(&reader->context.pids);
	free(reader->roots);
	free(reader);
}
