/* Writes protocol buffers: https://protobuf.dev/programming-guides/encoding/. Room is reserved by the caller. */
#ifndef PYMON_PROTOBUF_H
#define PYMON_PROTOBUF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PM_WIRE_VARINT = 0, PM_WIRE_FIXED64 = 1, PM_WIRE_BYTES = 2 };

/* The tag of a field whose number is below 16, in one byte. */
#define PM_PROTO_TAG(number, wire) ((char)((number) << 3 | (wire)))

enum { PM_VARINT_MAX = 10 };

static inline size_t pm_varint_length(uint64_t value)
{
	return (size_t)(70 - __builtin_clzll(value | 1)) / 7;
}

static inline char *pm_put_varint(char *p, uint64_t value)
{
	while (value >= 0x80) {
		*p++ = (char)(value | 0x80);
		value >>= 7;
	}
	*p++ = (char)value;
	return p;
}

/* The encoding of sint32 and sint64: small numbers of either sign are short. */
static inline uint64_t pm_zigzag(int64_t value)
{
	return (uint64_t)value << 1 ^ -((uint64_t)value >> 63);
}

static inline char *pm_put_double(char *p, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, 8);
	for (int i = 0; i < 8; i++)
		*p++ = (char)(bits >> 8 * i);
	return p;
}

static inline char *pm_put_bytes(char *p, const char *data, size_t len)
{
	if (len)
		memcpy(p, data, len);
	return p + len;
}

static inline char *pm_put_varint_field(char *p, int number, uint64_t value)
{
	*p++ = PM_PROTO_TAG(number, PM_WIRE_VARINT);
	return pm_put_varint(p, value);
}

static inline char *pm_put_double_field(char *p, int number, double value)
{
	*p++ = PM_PROTO_TAG(number, PM_WIRE_FIXED64);
	return pm_put_double(p, value);
}

/* The tag and the length of a field of `len` bytes, which follow. */
static inline char *pm_put_head(char *p, int number, size_t len)
{
	*p++ = PM_PROTO_TAG(number, PM_WIRE_BYTES);
	return pm_put_varint(p, len);
}

#endif
