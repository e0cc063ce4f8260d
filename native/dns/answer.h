/* A query in, an answer out: RFC 1034 without recursion, wildcards and delegations; EDNS (RFC 6891). No I/O. */
#ifndef PYMON_ANSWER_H
#define PYMON_ANSWER_H

#include "zone.h"

enum {
	PM_UDP_PAYLOAD = 1232, /* what fits everywhere without fragments; said in EDNS, and the most sent over UDP */
	PM_UDP_PLAIN = 512,    /* the most sent without EDNS */
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
	PM_ANSWER_DROP,	     /* no query */
	PM_ANSWER_SEND,	     /* `len` octets of answer */
	PM_ANSWER_HAND_OVER, /* a transfer, update, notification or signed query */
} pm_verdict;

typedef struct {
	pm_verdict verdict;
	pm_rcode rcode;
	uint64_t key; /* equal for answers that are the same, whoever asks */
	size_t len;
	uint16_t question_len; /* octets of the question, 0 without one */
	uint8_t edns;	       /* whether the answer ends in an OPT record */
	uint8_t truncated;
} pm_answer;

/* Answer a message. `out` has room for `limit` octets (at least PM_UDP_PLAIN); over UDP an answer is bounded by what
 * the query's EDNS says, too. A set of addresses begins with the one that `turn` points to. Called between
 * pm_epoch_enter and pm_epoch_exit, or by the writer. */
pm_answer pm_answer_query(const pm_zones *zones, const uint8_t *query, size_t len, int udp, uint8_t *out, size_t limit,
			  uint32_t turn);

/* Make an answer one that says only "ask over TCP", which is no longer than its query. */
void pm_answer_truncate(pm_answer *answer, uint8_t *out);

#endif
