/* A kernel with kstats, and a libkstat that reads them, both in this process. */
#ifndef PYMON_KSTAT_LIBRARY_DOUBLE_H
#define PYMON_KSTAT_LIBRARY_DOUBLE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "kstat_reader.h"

enum { RECORDS = 4, TEXT_BYTES = 64, NAME_BYTES = 31, MOST_BYTES = 1 << 20 };

/* A kstat as the kernel has it, and its headers in the library. */
typedef struct {
	kstat_named_t records[RECORDS];
	char text[TEXT_BYTES];
} body;

typedef struct kernel_kstat {
	struct kernel_kstat *next;
	kstat_t header;
	uint32_t count;
	size_t size;
	int error;
	int invalid; /* left out of the chain */
	body body;
} kernel_kstat;

static struct {
	kernel_kstat *first;
	kid_t last_kid, chain_id;
	int fails;
	int moves; /* the chain's id, at each look at it */
	unsigned reads, library_reads, made;
} kernel;

static kstat_ctl_t ctl;

static kernel_kstat *find(kid_t kid)
{
	kernel_kstat *item = kernel.first;

	while (item && item->header.ks_kid != kid)
		item = item->next;
	return item;
}

static void put_name(char field[NAME_BYTES], const char *name)
{
	size_t len = strlen(name);

	memcpy(field, name, len < NAME_BYTES ? len : NAME_BYTES);
}

static kernel_kstat *make(const char *module, const char *class, int instance, const char *name, const char *zone)
{
	kernel_kstat *made = calloc(1, sizeof(*made)), **end = &kernel.first;

	put_name(made->header.ks_module, module);
	put_name(made->header.ks_class, class);
	put_name(made->header.ks_name, name);
	made->header.ks_instance = instance;
	made->header.ks_kid = ++kernel.last_kid;
	made->header.ks_type = KSTAT_TYPE_NAMED;
	made->count = RECORDS;
	made->size = sizeof(made->body);
	put_name(made->body.records[0].name, "zonename");
	made->body.records[0].data_type = KSTAT_DATA_STRING;
	made->body.records[0].value.str.len = (uint32_t)snprintf(made->body.text, TEXT_BYTES, "%s", zone) + 1;
	put_name(made->body.records[1].name, "value");
	made->body.records[1].data_type = KSTAT_DATA_UINT64;
	made->body.records[1].value.ui64 = UINT64_MAX - (uint64_t)instance;
	put_name(made->body.records[2].name, "boot_time");
	made->body.records[2].data_type = KSTAT_DATA_INT32;
	made->body.records[2].value.i32 = 7;
	kernel.chain_id++;
	while (*end)
		end = &(*end)->next;
	*end = made;
	return made;
}

static void unmake(kernel_kstat *item)
{
	kernel_kstat **at = &kernel.first;

	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	free(item);
	kernel.chain_id++;
}

static const kernel_kstat *visible(const kernel_kstat *item)
{
	while (item && item->invalid)
		item = item->next;
	return item;
}

/* As libkstat's: headers stay up to the first id that is new; what is behind it is made anew. */
static kid_t chain_update(kstat_ctl_t *kc)
{
	const kernel_kstat *item = visible(kernel.first);
	kstat_t **at = &kc->kc_chain;

	if (kernel.fails) {
		errno = kernel.fails;
		return -1;
	}
	if (kc->kc_chain_id == kernel.chain_id)
		return 0;
	while (*at) {
		kstat_t *header = *at;

		if (item && header->ks_kid == item->header.ks_kid) {
			at = &header->ks_next;
			item = visible(item->next);
			continue;
		}
		*at = header->ks_next;
		free(header->ks_data);
		free(header);
	}
	for (; item; item = visible(item->next)) {
		*at = malloc(sizeof(**at));
		**at = item->header;
		(*at)->ks_data_size = item->size;
		(*at)->ks_ndata = item->count;
		at = &(*at)->ks_next;
		kernel.made++;
	}
	kc->kc_chain_id = kernel.chain_id;
	return kernel.chain_id;
}

static kstat_ctl_t *open_chain(void)
{
	if (kernel.fails) {
		errno = kernel.fails;
		return NULL;
	}
	ctl = (kstat_ctl_t){.kc_kd = -1, .kc_chain_id = -1};
	chain_update(&ctl);
	return &ctl;
}

static int close_chain(kstat_ctl_t *kc)
{
	while (kc->kc_chain) {
		kstat_t *header = kc->kc_chain;

		kc->kc_chain = header->ks_next;
		free(header->ks_data);
		free(header);
	}
	return kc->kc_kd >= 0 ? close(kc->kc_kd) : 0;
}

static int copy_out(const kernel_kstat *item, void *data)
{
	body *copy = data;

	kernel.reads++;
	if (item->error) {
		errno = item->error;
		return -1;
	}
	*copy = item->body;
	if (copy->records[0].value.str.ptr == NULL)
		copy->records[0].value.str.ptr = copy->text;
	return 0;
}

static kid_t read_kstat(kstat_ctl_t *kc, kstat_t *header, void *buffer)
{
	const kernel_kstat *item = find(header->ks_kid);

	(void)buffer;
	kernel.library_reads++;
	if (!item) {
		errno = ENXIO;
		return -1;
	}
	if (!header->ks_data || (item->size > header->ks_data_size && item->size <= MOST_BYTES)) {
		free(header->ks_data);
		header->ks_data =
			malloc(item->size > sizeof(body) && item->size <= MOST_BYTES ? item->size : sizeof(body));
	}
	header->ks_ndata = item->count;
	header->ks_data_size = item->size;
	header->ks_type = item->header.ks_type;
	return copy_out(item, header->ks_data) ? -1 : kc->kc_chain_id;
}

/* A library that gives its own memory, whatever comes with the kstat. */
static kid_t read_into_own(kstat_ctl_t *kc, kstat_t *header, void *buffer)
{
	static body own;

	header->ks_data = &own;
	return read_kstat(kc, header, buffer);
}

/* A library that frees what comes with the kstat at every read. */
static kid_t read_into_new(kstat_ctl_t *kc, kstat_t *header, void *buffer)
{
	free(header->ks_data);
	header->ks_data = NULL;
	return read_kstat(kc, header, buffer);
}

/* It frees nothing that is in its own memory. */
static int close_chain_of_own(kstat_ctl_t *kc)
{
	for (kstat_t *header = kc->kc_chain; header; header = header->ks_next)
		header->ks_data = NULL;
	return close_chain(kc);
}

static int call_ioctl(int descriptor, int request, ...)
{
	va_list arguments;
	kstat_t *header;
	const kernel_kstat *item;

	(void)descriptor;
	if (request == KSTAT_IOC_CHAIN_ID)
		return kernel.chain_id += kernel.moves;
	va_start(arguments, request);
	header = va_arg(arguments, kstat_t *);
	va_end(arguments);
	item = find(header->ks_kid);
	if (!item) {
		errno = ENXIO;
		return -1;
	}
	if (header->ks_data_size < item->size) {
		header->ks_data_size = item->size;
		errno = ENOMEM;
		return -1;
	}
	header->ks_data_size = item->size;
	header->ks_ndata = item->count;
	return copy_out(item, header->ks_data) ? -1 : kernel.chain_id;
}

static kstat_ctl_t *open_device(void)
{
	kstat_ctl_t *kc = open_chain();

	if (kc)
		kc->kc_kd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return kc;
}

static const pm_kstat_library by_library = {
	.open = open_chain,
	.close = close_chain,
	.chain_update = chain_update,
	.read = read_kstat,
	.ioctl = call_ioctl,
};

#endif
