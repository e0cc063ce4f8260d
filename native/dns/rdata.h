/* Record data in wire form from what master files write, for the types that a zone of containers is full of. */
#ifndef PYMON_RDATA_H
#define PYMON_RDATA_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
	PM_TYPE_A = 1,
	PM_TYPE_NS = 2,
	PM_TYPE_CNAME = 5,
	PM_TYPE_SOA = 6,
	PM_TYPE_PTR = 12,
	PM_TYPE_TXT = 16,
	PM_TYPE_AAAA = 28,
	PM_TYPE_SRV = 33,
	PM_TYPE_DNAME = 39,
	PM_TYPE_OPT = 41,
	PM_TYPE_RRSIG = 46,
	PM_TYPE_NSEC = 47,
	PM_TYPE_TKEY = 249,
	PM_TYPE_TSIG = 250,
	PM_TYPE_IXFR = 251,
	PM_TYPE_AXFR = 252,
	PM_TYPE_ANY = 255,
} pm_type;

enum { PM_RDATA_MAX = 8192 };

/* The type of this name when its data is parsed here, else 0. */
uint16_t pm_type_parse(const char *text, size_t len);

/* Octets written to `out` (of PM_RDATA_MAX), or -1: not such data, or written in a way that is not parsed here. Names
 * in it come out in lower case. `text` ends with a zero octet behind `len`. */
int pm_rdata_parse(uint16_t type, const char *text, size_t len, uint8_t *out);

#endif
