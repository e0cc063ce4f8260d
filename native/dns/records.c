#include "records.h"

#include "name.h"
#include "wire.h"

void pm_builder_free(pm_builder *builder)
{
	free(builder->records);
	pm_buffer_free(&builder->rdata);
	pm_buffer_free(&builder->block);
}

void pm_builder_clear(pm_builder *builder)
{
	builder->count = 0;
	builder->made = 0;
	builder->rdata.len = 0;
}

int pm_builder_add(pm_builder *builder, uint16_t type, uint32_t ttl, const uint8_t *rdata, size_t len)
{
	if (builder->count == builder->cap) {
		uint32_t cap = builder->cap ? builder->cap * 2 : 16;
		void *records = realloc(builder->records, cap * sizeof(*builder->records));

		if (records == NULL)
			return -1;
		builder->records = records;
		builder->cap = cap;
	}
	if (builder->rdata.len + len > UINT32_MAX / 2)
		return -1;
	builder->made = 0;
	builder->records[builder->count++] =
		(struct pm_builder_record){ttl, (uint32_t)builder->rdata.len, (uint32_t)len, type};
	if (pm_buffer_append(&builder->rdata, (const char *)rdata, len) < 0) {
		builder->count--;
		return -1;
	}
	return 0;
}

static int compare(const void *left, const void *right, void *rdata)
{
	const struct pm_builder_record *a = left, *b = right;
	int order;

	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	order = memcmp((char *)rdata + a->offset, (char *)rdata + b->offset, a->len < b->len ? a->len : b->len);
	if (order)
		return order;
	return a->len < b->len ? -1 : a->len > b->len;
}

static void write_record(uint8_t *out, const struct pm_builder_record *record, uint32_t ttl, const char *rdata)
{
	pm_put16(out, 0xc00c);
	pm_put16(out + 2, record->type);
	pm_put16(out + 4, 1);
	pm_put32(out + 6, ttl);
	pm_put16(out + 10, record->len);
	memcpy(out + PM_RR_HEAD, rdata + record->offset, record->len);
}

/* Sort the records, remove duplicates, and write the block into the builder's buffer. */
static pm_records *build(pm_builder *builder)
{
	struct pm_builder_record *records = builder->records;
	char *rdata = builder->rdata.data;
	uint32_t count = 1, sets = 1, offset = 0;
	size_t size;
	pm_records *block;
	uint8_t *out;

	if (builder->count > 1)
		qsort_r(records, builder->count, sizeof(*records), compare, rdata);
	for (uint32_t i = 1; i < builder->count; i++) {
		sets += records[i].type != records[i - 1].type;
		if (compare(&records[i], &records[count - 1], rdata) != 0)
			records[count++] = records[i];
		else if (records[i].ttl < records[count - 1].ttl)
			records[count - 1].ttl = records[i].ttl;
	}
	builder->count = count;
	size = sets * sizeof(pm_rrset) + (size_t)count * PM_RR_HEAD + builder->rdata.len;
	builder->block.len = 0;
	if (size > UINT32_MAX / 2 || pm_buffer_reserve(&builder->block, sizeof(*block) + size) < 0)
		return NULL;
	block = (pm_records *)builder->block.data;
	memset(block, 0, sizeof(*block) + sets * sizeof(pm_rrset));
	block->sets = sets;
	out = (uint8_t *)(block->set + sets);
	sets = 0;
	for (uint32_t first = 0, end; first < count; first = end) {
		pm_rrset *set = &block->set[sets++];

		*set = (pm_rrset){.type = records[first].type, .ttl = records[first].ttl, .offset = offset};
		for (end = first; end < count && records[end].type == set->type; end++)
			if (records[end].ttl < set->ttl)
				set->ttl = records[end].ttl;
		for (uint32_t i = first; i < end; i++) {
			write_record(out + offset, &records[i], set->ttl, rdata);
			offset += PM_RR_HEAD + records[i].len;
		}
		set->count = end - first;
		set->len = offset - set->offset;
	}
	block->size = (uint32_t)(block->sets * sizeof(pm_rrset)) + offset;
	return block;
}

pm_records *pm_pool_take(pm_pool *pool, pm_epoch *epoch, pm_builder *builder)
{
	pm_records *made = build(builder), *block;
	unsigned shard;
	pm_cursor cursor;

	if (made == NULL)
		return NULL;
	builder->made = 1;
	made->hash = pm_name_hash((const uint8_t *)made->set, made->size, pool->key[0], pool->key);
	shard = pm_index_shard(made->hash);
	cursor = pm_index_find(&pool->index, shard, (uint32_t)made->hash);
	while ((block = pm_cursor_next(&cursor)) != NULL) {
		if (block->size == made->size && memcmp(block->set, made->set, made->size) == 0) {
			block->refs++;
			return block;
		}
	}
	block = malloc(sizeof(*block) + made->size);
	if (block == NULL)
		return NULL;
	memcpy(block, made, sizeof(*block) + made->size);
	block->refs = 1;
	if (pm_index_add(&pool->index, epoch, shard, (uint32_t)block->hash, block) < 0) {
		free(block);
		return NULL;
	}
	return block;
}

void pm_pool_drop(pm_pool *pool, pm_epoch *epoch, pm_records *block)
{
	if (block == NULL || --block->refs > 0)
		return;
	pm_index_remove(&pool->index, pm_index_shard(block->hash), (uint32_t)block->hash, block);
	pm_epoch_retire(epoch, block);
}
