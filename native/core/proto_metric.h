/* Messages of io.prometheus.client, of which an exposition in protocol buffers consists, each MetricFamily after its
 * length. https://github.com/prometheus/client_model, io/prometheus/client/metrics.proto. */
#ifndef PYMON_PROTO_METRIC_H
#define PYMON_PROTO_METRIC_H

#include "buffer.h"
#include "protobuf.h"

/* Values of MetricType. */
typedef enum { PM_PROTO_COUNTER, PM_PROTO_GAUGE, PM_PROTO_SUMMARY, PM_PROTO_UNTYPED, PM_PROTO_HISTOGRAM } pm_proto_type;

/* Numbers of fields. Those of Counter, Gauge and Untyped for the value are the same. */
enum {
	PM_FAMILY_NAME = 1,
	PM_FAMILY_HELP = 2,
	PM_FAMILY_TYPE = 3,
	PM_FAMILY_METRIC = 4,
	PM_METRIC_LABEL = 1,
	PM_METRIC_GAUGE = 2,
	PM_METRIC_COUNTER = 3,
	PM_METRIC_SUMMARY = 4,
	PM_METRIC_UNTYPED = 5,
	PM_METRIC_HISTOGRAM = 7,
	PM_LABEL_NAME = 1,
	PM_LABEL_VALUE = 2,
	PM_NUMBER_VALUE = 1,
	PM_COUNTER_CREATED = 3,
	PM_TIMESTAMP_SECONDS = 1,
	PM_TIMESTAMP_NANOS = 2,
	PM_SAMPLE_COUNT = 1, /* of Histogram and Summary, as the next one */
	PM_SAMPLE_SUM = 2,
	PM_SUMMARY_QUANTILE = 3,
	PM_SUMMARY_CREATED = 4,
	PM_QUANTILE_QUANTILE = 1,
	PM_QUANTILE_VALUE = 2,
	PM_HISTOGRAM_BUCKET = 3,
	PM_HISTOGRAM_COUNT_FLOAT = 4,
	PM_HISTOGRAM_SCHEMA = 5,
	PM_HISTOGRAM_ZERO_THRESHOLD = 6,
	PM_HISTOGRAM_ZERO_COUNT = 7,
	PM_HISTOGRAM_POSITIVE_SPAN = 12,
	PM_HISTOGRAM_POSITIVE_DELTA = 13,
	PM_HISTOGRAM_CREATED = 15,
	PM_BUCKET_COUNT = 1,
	PM_BUCKET_BOUND = 2,
	PM_BUCKET_COUNT_FLOAT = 4,
	PM_SPAN_OFFSET = 1,
	PM_SPAN_LENGTH = 2,
};

/* The field of Metric that has the value of a family of this type. */
int pm_proto_value_field(pm_proto_type type);

/* Append labels of the form `name="value",…` with the escapes of text formats, as fields of a Metric. Returns 0, or -1
 * if out of memory. */
int pm_proto_labels(pm_buffer *out, const char *block, size_t len);

/* Append one of these labels. `value` is escaped. Returns 0, or -1 if out of memory. */
int pm_proto_label(pm_buffer *out, const char *name, size_t name_len, const char *value, size_t value_len);

/* Append text without its escapes: two backslashes, backslash and n, and backslash and quote. Returns 0, or -1 if out
 * of memory. */
int pm_proto_unescape(pm_buffer *out, const char *text, size_t len);

/* Append the fields of a histogram's bucket. Returns 0, or -1 if out of memory. */
int pm_proto_bucket(pm_buffer *out, double bound, uint64_t count);

/* Begin a family: reserve the place of its length and append `head`. guess: the length of the family before it. Returns
 * the number of bytes reserved, or -1 if out of memory. */
int pm_proto_begin(pm_buffer *out, size_t guess, const char *head, size_t head_len);

/* End the family that began at `start` with `reserved` bytes: write its length, and move it if that has not the
 * expected size. Returns the length, or -1 if out of memory. */
int64_t pm_proto_end(pm_buffer *out, size_t start, int reserved);

#endif
