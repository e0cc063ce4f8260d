/* Renders tables as an exposition in protocol buffers: the samples of pm_render in another form. */
#ifndef PYMON_RENDER_PROTOBUF_H
#define PYMON_RENDER_PROTOBUF_H

#include "proto_metric.h"
#include "render.h"

/* What a sample is in a histogram. The samples of a row are the buckets with ascending bounds, then the sum, and at the
 * end the count. */
typedef enum { PM_PROTO_VALUE, PM_PROTO_BUCKET, PM_PROTO_SUM, PM_PROTO_COUNT } pm_proto_part;

/* What protocol buffers need of a pm_sample besides. */
typedef struct {
	const char *labels; /* the constant labels, as fields of a Metric; those of a histogram are at its count */
	uint32_t labels_len;
	uint8_t part;
	uint8_t created; /* it counts from the creation of its parent */
	double bound;	 /* of a bucket */
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

/* The most buckets of a histogram that is also written as a native one. */
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

/* Append the exposition of a catalogue to `out`. The other arguments are those of pm_render. Returns 0, or -1 if out of
 * memory; then `out` has its previous content. */
int pm_render_protobuf(pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables,
		       const pm_block *parents, uint32_t parent_count, const unsigned char *selected, uint64_t *lines);

#endif
