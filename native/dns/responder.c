#include "responder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, ROUNDS = 16, SOCKETS_MAX = 64, RECEIVE_BUFFER = 4 << 20 };

typedef struct {
	struct mmsghdr in[BATCH], out[BATCH];
	struct iovec in_data[BATCH], out_data[BATCH];
	struct sockaddr_storage peers[BATCH];
	uint8_t control[BATCH][64];
	uint8_t queries[BATCH][PM_QUERY_MAX];
	uint8_t answers[BATCH][PM_UDP_PAYLOAD];
} batch;

struct pm_responder {
	pm_zones *zones;
	pm_limiter *limiter;
	batch *batch;
	pthread_t thread;
	int reader, stop, event;
	uint32_t turn;
	unsigned count;
	struct pollfd polled[SOCKETS_MAX + 1];
	_Atomic uint64_t counts[PM_COUNTS];
	pthread_mutex_t lock;
	pm_handed *first, *last;
	unsigned waiting;
};

static void count_up(pm_responder *responder, pm_count count, uint64_t by)
{
	_Atomic uint64_t *counter = &responder->counts[count];

	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void hand_over(pm_responder *responder, unsigned socket, const struct mmsghdr *message)
{
	const struct msghdr *head = &message->msg_hdr;
	pm_handed *handed = calloc(1, sizeof(*handed) + message->msg_len);
	uint64_t one = 1;

	if (handed) {
		handed->origin.socket = socket;
		handed->origin.peer_len = head->msg_namelen;
		memcpy(&handed->origin.peer, head->msg_name, head->msg_namelen);
		handed->origin.control_len = head->msg_controllen;
		memcpy(handed->origin.control, head->msg_control, head->msg_controllen);
		handed->len = message->msg_len;
		memcpy(handed->query, head->msg_iov->iov_base, message->msg_len);
	}
	pthread_mutex_lock(&responder->lock);
	if (handed && responder->waiting < PM_HANDED_MAX) {
		if (responder->last)
			responder->last->next = handed;
		else
			responder->first = handed;
		responder->last = handed;
		responder->waiting++;
		handed = NULL;
		count_up(responder, PM_COUNT_HANDED, 1);
		if (responder->waiting == 1 && write(responder->event, &one, sizeof(one)) < 0) {
			/* readable already */
		}
	} else {
		count_up(responder, PM_COUNT_HANDED_LOST, 1);
	}
	pthread_mutex_unlock(&responder->lock);
	free(handed);
}

/* Keep the source address in the control data, so the answer comes from the address that the query was sent to, but let
 * routing choose the interface. */
static void use_any_interface(struct msghdr *head)
{
	for (struct cmsghdr *part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
		if (part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
			((struct in_pktinfo *)(void *)CMSG_DATA(part))->ipi_ifindex = 0;
		} else if (part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo *info = (void *)CMSG_DATA(part);
			if (!IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr))
				info->ipi6_ifindex = 0;
		}
	}
}

/* Write the answer to a datagram into slot `slot` of the messages to send. Returns whether there is one to send. */
static int answer_one(pm_responder *responder, unsigned socket, unsigned from, unsigned slot, int64_t now)
{
	batch *batch = responder->batch;
	struct mmsghdr *message = &batch->in[from];
	const struct sockaddr_in *peer = message->msg_hdr.msg_name; /* the port has the same offset in sockaddr_in6 */
	pm_answer answer;

	if (message->msg_hdr.msg_flags & MSG_CTRUNC || peer->sin_port == 0) {
		count_up(responder, PM_COUNT_IGNORED, 1);
		return 0;
	}
	/* The message is longer than any query. As over TCP, only its header is parsed: FORMERR or NOTIMP. */
	if (message->msg_hdr.msg_flags & MSG_TRUNC)
		message->msg_len = PM_MESSAGE_HEADER;
	answer = pm_answer_query(responder->zones, batch->queries[from], message->msg_len, 1, batch->answers[slot],
				 sizeof(batch->answers[slot]), responder->turn++);
	if (answer.verdict == PM_ANSWER_HAND_OVER) {
		if (!pm_limiter_hand(responder->limiter, now, message->msg_hdr.msg_name)) {
			count_up(responder, PM_COUNT_LIMITED, 1);
			return 0;
		}
		use_any_interface(&message->msg_hdr);
		hand_over(responder, socket, message);
		return 0;
	}
	if (answer.verdict == PM_ANSWER_DROP) {
		count_up(responder, PM_COUNT_IGNORED, 1);
		return 0;
	}
	switch (pm_limiter_ask(responder->limiter, now, message->msg_hdr.msg_name, answer.key, message->msg_len,
			       answer.len)) {
	case PM_LIMIT_DROP:
		count_up(responder, PM_COUNT_LIMITED, 1);
		return 0;
	case PM_LIMIT_SLIP:
		pm_answer_truncate(&answer, batch->answers[slot]);
		count_up(responder, PM_COUNT_SLIPPED, 1);
		break;
	case PM_LIMIT_PASS:
		count_up(responder, PM_COUNT_TRUNCATED, answer.truncated);
	}
	count_up(responder, PM_COUNT_RCODE + answer.rcode, 1);
	use_any_interface(&message->msg_hdr);
	batch->out_data[slot].iov_len = answer.len;
	batch->out[slot].msg_hdr = message->msg_hdr;
	batch->out[slot].msg_hdr.msg_flags = 0;
	batch->out[slot].msg_hdr.msg_iov = &batch->out_data[slot];
	if (message->msg_hdr.msg_controllen == 0)
		batch->out[slot].msg_hdr.msg_control = NULL;
	return 1;
}

