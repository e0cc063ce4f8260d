/* Integers in network byte order. */
#ifndef PYMON_WIRE_H
#define PYMON_WIRE_H

#include <stdint.h>

static inline uint32_t pm_get16(const uint8_t *data)
{
	return (uint32_t)data[0] << 8 | data[1];
}

static inline void pm_put16(uint8_t *out, uint32_t value)
{
	out[0] = (uint8_t)(value >> 8);
	out[1] = (uint8_t)value;
}

static inline void pm_put32(uint8_t *out, uint32_t value)
{
	pm_put16(out, value >> 16);
	pm_put16(out + 2, value);
}

#endif
