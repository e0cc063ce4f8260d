/* A thread that answers UDP queries about a set of zones.
 *
 * Transfers, updates, notifications and signed queries are put into a bounded queue for the consumer that watches the
 * eventfd. */
#ifndef PYMON_RESPONDER_H
#define PYMON_RESPONDER_H

#include <sys/socket.h>

#include "answer.h"
#include "limit.h"

enum { PM_HANDED_MAX = 1024, PM_QUERY_MAX = 4096 };

typedef enum {
	PM_COUNT_QUERIES,     /* datagrams received */
	PM_COUNT_HANDED,      /* messages put into the queue */
	PM_COUNT_HANDED_LOST, /* messages dropped because the queue was full or memory was out */
	PM_COUNT_TRUNCATED,   /* answers that did not fit */
	PM_COUNT_LIMITED,     /* messages dropped because of a rate limit */
	PM_COUNT_SLIPPED,     /* truncated answers because of a rate limit */
	PM_COUNT_IGNORED,     /* messages that are not queries */
	PM_COUNT_UNSENT,      /* answers that the kernel did not accept */
	PM_COUNT_RCODE,	      /* first of the counts of answers by RCODE */
	PM_COUNTS = PM_COUNT_RCODE + PM_RCODE_COUNT,
} pm_count;

/* Source and local address of a datagram, so that the answer can be sent from the address that the query went to. */
typedef struct {
	unsigned socket;
	socklen_t peer_len;
	struct sockaddr_storage peer;
	size_t control_len;
	uint8_t control[64];
} pm_origin;

typedef struct pm_handed {
	struct pm_handed *next;
	pm_origin origin;
	size_t len;
	uint8_t query[];
} pm_handed;

typedef struct pm_responder pm_responder;

/* Start the thread on bound UDP sockets, which are duplicated. Returns NULL with errno set on failure. */
pm_responder *pm_responder_start(pm_zones *zones, const int *sockets, unsigned count, const pm_limits *limits);
void pm_responder_stop(pm_responder *responder);

/* The eventfd, which is readable while the queue is not empty. */
int pm_responder_event(const pm_responder *responder);
/* Take one message from the queue, NULL if it is empty. The caller frees it. */
pm_handed *pm_responder_take(pm_responder *responder);
/* Send an answer to the source of a query. Returns 0, or -1 with errno set. */
int pm_responder_reply(pm_responder *responder, const pm_origin *origin, const uint8_t *data, size_t len);

uint64_t pm_responder_counter(const pm_responder *responder, pm_count count);

#endif