static void send_all(pm_responder *responder, int fd, unsigned count)
{
	for (unsigned done = 0; done < count;) {
		int sent = sendmmsg(fd, responder->batch->out + done, count - done, MSG_DONTWAIT);

		if (sent > 0) {
			done += (unsigned)sent;
		} else if (errno == EAGAIN || errno == ENOBUFS) {
			count_up(responder, PM_COUNT_UNSENT, count - done);
			return;
		} else if (errno != EINTR) { /* the error is about the first message: skip it */
			count_up(responder, PM_COUNT_UNSENT, 1);
			done++;
		}
	}
}

static void serve(pm_responder *responder, unsigned socket)
{
	batch *batch = responder->batch;
	int fd = responder->polled[socket].fd;

	for (int round = 0; round < ROUNDS; round++) {
		unsigned count = 0;
		int got;
		int64_t now;

		for (unsigned i = 0; i < BATCH; i++) {
			struct msghdr *head = &batch->in[i].msg_hdr;
			head->msg_namelen = sizeof(batch->peers[i]);
			head->msg_controllen = sizeof(batch->control[i]);
		}
		got = recvmmsg(fd, batch->in, BATCH, MSG_DONTWAIT, NULL);
		if (got <= 0)
			return;
		count_up(responder, PM_COUNT_QUERIES, (uint64_t)got);
		now = now_ns();
		pm_epoch_enter(&responder->zones->epoch, responder->reader);
		for (int i = 0; i < got; i++)
			count += (unsigned)answer_one(responder, socket, (unsigned)i, count, now);
		pm_epoch_exit(&responder->zones->epoch, responder->reader);
		send_all(responder, fd, count);
		if (got < BATCH)
			return;
	}
}

static void *run(void *argument)
{
	pm_responder *responder = argument;

	for (;;) {
		if (poll(responder->polled, responder->count + 1, -1) < 0)
			continue;
		if (responder->polled[responder->count].revents)
			return NULL;
		for (unsigned i = 0; i < responder->count; i++)
			if (responder->polled[i].revents)
				serve(responder, i);
	}
}

/* Request the destination address of datagrams, if the socket is bound to all addresses. Ignore path MTU messages,
 * which can be forged. */
