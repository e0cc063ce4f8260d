/* Parser of record data in master file format, for the types that are frequent in a zone of containers. */
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

/* The number of a type, 0 if its data cannot be parsed here. */
uint16_t pm_type_parse(const char *text, size_t len);

/* Write the wire form to `out`, which has PM_RDATA_MAX octets. Returns the number of octets, or -1 if the data is
 * malformed or in a notation that is not parsed here. Names are written in lower case. text[len] must be 0. */
int pm_rdata_parse(uint16_t type, const char *text, size_t len, uint8_t *out);

#endif
