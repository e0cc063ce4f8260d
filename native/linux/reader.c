#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "entry.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static const char *const reason_names[PM_REASON_COUNT] = {
	[PM_REASON_ENOENT] = "enoent",	   [PM_REASON_ENODEV] = "enodev",	  [PM_REASON_EACCES] = "eacces",
	[PM_REASON_EIO] = "eio",	   [PM_REASON_EOPNOTSUPP] = "eopnotsupp", [PM_REASON_EMFILE] = "emfile",
	[PM_REASON_ENOMEM] = "enomem",	   [PM_REASON_ESRCH] = "esrch",		  [PM_REASON_ERRNO] = "errno",
	[PM_REASON_EMPTY] = "empty",	   [PM_REASON_TRUNCATED] = "truncated",	  [PM_REASON_MALFORMED] = "malformed",
	[PM_REASON_DEADLINE] = "deadline",
};

const char *pm_reason_name(pm_reason reason)
{
	return reason_names[reason];
}

pm_reason pm_reason_of_errno(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return PM_REASON_ENOENT;
	case ENODEV:
		return PM_REASON_ENODEV;
	case EACCES:
	case EPERM:
		return PM_REASON_EACCES;
	case EIO:
		return PM_REASON_EIO;
	case EOPNOTSUPP:
		return PM_REASON_EOPNOTSUPP;
	case EMFILE:
	case ENFILE:
		return PM_REASON_EMFILE;
	case ENOMEM:
		return PM_REASON_ENOMEM;
	case ESRCH:
		return PM_REASON_ESRCH;
	default:
		return PM_REASON_ERRNO;
	}
}

pm_reason pm_reason_of_scan(pm_scan_result result)
{
	switch (result) {
	case PM_EMPTY:
		return PM_REASON_EMPTY;
	case PM_TRUNCATED:
		return PM_REASON_TRUNCATED;
	default:
		return PM_REASON_MALFORMED;
	}
}

int64_t pm_monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Mailbox. */

struct pm_mailbox {
	pthread_mutex_t lock;
	int event;
	pm_ticket *first, *last;
};

pm_mailbox *pm_mailbox_new(void)
{
	pm_mailbox *mailbox = calloc(1, sizeof(*mailbox));

	if (mailbox == NULL)
		return NULL;
	mailbox->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mailbox->event < 0) {
		free(mailbox);
		return NULL;
	}
	pthread_mutex_init(&mailbox->lock, NULL);
	return mailbox;
}

void pm_mailbox_free(pm_mailbox *mailbox)
{
	if (mailbox == NULL)
		return;
	close(mailbox->event);
	pthread_mutex_destroy(&mailbox->lock);
	free(mailbox);
}

int pm_mailbox_event(const pm_mailbox *mailbox)
{
	return mailbox->event;
}

pm_ticket *pm_mailbox_take(pm_mailbox *mailbox)
{
	pm_ticket *ticket;
	uint64_t count;

	pthread_mutex_lock(&mailbox->lock);
	ticket = mailbox->first;
	if (ticket) {
		mailbox->first = ticket->next;
		if (mailbox->first == NULL) {
			mailbox->last = NULL;
			if (read(mailbox->event, &count, sizeof(count)) < 0) {
				/* already cleared */
			}
		}
	}
	pthread_mutex_unlock(&mailbox->lock);
	return ticket;
}

/* Hand finished tickets, linked from `first` to `last`, to the mailbox they share. */
static void deliver(pm_ticket *first, pm_ticket *last)
{
	pm_mailbox *mailbox = first->mailbox;
	const uint64_t one = 1;

	pthread_mutex_lock(&mailbox->lock);
	if (mailbox->last)
		mailbox->last->next = first;
	else
		mailbox->first = first;
	mailbox->last = last;
	if (mailbox->first == first && write(mailbox->event, &one, sizeof(one)) < 0) {
		/* only EAGAIN is possible: the counter is full, so the event is already set */
	}
	pthread_mutex_unlock(&mailbox->lock);
}

/* Jobs. */