static void set_options(int fd)
{
	const int on = 1, omit_4 = IP_PMTUDISC_OMIT, omit_6 = IPV6_PMTUDISC_OMIT, size = RECEIVE_BUFFER;
	struct sockaddr_storage bound = {0};
	socklen_t len = sizeof(bound);

	/* Not every kernel has these options, and the server works without them. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0)
		return;
	if (bound.ss_family == AF_INET6) {
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &omit_6, sizeof(omit_6));
		if (IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)(void *)&bound)->sin6_addr))
			(void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	} else {
		(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &omit_4, sizeof(omit_4));
		if (((struct sockaddr_in *)(void *)&bound)->sin_addr.s_addr == htonl(INADDR_ANY))
			(void)setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	}
}

static void prepare(batch *batch)
{
	for (unsigned i = 0; i < BATCH; i++) {
		struct msghdr *head = &batch->in[i].msg_hdr;

		batch->in_data[i] = (struct iovec){batch->queries[i], sizeof(batch->queries[i])};
		batch->out_data[i] = (struct iovec){batch->answers[i], 0};
		head->msg_name = &batch->peers[i];
		head->msg_iov = &batch->in_data[i];
		head->msg_iovlen = 1;
		head->msg_control = batch->control[i];
	}
}

static void free_responder(pm_responder *responder)
{
	for (unsigned i = 0; i < responder->count; i++)
		if (responder->polled[i].fd >= 0)
			close(responder->polled[i].fd);
	if (responder->stop >= 0)
		close(responder->stop);
	if (responder->event >= 0)
		close(responder->event);
	if (responder->reader >= 0)
		pm_epoch_leave(&responder->zones->epoch, responder->reader);
	while (responder->first) {
		pm_handed *next = responder->first->next;
		free(responder->first);
		responder->first = next;
	}
	pthread_mutex_destroy(&responder->lock);
	pm_limiter_free(responder->limiter);
	free(responder->batch);
	free(responder);
}

pm_responder *pm_responder_start(pm_zones *zones, const int *sockets, unsigned count, const pm_limits *limits)
{
	pm_responder *responder;
	sigset_t all, before;
	int error = 0;

	if (count > SOCKETS_MAX) {
		errno = EMFILE;
		return NULL;
	}
	responder = calloc(1, sizeof(*responder));
	if (responder == NULL)
		return NULL;
	responder->zones = zones;
	pthread_mutex_init(&responder->lock, NULL);
	responder->reader = pm_epoch_join(&zones->epoch);
	responder->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	responder->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	responder->limiter = pm_limiter_new(limits, zones->key);
	responder->batch = calloc(1, sizeof(*responder->batch));
	if (responder->reader < 0)
		error = EBUSY;
	else if (responder->stop < 0 || responder->event < 0)
		error = errno;
	else if (responder->limiter == NULL || responder->batch == NULL)
		error = ENOMEM;
	for (; error == 0 && responder->count < count; responder->count++) {
		int fd = fcntl(sockets[responder->count], F_DUPFD_CLOEXEC, 3);

		responder->polled[responder->count] = (struct pollfd){fd, POLLIN, 0};
		if (fd < 0)
			error = errno;
		else
			set_options(fd);
	}
	if (error == 0) {
		prepare(responder->batch);
		responder->polled[count] = (struct pollfd){responder->stop, POLLIN, 0};
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		error = pthread_create(&responder->thread, NULL, run, responder);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	if (error) {
		free_responder(responder);
		errno = error;
		return NULL;
	}
	pthread_setname_np(responder->thread, "pymon-dns");
	return responder;
}

void pm_responder_stop(pm_responder *responder)
{
	uint64_t one = 1;

	if (responder == NULL)
		return;
	while (write(responder->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(responder->thread, NULL);
	free_responder(responder);
}

int pm_responder_event(const pm_responder *responder)
{
	return responder->event;
}

pm_handed *pm_responder_take(pm_responder *responder)
{
	pm_handed *handed;
	uint64_t count;

	pthread_mutex_lock(&responder->lock);
	handed = responder->first;
	if (handed) {
		responder->first = handed->next;
		responder->waiting--;
	}
	if (responder->first == NULL) {
		responder->last = NULL;
		if (read(responder->event, &count, sizeof(count)) < 0) {
			/* cleared already */
		}
	}
	pthread_mutex_unlock(&responder->lock);
	return handed;
}

int pm_responder_reply(pm_responder *responder, const pm_origin *origin, const uint8_t *data, size_t len)
{
	struct iovec part = {(void *)(uintptr_t)data, len};
	struct msghdr head = {
		.msg_name = (void *)(uintptr_t)&origin->peer,
		.msg_namelen = origin->peer_len,
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = origin->control_len ? (void *)(uintptr_t)origin->control : NULL,
		.msg_controllen = origin->control_len,
	};

	return sendmsg(responder->polled[origin->socket].fd, &head, MSG_DONTWAIT) < 0 ? -1 : 0;
}

uint64_t pm_responder_counter(const pm_responder *responder, pm_count count)
{
	return atomic_load_explicit(&responder->counts[count], memory_order_relaxed);
}
