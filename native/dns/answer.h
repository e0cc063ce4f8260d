/* Answers to queries: RFC 1034 without recursion, wildcards and delegations; EDNS (RFC 6891). Does no I/O. */
#ifndef PYMON_ANSWER_H
#define PYMON_ANSWER_H

#include "dns_zone.h"

enum {
	PM_UDP_PAYLOAD = 1232, /* largest UDP message, which needs no fragmentation; advertised in EDNS */
	PM_UDP_PLAIN = 512,    /* largest UDP answer without EDNS */
	PM_MESSAGE_MAX = 65535,
	PM_MESSAGE_HEADER = 12,
};

typedef enum {
	PM_RCODE_NOERROR = 0,
	PM_RCODE_FORMERR = 1,
	PM_RCODE_SERVFAIL = 2,
	PM_RCODE_NXDOMAIN = 3,
	PM_RCODE_NOTIMP = 4,
	PM_RCODE_REFUSED = 5,
	PM_RCODE_BADVERS = 16,
	PM_RCODE_COUNT,
} pm_rcode;

typedef enum {
	PM_ANSWER_DROP,	     /* not a query: send nothing */
	PM_ANSWER_SEND,	     /* send `len` octets */
	PM_ANSWER_HAND_OVER, /* a transfer, update, notification or signed query: for the Python part */
} pm_verdict;

typedef struct {
	pm_verdict verdict;
	pm_rcode rcode;
	uint64_t key; /* for rate limits: equal for equal answers, whoever asks */
	size_t len;
	uint16_t question_len; /* octets of the question section, 0 without one */
	uint8_t edns;	       /* the answer ends in an OPT record */
	uint8_t truncated;
} pm_answer;

/* Answer a message. `out` has room for `limit` octets, at least PM_UDP_PLAIN. Over UDP, the payload size in the query's
 * EDNS also limits the answer. Address records are rotated by `turn`. The caller is a reader between pm_epoch_enter and
 * pm_epoch_exit, or the writer. */
pm_answer pm_answer_query(const pm_zones *zones, const uint8_t *query, size_t len, int udp, uint8_t *out, size_t limit,
			  uint32_t turn);

/* Reduce an answer to an empty one with the TC flag, which tells the client to use TCP. Not longer than the query. */
void pm_answer_truncate(pm_answer *answer, uint8_t *out);

#endif
