#include "proto_metric.h"

#include "exposition_labels.h"

int pm_proto_value_field(pm_proto_type type)
{
	switch (type) {
	case PM_PROTO_COUNTER:
		return PM_METRIC_COUNTER;
	case PM_PROTO_GAUGE:
		return PM_METRIC_GAUGE;
	case PM_PROTO_SUMMARY:
		return PM_METRIC_SUMMARY;
	case PM_PROTO_UNTYPED:
		return PM_METRIC_UNTYPED;
	default:
		return PM_METRIC_HISTOGRAM;
	}
}

/* The length of text without its escapes. */
static size_t unescaped_length(const char *text, size_t len)
{
	size_t escapes = 0;

	for (const char *p = text, *end = text + len; (p = memchr(p, '\\', (size_t)(end - p))) != NULL && end - p > 1;
	     p += 2)
		escapes++;
	return len - escapes;
}

static char *put_unescaped(char *to, const char *text, size_t len)
{
	const char *end = text + len;

	for (;;) {
		const char *escape = memchr(text, '\\', (size_t)(end - text));

		if (escape == NULL || end - escape < 2)
			return pm_put_bytes(to, text, (size_t)(end - text));
		to = pm_put_bytes(to, text, (size_t)(escape - text));
		*to++ = escape[1] == 'n' ? '\n' : escape[1];
		text = escape + 2;
	}
}

int pm_proto_unescape(pm_buffer *out, const char *text, size_t len)
{
	if (pm_buffer_reserve(out, len) < 0)
		return -1;
	out->len = (size_t)(put_unescaped(out->data + out->len, text, len) - out->data);
	return 0;
}

int pm_proto_label(pm_buffer *out, const char *name, size_t name_len, const char *value, size_t value_len)
{
	size_t bare = unescaped_length(value, value_len);
	size_t len = 2 + pm_varint_length(name_len) + name_len + pm_varint_length(bare) + bare;
	char *p;

	if (pm_buffer_reserve(out, len + 1 + PM_VARINT_MAX) < 0)
		return -1;
	p = pm_put_head(out->data + out->len, PM_METRIC_LABEL, len);
	p = pm_put_head(p, PM_LABEL_NAME, name_len);
	p = pm_put_bytes(p, name, name_len);
	p = pm_put_head(p, PM_LABEL_VALUE, bare);
	out->len = (size_t)(put_unescaped(p, value, value_len) - out->data);
	return 0;
}

int pm_proto_labels(pm_buffer *out, const char *block, size_t len)
{
	const char *end = block + len;
	pm_exposition_label label;

	while (pm_exposition_next_label(&block, end, &label))
		if (pm_proto_label(out, label.name, label.name_len, label.value, label.value_len) < 0)
			return -1;
	return 0;
}

int pm_proto_bucket(pm_buffer *out, double bound, uint64_t count)
{
	size_t len = 10 + pm_varint_length(count);
	char *p;

	if (pm_buffer_reserve(out, len + 2) < 0)
		return -1;
	p = pm_put_head(out->data + out->len, PM_HISTOGRAM_BUCKET, len);
	p = pm_put_varint_field(p, PM_BUCKET_COUNT, count);
	out->len = (size_t)(pm_put_double_field(p, PM_BUCKET_BOUND, bound) - out->data);
	return 0;
}

int pm_proto_begin(pm_buffer *out, size_t guess, const char *head, size_t head_len)
{
	int reserved = (int)pm_varint_length(guess);

	if (pm_buffer_reserve(out, (size_t)reserved + head_len) < 0)
		return -1;
	out->len = (size_t)(pm_put_bytes(out->data + out->len + reserved, head, head_len) - out->data);
	return reserved;
}

int64_t pm_proto_end(pm_buffer *out, size_t start, int reserved)
{
	size_t len = out->len - start - (size_t)reserved, needed = pm_varint_length(len);

	if (pm_buffer_reserve(out, PM_VARINT_MAX) < 0)
		return -1;
	if (needed != (size_t)reserved)
		memmove(out->data + start + needed, out->data + start + reserved, len);
	pm_put_varint(out->data + start, len);
	out->len = start + needed + len;
	return (int64_t)len;
}
