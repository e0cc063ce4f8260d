/* Limits of what is answered to sources that may be somebody else's: a spoofed query must not be worth sending.
 *
 * A source is an IPv4 /24 or an IPv6 /56. Each answer to each source has a rate, and so have the octets by which all
 * answers to a source are longer than its queries. Tables are of fixed size; what is forgotten starts with a full
 * allowance. */
#ifndef PYMON_LIMIT_H
#define PYMON_LIMIT_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint32_t responses_per_second;	  /* of one answer to one source; 0: no limit */
	uint32_t excess_bytes_per_second; /* 0: no limit */
	uint32_t slip;			  /* every so many refused queries are told to come by TCP; 0: none */
} pm_limits;

typedef struct pm_limiter pm_limiter;

typedef enum { PM_LIMIT_PASS, PM_LIMIT_SLIP, PM_LIMIT_DROP } pm_limit;

/* NULL when memory is out. */
pm_limiter *pm_limiter_new(const pm_limits *limits, const uint64_t key[2]);
void pm_limiter_free(pm_limiter *limiter);

/* What becomes of an answer. Loopback is not limited: nobody sends from there but this machine. */
pm_limit pm_limiter_ask(pm_limiter *limiter, int64_t now_ns, const struct sockaddr_storage *source, uint64_t answer,
			size_t query_len, size_t answer_len);

#endif
