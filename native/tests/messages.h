/* Checks the form of an exposition in protocol buffers. Included after fuzz.h. */
#ifndef PYMON_MESSAGES_H
#define PYMON_MESSAGES_H

#include "proto_metric.h"

typedef struct {
	const uint8_t *p;
	const uint8_t *end;
} message;

static inline uint64_t take_varint(message *at)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		FUZZ_CHECK(at->p < at->end && shift < 64);
		value |= (uint64_t)(*at->p & 0x7f) << shift;
		if (*at->p++ < 0x80)
			return value;
	}
}

/* Take the next field. Returns its number; `inside` is what it has if it is of bytes, else empty. */
static inline unsigned take_field(message *at, message *inside)
{
	uint64_t tag = take_varint(at), len = 0;

	inside->p = inside->end = at->p;
	if ((tag & 7) == PM_WIRE_VARINT)
		take_varint(at);
	else if ((tag & 7) == PM_WIRE_FIXED64)
		len = 8;
	else
		len = take_varint(at);
	FUZZ_CHECK((tag & 7) <= PM_WIRE_BYTES && len <= (uint64_t)(at->end - at->p));
	if ((tag & 7) == PM_WIRE_BYTES)
		*inside = (message){at->p, at->p + len};
	at->p += len;
	return (unsigned)(tag >> 3);
}

static inline uint64_t check_metric(message metric)
{
	message field, part;
	uint64_t values = 0;

	while (metric.p < metric.end) {
		unsigned number = take_field(&metric, &field);

		values += number != PM_METRIC_LABEL;
		FUZZ_CHECK(number <= PM_METRIC_HISTOGRAM && field.p < field.end);
		while (field.p < field.end)
			take_field(&field, &part);
	}
	return values;
}

/* Returns the number of metrics. */
static inline uint64_t check_messages(const char *data, size_t len)
{
	message at = {(const uint8_t *)data, len ? (const uint8_t *)data + len : (const uint8_t *)data};
	uint64_t metrics = 0;

	while (at.p < at.end) {
		uint64_t size = take_varint(&at);
		message family = {at.p, at.p + size}, field;

		FUZZ_CHECK(size <= (uint64_t)(at.end - at.p));
		at.p += size;
		while (family.p < family.end)
			if (take_field(&family, &field) == PM_FAMILY_METRIC) {
				FUZZ_CHECK(check_metric(field) == 1);
				metrics++;
			}
	}
	return metrics;
}

#endif