typedef enum { JOB_ADD, JOB_REMOVE, JOB_REFRESH, JOB_COLLECT, JOB_COLLECT_ROW, JOB_STOP } job_kind;

typedef struct job {
	struct job *next;
	job_kind kind;
	uint32_t row; /* or the number of rows */
	char *path;
	int64_t ns; /* start of the container, or deadline */
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
	item->path = strdup(path);
	item->ns = start_ns;
	if (item->path == NULL) {
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
	item->ns = deadline_ns;
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

/* The thread's side. */

static int ensure_entry(pm_context *context, uint32_t row)
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

static void remove_entry(pm_context *context, uint32_t row)
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

static void add_entry(pm_context *context, job *item)
{
	uint32_t files = context->plan->file_count;
	pm_entry *entry;

	if (ensure_entry(context, item->row) < 0)
		return;
	remove_entry(context, item->row);
	entry = &context->entries[item->row];
	entry->fds = malloc((files + 1) * sizeof(*entry->fds));
	entry->settings = calloc(files + 1, sizeof(*entry->settings));
	if (entry->fds == NULL || entry->settings == NULL) {
		free(entry->fds);
		free(entry->settings);
		memset(entry, 0, sizeof(*entry));
		return;
	}
	for (uint32_t i = 0; i < files; i++)
		entry->fds[i] = PM_FD_CLOSED;
	entry->net.dir = -1;
	entry->path = item->path;
	item->path = NULL;
	entry->start_ns = item->ns;
	entry->young_until_ns = pm_monotonic_ns() + YOUNG_NS - age_ns(item->ns);
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

static void refresh_entry(pm_context *context, uint32_t row)
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

/* How many files of each container may stay open: the first ones of the plan, the same number for all. */
static void share_budget(pm_context *context)
{
	uint32_t files = 0, budget = context->plan->budget;

	for (uint32_t i = 0; i < context->plan->file_count; i++)
		files += !context->plan->files[i].slow;
	if (context->plan->net.network != PM_NO_TABLE)
		files++; /* the directory of the process */
	context->level = files;
	context->extra = 0;
	if (context->alive && (uint64_t)context->alive * files > budget) {
		context->level = budget / context->alive;
		context->extra = budget % context->alive;
	}
}

static int collects_net(const pm_net_plan *net)
{
	return net->network != PM_NO_TABLE || net->sockstat != PM_NO_TABLE || net->tcp != PM_NO_TABLE ||
	       net->tcp6 != PM_NO_TABLE || net->udp != PM_NO_TABLE || net->udp6 != PM_NO_TABLE ||
	       net->advtcp != PM_NO_TABLE;
}

static int tables_reset(pm_reader *reader, job *item, uint32_t rows)
{
	for (uint32_t i = 0; i < reader->plan->table_count; i++) {
		if (item->tables[i] == NULL)
			continue;
		if (pm_table_clear_to(item->tables[i], rows) < 0)
			return -1;
	}
	/* Rows of these tables are devices, CPUs or interfaces: they are appended. */
	for (uint32_t i = 0; i < reader->plan->file_count; i++) {
		const pm_file *file = &reader->plan->files[i];
		if ((file->kind == PM_FILE_IO || file->kind == PM_FILE_BLKIO || file->kind == PM_FILE_PERCPU ||
		     file->kind == PM_FILE_NUMA) &&
		    item->tables[file->table])
			pm_table_clear(item->tables[file->table]);
	}
	if (reader->plan->io_numbered != PM_NO_TABLE && item->tables[reader->plan->io_numbered])
		pm_table_clear(item->tables[reader->plan->io_numbered]);
	if (reader->plan->net.network != PM_NO_TABLE && item->tables[reader->plan->net.network])
		pm_table_clear(item->tables[reader->plan->net.network]);
	return 0;
}

/* The walk over processes leaves a part of the time, so that what was read before it is answered in time. */
static int64_t walk_deadline(const pm_context *context, const job *item)
{
	return item->ns - (item->ns - context->result->started_ns) / 8;
}

static void collect(pm_reader *reader, job *item)
{
	pm_context *context = &reader->context;
	uint32_t rows = item->row < context->entry_count ? item->row : context->entry_count;
	int net = collects_net(&reader->plan->net);
	uint32_t row = 0;

	if (tables_reset(reader, item, item->row) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	share_budget(context);
	for (; row < rows; row++) {
		pm_entry *entry = &context->entries[row];
		if (entry->path == NULL)
			continue;
		context->now_ns = pm_monotonic_ns();
		if (context->now_ns > item->ns)
			break;
		pm_collect_files(context, entry, row, item->tables, row);
	}
	if (net && row == rows) {
		if (pm_netns_owners(context) < 0)
			pm_fail(context, PM_REASON_ENOMEM);
		for (row = 0; row < rows; row++) {
			if (context->entries[row].path == NULL)
				continue;
			context->now_ns = pm_monotonic_ns();
			if (context->now_ns > item->ns)
				break;
			pm_collect_net(context, &context->entries[row], item->tables, row);
		}
	}
	if (row == rows && pm_collects_processes(context, item->tables)) {
		context->deadline_ns = walk_deadline(context, item);
		for (row = 0; row < rows; row++) {
			if (context->entries[row].path == NULL)
				continue;
			context->now_ns = pm_monotonic_ns();
			if (context->now_ns > context->deadline_ns)
				break;
			pm_collect_processes(context, &context->entries[row], item->tables, row);
		}
	}
	if (row < rows)
		pm_fail(context, PM_REASON_DEADLINE);
}

static void collect_row(pm_reader *reader, job *item)
{
	pm_context *context = &reader->context;
	pm_entry *entry;

	if (tables_reset(reader, item, 1) < 0) {
		pm_fail(context, PM_REASON_ENOMEM);
		return;
	}
	context->now_ns = pm_monotonic_ns();
	if (context->now_ns > item->ns) {
		pm_fail(context, PM_REASON_DEADLINE);
		return;
	}
	if (item->row >= context->entry_count || context->entries[item->row].path == NULL)
		return;
	share_budget(context);
	entry = &context->entries[item->row];
	pm_collect_files(context, entry, item->row, item->tables, 0);
	if (collects_net(&reader->plan->net)) {
		/* Who shares the namespace can only be said when everybody's is known. */
		for (uint32_t i = 0; entry->net.inode && i < context->entry_count; i++)
			if (context->entries[i].path)
				pm_look_for_netns(context, &context->entries[i]);
		pm_netns_owner(context, entry);
		pm_collect_net(context, entry, item->tables, 0);
	}
	if (pm_collects_processes(context, item->tables)) {
		context->deadline_ns = walk_deadline(context, item);
		pm_collect_processes(context, entry, item->tables, 0);
	}
}

static void do_job(pm_reader *reader, job *item)
{
	pm_context *context = &reader->context;

	switch (item->kind) {
	case JOB_ADD:
		add_entry(context, item);
		break;
	case JOB_REMOVE:
		remove_entry(context, item->row);
		break;
	case JOB_REFRESH:
		refresh_entry(context, item->row);
		break;
	case JOB_COLLECT:
	case JOB_COLLECT_ROW:
		context->result = item->result;
		memset(item->result->failures, 0, sizeof(item->result->failures));
		item->result->started_ns = pm_monotonic_ns();
		if (item->kind == JOB_COLLECT)
			collect(reader, item);
		else
			collect_row(reader, item);
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
			free(item->path);
			free(item);
			if (reader->done_first && (list == NULL || pm_monotonic_ns() - began_ns > DELIVER_NS)) {
				deliver(reader->done_first, reader->done_last);
				reader->done_first = reader->done_last = NULL;
				began_ns = pm_monotonic_ns();
			}
		}
	}
	for (uint32_t row = 0; row < reader->context.entry_count; row++)
		remove_entry(&reader->context, row);
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
	pm_devices_free(&reader->context);
	pm_buffer_free(&reader->context.buffer);
	pm_buffer_free(&reader->context.scratch);
	pm_buffer_free(&reader->context.pids);
	free(reader->context.entries);
	free(reader->roots);
	free(reader);
}
