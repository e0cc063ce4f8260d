/* A libkstat with the functions, layouts and manners of illumos', whose kernel is kernel.c. README.md says what is so.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernel.h"

typedef struct node {
	kstat_t header; /* first: what the caller sees */
	struct node *prev;
} node;

typedef struct handle {
	kstat_ctl_t ctl; /* first */
	bool owns_descriptor;
	int_map nodes;
	node *tail;
	kid_t last;
	kid_t *removed; /* since the last update */
	size_t nremoved, cap_removed;
	uint64_t turns; /* kernel.turns at the last update */
	struct handle *next;
} handle;

static handle *handles;

void library_removed(kid_t kid)
{
	for (handle *held = handles; held; held = held->next) {
		if (kid > held->last) {
			continue;
		}
		if (held->nremoved == held->cap_removed) {
			held->cap_removed = held->cap_removed ? held->cap_removed * 2 : 64;
			held->removed = realloc(held->removed, held->cap_removed * sizeof(kid_t));
			if (!held->removed) {
				abort();
			}
		}
		held->removed[held->nremoved++] = kid;
	}
}

static void drop(handle *held, node *gone)
{
	*(gone->prev ? &gone->prev->header.ks_next : &held->ctl.kc_chain) = gone->header.ks_next;
	*(gone->header.ks_next ? &((node *)gone->header.ks_next)->prev : &held->tail) = gone->prev;
	map_put(&held->nodes, gone->header.ks_kid, NULL);
	free(gone->header.ks_data);
	free(gone);
	kernel.count.headers--;
}

static int append(handle *held, const record *item)
{
	node *new = calloc(1, sizeof(*new));
	if (!new) {
		errno = ENOMEM;
		return -1;
	}
	new->header = (kstat_t){
		.ks_crtime = item->crtime,
		.ks_kid = item->kid,
		.ks_instance = item->instance,
		.ks_type = item->type,
		.ks_flags = item->flags,
		.ks_ndata = item->tells_ndata ? item->told_ndata : item->ndata,
		.ks_data_size = item->tells_size ? item->told_size : item->size,
		.ks_snaptime = item->snaptime,
	};
	memcpy(new->header.ks_module, item->module, KSTAT_STRLEN);
	memcpy(new->header.ks_name, item->name, KSTAT_STRLEN);
	memcpy(new->header.ks_class, item->class, KSTAT_STRLEN);
	new->prev = held->tail;
	*(held->tail ? &held->tail->header.ks_next : &held->ctl.kc_chain) = &new->header;
	held->tail = new;
	map_put(&held->nodes, item->kid, new);
	kernel.count.headers++;
	kernel.count.made++;
	return 0;
}

/* The kernel leaves out what is INVALID. */
static const record *visible(const record *item)
{
	while (item && (item->flags & KSTAT_FLAG_INVALID)) {
		item = item->next;
	}
	return item;
}

/* Headers stay up to the first kid that is new; all behind it are made anew. */
static int merge(handle *held)
{
	const record *item = visible(kernel.first);
	for (kstat_t *header = held->ctl.kc_chain, *next; header; header = next) {
		next = header->ks_next;
		if (item && header->ks_kid == item->kid) {
			item = visible(item->next);
		} else {
			drop(held, (node *)header);
		}
	}
	for (; item; item = visible(item->next)) {
		if (append(held, item) < 0) {
			return -1;
		}
	}
	return 0;
}

/* The same where nothing has become valid or INVALID since, without a look at every header. */
static int follow(handle *held)
{
	for (size_t i = 0; i < held->nremoved; i++) {
		node *gone = map_get(&held->nodes, held->removed[i]);
		if (gone) {
			drop(held, gone);
		}
	}
	const record *item = kernel.last;
	while (item && item->kid > held->last && item->prev && item->prev->kid > held->last) {
		item = item->prev;
	}
	for (; item; item = item->next) {
		if (item->kid > held->last && !(item->flags & KSTAT_FLAG_INVALID) && append(held, item) < 0) {
			return -1;
		}
	}
	return 0;
}

