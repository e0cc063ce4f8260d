#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

kernel_state kernel = {.chain_id = 1, .descriptor = -2};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int_map by_kid;
static int_map zones; /* first record of each */
static record **buckets;
static uint32_t bucket_mask;

void kernel_lock(void)
{
	pthread_mutex_lock(&lock);
}

void kernel_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static size_t spec_size(const spec *made)
{
	return made->type == KSTAT_TYPE_NAMED ? made->nstats * sizeof(kstat_named_t) + made->text_len
					      : made->other_size;
}

/* --- the chain --- */

static uint32_t key_hash(const char *module, int instance, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u ^ (uint32_t)instance;
	for (int i = 0; i < KSTAT_STRLEN; i++) {
		hash = (hash ^ (uint8_t)module[i]) * 0x100000001b3u;
		hash = (hash ^ (uint8_t)name[i]) * 0x100000001b3u;
	}
	return (uint32_t)(hash ^ hash >> 32);
}

static record **key_slot(const char *module, int instance, const char *name)
{
	record **slot = &buckets[key_hash(module, instance, name) & bucket_mask];
	while (*slot && ((*slot)->instance != instance || memcmp((*slot)->name, name, KSTAT_STRLEN) != 0 ||
			 memcmp((*slot)->module, module, KSTAT_STRLEN) != 0)) {
		slot = &(*slot)->bucket;
	}
	return slot;
}

static void buckets_grow(void)
{
	uint32_t size = buckets ? (bucket_mask + 1) * 2 : 256;
	free(buckets);
	buckets = calloc(size, sizeof(*buckets));
	if (!buckets) {
		abort();
	}
	bucket_mask = size - 1;
	for (record *item = kernel.first; item; item = item->next) {
		record **slot = &buckets[key_hash(item->module, item->instance, item->name) & bucket_mask];
		item->bucket = *slot;
		*slot = item;
	}
}

record *kernel_find(const char module[KSTAT_STRLEN], int instance, const char name[KSTAT_STRLEN])
{
	return buckets ? *key_slot(module, instance, name) : NULL;
}

record *kernel_by_kid(kid_t kid)
{
	return map_get(&by_kid, kid);
}

/* The zone that a kstat goes with: its instance, or the N of a link's name z<N>_<link>. */
static int zone_of(const spec *made)
{
	static const char *const by_instance[] = {"zones", "memory_cap", "zone_vfs", "zone_zfs", "caps", "tcp"};
	for (size_t i = 0; i < sizeof(by_instance) / sizeof(*by_instance); i++) {
		if (strncmp(made->module, by_instance[i], KSTAT_STRLEN) == 0) {
			return made->instance;
		}
	}
	int zone = 0;
	int read = 0;
	char name[KSTAT_STRLEN + 1] = {0};
	memcpy(name, made->name, KSTAT_STRLEN);
	if (strncmp(made->module, "link", KSTAT_STRLEN) == 0 && sscanf(name, "z%8d_%n", &zone, &read) == 1 &&
	    read > 0) {
		return zone;
	}
	return -1;
}

void kernel_set_flags(record *item, uint8_t flags)
{
	kernel.turns += (item->flags ^ flags) & KSTAT_FLAG_INVALID ? 1 : 0;
	item->flags = flags;
}

/* The data with its strings behind it, and behind those, where strings are. */
static void record_fill(record *item, const spec *made)
{
	size_t size = spec_size(made);
	size_t refs_at = (size + 7) & ~(size_t)7;
	free(item->data);
	item->data = malloc(refs_at + made->nrefs * sizeof(string_ref) + 1);
	if (!item->data) {
		abort();
	}
	item->refs = (string_ref *)(item->data + refs_at);
	item->size = size;
	item->nrefs = 0;
	if (made->type != KSTAT_TYPE_NAMED) {
		item->ndata = made->other_ndata;
		memcpy(item->data, &made->other, size);
	} else {
		size_t text_at = made->nstats * sizeof(kstat_named_t);
		item->ndata = made->nstats;
		item->nrefs = made->nrefs;
		if (text_at) {
			memcpy(item->data, made->stats, text_at);
		}
		if (made->text_len) {
			memcpy(item->data + text_at, made->text, made->text_len);
		}
		for (uint32_t i = 0; i < made->nrefs; i++) {
			item->refs[i] = made->refs[i];
			item->refs[i].at += made->refs[i].wild ? 0 : text_at;
		}
	}
	kernel_set_flags(item, made->flags);
	item->snaptime = made->snaptime;
	item->error = made->error;
	item->error_times = made->error_times;
	item->tells_ndata = made->tells_ndata;
	item->told_ndata = made->told_ndata;
	item->tells_size = made->tells_size;
	item->told_size = made->told_size;
}

