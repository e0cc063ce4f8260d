/* A thread that answers queries that come over UDP from a set of zones.
 *
 * What it does not answer itself (transfers, updates, notifications, signed queries) it puts in a queue of bounded
 * length for whoever watches the event. */
#ifndef PYMON_RESPONDER_H
#define PYMON_RESPONDER_H

#include <sys/socket.h>

#include "answer.h"
#include "limit.h"

enum { PM_HANDED_MAX = 1024, PM_QUERY_MAX = 4096 };

typedef enum {
	PM_COUNT_QUERIES,     /* datagrams received */
	PM_COUNT_HANDED,      /* put in the queue */
	PM_COUNT_HANDED_LOST, /* the queue was full */
	PM_COUNT_TRUNCATED,   /* answers that did not fit */
	PM_COUNT_LIMITED,     /* not answered: over a limit */
	PM_COUNT_SLIPPED,     /* over a limit, told to come by TCP */
	PM_COUNT_IGNORED,     /* no query */
	PM_COUNT_UNSENT,      /* the kernel would not take the answer */
	PM_COUNT_RCODE,	      /* answers by RCODE */
	PM_COUNTS = PM_COUNT_RCODE + PM_RCODE_COUNT,
} pm_count;

/* Where a datagram came from, enough to answer it from the address it was sent to. */
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

/* Start the thread on bound UDP sockets, which are duplicated. NULL with errno set. */
pm_responder *pm_responder_start(pm_zones *zones, const int *sockets, unsigned count, const pm_limits *limits);
void pm_responder_stop(pm_responder *responder);

/* An eventfd, readable while the queue holds anything. */
int pm_responder_event(const pm_responder *responder);
/* Take one handed query, to be freed, or NULL. */
pm_handed *pm_responder_take(pm_responder *responder);
/* Send an answer to where a query came from. 0, or -1 with errno set. */
int pm_responder_reply(pm_responder *responder, const pm_origin *origin, const uint8_t *data, size_t len);

uint64_t pm_responder_counter(const pm_responder *responder, pm_count count);

#endif