static kid_t update(handle *held)
{
	if (json_refresh() < 0) {
		return -1;
	}
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	kernel.now = (hrtime_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (kernel.update_error && kernel.update_error_times) {
		kernel.update_error_times -= kernel.update_error_times > 0;
		errno = kernel.update_error;
		return -1;
	}
	if (held->ctl.kc_chain_id == kernel.chain_id) {
		return 0;
	}
	int status = held->turns == kernel.turns ? follow(held) : merge(held);
	held->nremoved = 0;
	if (status < 0) {
		return -1;
	}
	held->turns = kernel.turns;
	held->last = kernel.last_kid;
	return held->ctl.kc_chain_id = kernel.chain_id;
}

static int close_handle(handle *held)
{
	handle **link = &handles;
	while (*link && *link != held) {
		link = &(*link)->next;
	}
	if (!*link) {
		errno = EBADF;
		return -1;
	}
	*link = held->next;
	while (held->tail) {
		drop(held, held->tail);
	}
	map_free(&held->nodes);
	free(held->removed);
	int status = held->owns_descriptor ? close(held->ctl.kc_kd) : 0;
	free(held);
	return status;
}

EXPORT kstat_ctl_t *kstat_open(void)
{
	kernel_lock();
	handle *held = calloc(1, sizeof(*held));
	errno = held ? kernel.open_error : ENOMEM;
	if (!held || kernel.open_error) {
		free(held);
		kernel_unlock();
		return NULL;
	}
	const char *zones = getenv("KSTAT_ZONES");
	if (zones && kernel.count.opens == 0 && !kernel.first) {
		zones_generate(1, atoi(zones), 0);
	}
	const char *direct = getenv("KSTAT_DIRECT");
	kernel.no_direct |= direct && strcmp(direct, "0") == 0;
	kernel.count.opens++;
	held->owns_descriptor = kernel.descriptor < -1;
	held->ctl.kc_kd = held->owns_descriptor ? open("/dev/null", O_RDONLY | O_CLOEXEC) : kernel.descriptor;
	held->next = handles;
	handles = held;
	if (update(held) < 0) {
		int error = errno;
		close_handle(held);
		held = NULL;
		errno = error;
	}
	kernel.chain_id += kernel.busy;
	kernel_unlock();
	return held ? &held->ctl : NULL;
}

EXPORT int kstat_close(kstat_ctl_t *kc)
{
	kernel_lock();
	kernel.count.closes++;
	int status = close_handle((handle *)kc);
	kernel_unlock();
	return status;
}

EXPORT kid_t kstat_chain_update(kstat_ctl_t *kc)
{
	kernel_lock();
	kernel.count.updates++;
	kid_t id = update((handle *)kc);
	kernel_unlock();
	return id;
}

/* Memory for the data: as much as the kernel tells, or, when that is absurd, as much as there is. */
static int allocate(kstat_t *ksp, size_t told)
{
	const record *item = kernel_by_kid(ksp->ks_kid);
	size_t size = told > 1u << 20 && item ? item->size : told;
	free(ksp->ks_data);
	ksp->ks_data = calloc(1, size ? size : 1);
	kernel.count.allocations++;
	return ksp->ks_data ? 0 : -1;
}

/* A size that is absurd is told of data that has its own. */
static kid_t read_kstat(kstat_t *ksp)
{
	record *item = kernel_by_kid(ksp->ks_kid);
	if (!item || !item->tells_size || item->told_size <= 1u << 20) {
		return kernel_read(ksp);
	}
	item->tells_size = false;
	ksp->ks_data_size = item->size;
	size_t told = item->told_size;
	kid_t kid = item->kid;
	kid_t id = kernel_read(ksp);
	item = kernel_by_kid(kid);
	if (item) {
		item->tells_size = true;
	}
	ksp->ks_data_size = told;
	return id;
}

static void copy_to(const kstat_t *ksp, void *buffer)
{
	memcpy(buffer, ksp->ks_data, ksp->ks_data_size);
	if (ksp->ks_type != KSTAT_TYPE_NAMED || ksp->ks_data_size == ksp->ks_ndata * sizeof(kstat_named_t)) {
		return;
	}
	kstat_named_t *stat = buffer;
	const char *data = ksp->ks_data;
	for (uint32_t i = 0; i < ksp->ks_ndata && (i + 1) * sizeof(*stat) <= ksp->ks_data_size; i++) {
		char *pointer = stat[i].value.str.ptr;
		if (stat[i].data_type == KSTAT_DATA_STRING && pointer >= data && pointer < data + ksp->ks_data_size) {
			stat[i].value.str.ptr = (char *)buffer + (pointer - data);
		}
	}
}

/* EAGAIN is answered, where illumos' library sleeps and tries again: a test that waits for ever tells nothing. */
EXPORT kid_t kstat_read(kstat_ctl_t *kc, kstat_t *ksp, void *buffer)
{
	(void)kc;
	kernel_lock();
	kernel.count.library_reads++;
	kid_t id = -1;
	if (ksp->ks_data || ksp->ks_data_size == 0 || allocate(ksp, ksp->ks_data_size) == 0) {
		id = read_kstat(ksp);
		while (id == -1 && errno == ENOMEM &&
		       (ksp->ks_flags & (KSTAT_FLAG_VAR_SIZE | KSTAT_FLAG_LONGSTRINGS)) &&
		       allocate(ksp, ksp->ks_data_size) == 0) {
			id = read_kstat(ksp);
		}
	}
	int error = errno;
	kernel_unlock();
	if (id != -1 && buffer) {
		copy_to(ksp, buffer);
	}
	errno = error;
	return id;
}

EXPORT kid_t kstat_write(kstat_ctl_t *kc, kstat_t *ksp, void *buffer)
{
	(void)kc;
	(void)ksp;
	(void)buffer;
	errno = EACCES;
	return -1;
}

EXPORT kstat_t *kstat_lookup(kstat_ctl_t *kc, char *module, int instance, char *name)
{
	for (kstat_t *ksp = kc->kc_chain; ksp; ksp = ksp->ks_next) {
		if ((!module || strncmp(ksp->ks_module, module, KSTAT_STRLEN) == 0) &&
		    (instance == -1 || ksp->ks_instance == instance) &&
		    (!name || strncmp(ksp->ks_name, name, KSTAT_STRLEN) == 0)) {
			return ksp;
		}
	}
	errno = ENOENT;
	return NULL;
}

EXPORT void *kstat_data_lookup(kstat_t *ksp, char *name)
{
	size_t step = ksp->ks_type == KSTAT_TYPE_NAMED ? sizeof(kstat_named_t) : sizeof(kstat_timer_t);
	if (ksp->ks_type != KSTAT_TYPE_NAMED && ksp->ks_type != KSTAT_TYPE_TIMER) {
		errno = EINVAL;
		return NULL;
	}
	char *item = ksp->ks_data;
	for (uint32_t i = 0; item && i < ksp->ks_ndata; i++, item += step) {
		if (strncmp(item, name, KSTAT_STRLEN) == 0) {
			return item;
		}
	}
	errno = ENOENT;
	return NULL;
}

static int direct(int fd, unsigned request, kstat_t *ksp)
{
	handle *held = handles;
	while (held && held->ctl.kc_kd != fd) {
		held = held->next;
	}
	if (!held || kernel.no_direct) {
		errno = held ? ENOTTY : EBADF;
		return -1;
	}
	if (request == KSTAT_IOC_CHAIN_ID) {
		kernel.count.chain_ids++;
		return json_refresh() < 0 ? -1 : kernel.chain_id;
	}
	if (request == KSTAT_IOC_READ) {
		kernel.count.direct_reads++;
		return kernel_read(ksp);
	}
	errno = request == KSTAT_IOC_WRITE ? EACCES : ENOTTY;
	return -1;
}

/* What finds the library's ioctl by dlsym finds this one, which knows the descriptors of kstat_open. */
EXPORT int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	kstat_t *ksp = va_arg(arguments, kstat_t *);
	va_end(arguments);
	kernel_lock();
	int answer = direct(fd, (unsigned)request, ksp);
	kernel_unlock();
	return answer;
}
