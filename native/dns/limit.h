/* Response rate limiting, which makes the server useless for amplification attacks with spoofed source addresses.
 *
 * Two rates are limited for each source (an IPv4 /24 or an IPv6 /56): equal answers, and the octets by which all
 * answers exceed their queries. Messages that are handed over are limited for each IPv4 address or IPv6 /56, because
 * they cost more to answer. The table has a fixed size. An evicted entry starts again with a full allowance. */
#ifndef PYMON_LIMIT_H
#define PYMON_LIMIT_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint32_t responses_per_second;	  /* equal answers to one source; 0: no limit */
	uint32_t excess_bytes_per_second; /* octets of answers minus those of queries, of one source; 0: no limit */
	uint32_t handed_per_second;	  /* messages of one source that are handed over; 0: no limit */
	uint32_t slip;			  /* one in this many limited queries gets a truncated answer; 0: none */
} pm_limits;

typedef struct pm_limiter pm_limiter;

typedef enum { PM_LIMIT_PASS, PM_LIMIT_SLIP, PM_LIMIT_DROP } pm_limit;

/* Returns NULL if out of memory. `key`: random, for the hash of sources. */
pm_limiter *pm_limiter_new(const pm_limits *limits, const uint64_t key[2]);
void pm_limiter_free(pm_limiter *limiter);

/* Decide whether an answer is sent, truncated or dropped. Loopback is not limited, as only this machine can use it. */
pm_limit pm_limiter_ask(pm_limiter *limiter, int64_t now_ns, const struct sockaddr_storage *source, uint64_t answer,
			size_t query_len, size_t answer_len);

/* Returns whether a message may be handed over. Loopback is limited too. */
int pm_limiter_hand(pm_limiter *limiter, int64_t now_ns, const struct sockaddr_storage *source);

#endif