record *kernel_put(const spec *made)
{
	record *item = kernel_find(made->module, made->instance, made->name);
	if (item) {
		bool same = memcmp(item->class, made->class, KSTAT_STRLEN) == 0 && item->type == made->type &&
			    item->crtime == made->crtime;
		bool fits =
			item->size == spec_size(made) || (item->flags & (KSTAT_FLAG_VAR_SIZE | KSTAT_FLAG_LONGSTRINGS));
		if (same && fits) {
			record_fill(item, made);
			return item;
		}
		kernel_remove(item);
	}
	if (!buckets || kernel.count.records > bucket_mask) {
		buckets_grow();
	}
	item = calloc(1, sizeof(*item));
	if (!item) {
		abort();
	}
	item->kid = ++kernel.last_kid;
	item->type = made->type;
	item->instance = made->instance;
	item->crtime = made->crtime;
	memcpy(item->module, made->module, KSTAT_STRLEN);
	memcpy(item->name, made->name, KSTAT_STRLEN);
	memcpy(item->class, made->class, KSTAT_STRLEN);
	record_fill(item, made);

	item->prev = kernel.last;
	*(kernel.last ? &kernel.last->next : &kernel.first) = item;
	kernel.last = item;
	*key_slot(item->module, item->instance, item->name) = item;
	map_put(&by_kid, item->kid, item);
	item->zone = zone_of(made);
	if (item->zone >= 0) {
		item->of_zone = map_get(&zones, item->zone);
		map_put(&zones, item->zone, item);
	}
	kernel.count.records++;
	kernel.chain_id++;
	return item;
}

static void leave_zone(record *gone)
{
	record *first = map_get(&zones, gone->zone);
	if (first == gone) {
		map_put(&zones, gone->zone, gone->of_zone);
		return;
	}
	while (first->of_zone != gone) {
		first = first->of_zone;
	}
	first->of_zone = gone->of_zone;
}

void kernel_remove(record *gone)
{
	*(gone->prev ? &gone->prev->next : &kernel.first) = gone->next;
	*(gone->next ? &gone->next->prev : &kernel.last) = gone->prev;
	*key_slot(gone->module, gone->instance, gone->name) = gone->bucket;
	map_put(&by_kid, gone->kid, NULL);
	if (gone->zone >= 0) {
		leave_zone(gone);
	}
	library_removed(gone->kid);
	free(gone->data);
	free(gone);
	kernel.count.records--;
	kernel.chain_id++;
}

int kernel_remove_zone(int zone)
{
	int gone = 0;
	for (record *item; (item = map_get(&zones, zone)); gone++) {
		kernel_remove(item);
	}
	return gone;
}

void kernel_reset(void)
{
	while (kernel.last) { /* in by_kid nothing closes up behind the last */
		kernel_remove(kernel.last);
	}
	map_free(&by_kid);
	map_free(&zones);
	free(buckets);
	buckets = NULL;
	kernel = (kernel_state){
		.chain_id = kernel.chain_id + 1,
		.last_kid = kernel.last_kid,
		.turns = kernel.turns,
		.descriptor = -2,
		.count.headers = kernel.count.headers,
	};
}

/* --- reading --- */

static void vanish(void)
{
	int zone = kernel.vanish_zone;
	kernel_remove_zone(zone);
	if (kernel.vanish_returns) {
		zones_generate(zone, 1, (unsigned)kernel.chain_id);
	}
}

static int failure(record *item)
{
	if (!item) {
		return ENXIO;
	}
	if (item->flags & KSTAT_FLAG_INVALID) {
		return EAGAIN; /* its owner is at it */
	}
	if (!item->error || !item->error_times) {
		return 0;
	}
	item->error_times -= item->error_times > 0;
	return item->error;
}

/* The data, and pointers to where its strings are in the reader's memory. */
static void copy_out(const record *item, uint8_t *target, size_t size)
{
	if (item->size < size) {
		memset(target + item->size, 0, size - item->size);
	}
	memcpy(target, item->data, item->size < size ? item->size : size);
	for (uint32_t i = 0; i < item->nrefs; i++) {
		const string_ref *ref = &item->refs[i];
		if ((ref->stat + 1) * sizeof(kstat_named_t) <= size) {
			uintptr_t pointer = ref->wild ? ref->at : (uintptr_t)target + ref->at;
			memcpy(&((kstat_named_t *)target)[ref->stat].value.str.ptr, &pointer, sizeof(pointer));
		}
	}
}

kid_t kernel_read(kstat_t *header)
{
	record *item = kernel_by_kid(header->ks_kid);
	int error = failure(item);
	if (item) {
		item->reads++;
	}
	if (!error) {
		size_t size = item->tells_size ? item->told_size : item->size;
		if (header->ks_data_size < size || (size && !header->ks_data)) {
			error = ENOMEM;
		} else if (size) {
			copy_out(item, header->ks_data, size);
		}
		header->ks_ndata = item->tells_ndata ? item->told_ndata : item->ndata;
		header->ks_data_size = size;
		header->ks_flags = item->flags;
		header->ks_snaptime = item->snaptime ? item->snaptime : kernel.now;
	}
	if (error) {
		kernel.count.errors++;
		kernel.count.eagain += error == EAGAIN;
	}
	if (kernel.vanish_in > 0 && --kernel.vanish_in == 0) {
		vanish();
	}
	errno = error;
	return error ? -1 : kernel.chain_id;
}

__attribute__((destructor)) static void end(void)
{
	kernel_reset();
}
