/* A catalogue for the formats that write a histogram as one value, and tell since when a counter counts. */
#ifndef PYMON_RENDER_CATALOGUE_H
#define PYMON_RENDER_CATALOGUE_H

#include "render.h"

/* What a sample is in a histogram. The samples of a row are the buckets with ascending bounds, then the sum, and at the
 * end the count. */
typedef enum { PM_PROTO_VALUE, PM_PROTO_BUCKET, PM_PROTO_SUM, PM_PROTO_COUNT } pm_proto_part;

/* What protocol buffers and OpenMetrics 2.0 need of a pm_sample besides. */
typedef struct {
	const char *labels; /* the constant labels, as fields of a Metric; those of a histogram are at its count */
	uint32_t labels_len;
	uint8_t part;
	uint8_t created;       /* it counts from the creation of its parent */
	double bound;	       /* of a bucket */
	const char *composite; /* of a bucket its bound and a colon; of a count the prefix of the whole histogram */
	uint32_t composite_len;
} pm_proto_sample;

/* What they need of a pm_family besides. */
typedef struct {
	const char *head; /* the fields name, help and type of a MetricFamily */
	uint32_t head_len;
	uint8_t type; /* pm_proto_type */
	/* A histogram is also written as a native one if its finite bounds are powers of 2^(2^-schema), one after the
	 * other. */
	uint8_t is_native;
	int8_t schema;
	int32_t first; /* the index of the bucket up to the first bound, which becomes the bucket of zero */
} pm_proto_family;

/* The most buckets of a histogram. */
enum { PM_NATIVE_BUCKETS = 64 };

/* A catalogue. The items of `samples` and `proto_samples` are of the same sample, and those of the families too. */
typedef struct {
	const pm_family *families;
	const pm_proto_family *proto_families;
	uint32_t family_count;
	const pm_sample *samples;
	const pm_proto_sample *proto_samples;
	uint32_t table_count;
	uint32_t created_table;	 /* row i of this table is of parent i; PM_NO_COLUMN without creation times */
	uint32_t created_column; /* the creation, in seconds since the epoch */
} pm_proto_catalogue;

/* When the parent of a row was created, in seconds since the epoch; 0: not known. */
static inline uint64_t pm_created_at(const pm_proto_catalogue *catalogue, const pm_table *const *tables,
				     const pm_row_labels *labels)
{
	const pm_table *table;

	if (catalogue->created_table == PM_NO_COLUMN || labels->parent == PM_NO_PARENT)
		return 0;
	table = tables[catalogue->created_table];
	if (table == NULL || labels->parent >= table->rows ||
	    !pm_table_has(table, labels->parent, catalogue->created_column))
		return 0;
	return pm_table_get(table, labels->parent, catalogue->created_column);
}

/* Returns whether counts of buckets, each with those before it, can be those of a native histogram. */
static inline int pm_is_ascending(const uint64_t *counts, uint32_t buckets)
{
	for (uint32_t i = 1; i < buckets; i++)
		if (counts[i] < counts[i - 1])
			return 0;
	return 1;
}

#endif
