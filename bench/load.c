/* Load on an HTTP/1.1 server: kept connections, with mutual TLS or without, one thread.
 *
 * load [FLAG ...] TARGETS ACCOUNT [ACCOUNT ...]
 *
 * TARGETS   file of lines `HOST PATH [INDEX]`: what the account of that index (from 0, the default) asks for. Each
 *           connection walks through the list of its account over and over, from a place of its own.
 * ACCOUNT   NAME:CONNECTIONS:RATE:CERTIFICATE:KEY, the last two PEM files of the client, empty without -C.
 *           RATE 0: every connection asks again as soon as it has its answer. Otherwise requests fall due at RATE a
 *           second over all connections of the account, wait for a free one where there is none, and their latency
 *           counts from the moment that they fell due.
 * -a ADDR   IPv4 address and port of the server, 127.0.0.1:443
 * -C FILE   TLS 1.3, and the authority of the server's certificate; without it plain HTTP
 * -n NAME   name that the server's certificate is verified for and that is sent as SNI
 * -c SUITE  the cipher suite that is offered, TLS_AES_128_GCM_SHA256
 * -d S      seconds that are measured, 5
 * -w S      seconds of the same load before, 1
 * -t N      squads: N connections walk together, and ask for the next target when all have their answer; RATE 0
 *
 * One JSON object on standard output. `answers` are all, the rest is of requests in the time measured. Latencies are
 * those of answers with status 200, in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, DRAIN_SECONDS = 10, ERRORS_MAX = 100000 };

struct account {
	char *name;
	int connections;
	double rate; /* requests a second over all connections; 0: as many as go */
	SSL_CTX *tls;
	char **requests; /* whole requests, ready to send */
	size_t request_count;
	struct connection **idle; /* a ring, the one that waits longest first; only with a rate */
	int idle_first, idle_count;
	int64_t due; /* number of the next request that falls due */
	uint64_t statuses[600], answers, done, errors, unfinished, bytes;
	int64_t *latencies; /* ns */
	size_t latency_count, latency_room;
};

struct squad {
	struct connection *members;
	int size, waiting;
	size_t at; /* place in the list of targets */
};

struct connection {
	struct account *account;
	struct squad *squad;
	int fd;
	SSL *ssl;
	enum { CONNECTING, IDLE, BUSY } state;
	size_t at;	  /* place in the list of targets */
	int64_t intended; /* when the request was to be sent, ns */
	const char *unsent;
	size_t unsent_length;
	char head[HEAD_MAX + 1];
	size_t head_length; /* bytes of the head so far */
	bool in_body, chunked, closes;
	int status;
	int64_t body_left; /* bytes of the body, or of the chunk and its CRLF */
	char chunk[32];	   /* the line of a chunk's size so far */
	size_t chunk_length;
	bool last_chunk;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static const char *server_name = "localhost";
static bool with_tls;
static int epoll_fd;
static int64_t measure_from, measure_until; /* ns */
static bool started;			    /* all connections were made */
static int connecting;
static uint64_t error_count;
static char cipher[64], protocol[16];

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "load: %s: %s\n", what, why);
	exit(1);
}

static const char *tls_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return reason ? reason : "failed";
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count ? count : 1, size);

	if (memory == NULL)
		fail("memory", strerror(errno));
	return memory;
}

/* --- connections ------------------------------------------------------------------------------ */

static void watch(struct connection *c, int operation, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (epoll_ctl(epoll_fd, operation, c->fd, &event) < 0)
		fail("epoll", strerror(errno));
}

static void open_connection(struct connection *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS)
		fail("connect", strerror(errno));
	if (with_tls) {
		c->ssl = SSL_new(c->account->tls);
		if (c->ssl == NULL || !SSL_set_fd(c->ssl, c->fd) || !SSL_set_tlsext_host_name(c->ssl, server_name) ||
		    !SSL_set1_host(c->ssl, server_name))
			fail("TLS", tls_reason());
		SSL_set_connect_state(c->ssl);
	}
	c->state = CONNECTING;
	connecting++;
	watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static bool measured(int64_t when)
{
	return started && when >= measure_from && when < measure_until;
}

static void reopen(struct connection *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
	close(c->fd);
	open_connection(c);
}

/* The connection is of no more use: what it was doing counts as an error. */
static void broken(struct connection *c, const char *why)
{
	if (!started)
		fail("first connection", why);
	if (c->state == CONNECTING)
		connecting--;
	if (c->state == BUSY && measured(c->intended))
		c->account->errors++;
	if (++error_count > ERRORS_MAX)
		fail("too many errors, the last", why);
	reopen(c);
}

/* --- requests --------------------------------------------------------------------------------- */

/* Bytes moved; 0 nothing for now; -1 the connection ended or failed. */
static ssize_t moved(struct connection *c, ssize_t result)
{
	if (result > 0)
		return result;
	if (with_tls) {
		int error = SSL_get_error(c->ssl, (int)result);
		return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
	}
	return result < 0 && errno == EAGAIN ? 0 : -1;
}

static ssize_t receive(struct connection *c, char *buffer, size_t size)
{
	ERR_clear_error();
	return moved(c, with_tls ? SSL_read(c->ssl, buffer, (int)size) : recv(c->fd, buffer, size, 0));
}

static bool flush(struct connection *c)
{
	while (c->unsent_length > 0) {
		ERR_clear_error();
		ssize_t sent = moved(c, with_tls ? SSL_write(c->ssl, c->unsent, (int)c->unsent_length)
						 : send(c->fd, c->unsent, c->unsent_length, MSG_NOSIGNAL));
		if (sent < 0)
			return false;
		if (sent == 0) {
			watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
			return true;
		}
		c->unsent += sent;
		c->unsent_length -= (size_t)sent;
	}
	return true;
}

static void ask(struct connection *c, int64_t intended)
{
	struct account *account = c->account;

	c->state = BUSY;
	c->intended = intended;
	c->unsent = account->requests[c->at];
	c->unsent_length = strlen(c->unsent);
	c->at = (c->at + 1) % account->request_count;
	c->head_length = 0;
	c->in_body = c->chunked = c->closes = c->last_chunk = false;
	c->chunk_length = 0;
	if (!flush(c))
		broken(c, "could not send");
}

/* All have their answer: the next target for all. */
static void ask_together(struct squad *squad, int64_t now)
{
	size_t at = squad->at;

	squad->waiting = 0;
	squad->at = (at + 1) % squad->members->account->request_count;
	for (int i = 0; i < squad->size; i++) {
		squad->members[i].at = at;
		ask(&squad->members[i], now);
	}
}

/* A connection has nothing to do: it asks again at once, with its squad, or when a request falls due. */
static void free_for_next(struct connection *c)
{
	struct account *account = c->account;
	int64_t now = now_ns();

	c->state = IDLE;
	if (account->rate > 0)
		account->idle[(account->idle_first + account->idle_count++) % account->connections] = c;
	else if (c->squad != NULL)
		c->squad->waiting++;
	if (account->rate > 0 || !started || now >= measure_until)
		return;
	if (c->squad == NULL)
		ask(c, now);
	else if (c->squad->waiting == c->squad->size)
		ask_together(c->squad, now);
}

static void note(struct account *account, int64_t latency)
{
	if (account->latency_count == account->latency_room) {
		account->latency_room = account->latency_room ? 2 * account->latency_room : 65536;
		account->latencies = realloc(account->latencies, account->latency_room * sizeof(int64_t));
		if (account->latencies == NULL)
			fail("memory", strerror(errno));
	}
	account->latencies[account->latency_count++] = latency;
}

static void answered(struct connection *c)
{
	struct account *account = c->account;
	int64_t now = now_ns();
	bool counts = account->rate > 0 ? measured(c->intended) : measured(now);

	account->answers++;
	if (counts) {
		account->done++;
		account->statuses[c->status]++;
		if (c->status == 200)
			note(account, now - c->intended);
	}
	if (c->closes)
		reopen(c);
	else
		free_for_next(c);
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Read status line and fields of the head; false: not HTTP/1.1 as servers here speak it. */
static bool parse_head(struct connection *c)
{
	char *line = strstr(c->head, "\r\n");

	if (sscanf(c->head, "HTTP/1.1 %3d", &c->status) != 1 || c->status < 200 || c->status > 599)
		return false;
	c->body_left = c->status == 204 || c->status == 304 ? 0 : -1;
	for (line += 2; *line != '\r'; line = strstr(line, "\r\n") + 2) {
		if (strncasecmp(line, "Content-Length:", 15) == 0)
			c->body_left = strtoll(line + 15, NULL, 10);
		else if (strncasecmp(line, "Transfer-Encoding: chunked", 26) == 0)
			c->chunked = true;
		else if (strncasecmp(line, "Connection: close", 17) == 0)
			c->closes = true;
	}
	if (c->chunked)
		c->body_left = 0;
	c->in_body = true;
	return c->body_left >= 0;
}

/* Take bytes of a chunked body; what is left of them. A chunk's CRLF is counted with it, and there are no trailers. */
static size_t take_chunked(struct connection *c, const char *data, size_t length, bool *done)
{
	while (length > 0 && !*done) {
		if (c->body_left > 0) {
			size_t part = (size_t)c->body_left < length ? (size_t)c->body_left : length;
			data += part;
			length -= part;
			c->body_left -= (int64_t)part;
			*done = c->body_left == 0 && c->last_chunk;
			continue;
		}
		if (c->chunk_length + 1 >= sizeof(c->chunk))
			fail("answer", "the line of a chunk is too long");
		c->chunk[c->chunk_length++] = *data;
		data++;
		length--;
		if (data[-1] == '\n') {
			c->chunk[c->chunk_length] = '\0';
			c->chunk_length = 0;
			c->body_left = strtoll(c->chunk, NULL, 16);
			c->last_chunk = c->body_left == 0;
			c->body_left += 2;
		}
	}
	return length;
}

/* Take bytes of an answer; false: it is wrong. */
static bool take(struct connection *c, const char *data, size_t length)
{
	bool done = false;

	if (c->state != BUSY)
		return false;
	if (measured(c->intended))
		c->account->bytes += length;
	if (!c->in_body) {
		size_t before = c->head_length, room = HEAD_MAX - c->head_length, part = length < room ? length : room;
		char *end;

		memcpy(c->head + c->head_length, data, part);
		c->head_length += part;
		c->head[c->head_length] = '\0';
		end = strstr(c->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
		if (end == NULL)
			return part == length;
		size_t head_bytes = (size_t)(end + 4 - c->head);
		if (!parse_head(c))
			return false;
		data += head_bytes - before;
		length -= head_bytes - before;
		done = !c->chunked && c->body_left == 0;
	}
	if (c->chunked) {
		length = take_chunked(c, data, length, &done);
	} else if (!done) {
		size_t part = (size_t)c->body_left < length ? (size_t)c->body_left : length;
		c->body_left -= (int64_t)part;
		length -= part;
		done = c->body_left == 0;
	}
	if (done && length == 0)
		answered(c);
	return length == 0;
}

static void handshake(struct connection *c)
{
	if (with_tls) {
		ERR_clear_error();
		int result = SSL_do_handshake(c->ssl);
		if (result != 1) {
			int error = SSL_get_error(c->ssl, result);
			if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
				broken(c, tls_reason());
			else if (error == SSL_ERROR_WANT_READ)
				watch(c, EPOLL_CTL_MOD, EPOLLIN);
			return;
		}
		if (cipher[0] == '\0') {
			snprintf(cipher, sizeof(cipher), "%s", SSL_get_cipher_name(c->ssl));
			snprintf(protocol, sizeof(protocol), "%s", SSL_get_version(c->ssl));
		}
	}
	connecting--;
	watch(c, EPOLL_CTL_MOD, EPOLLIN);
	free_for_next(c);
}

static void happened(struct connection *c, uint32_t events)
{
	static char buffer[65536];

	if (c->state == CONNECTING) {
		if (events & (EPOLLERR | EPOLLHUP))
			broken(c, "connection refused or reset");
		else
			handshake(c);
		return;
	}
	if (events & EPOLLOUT) {
		watch(c, EPOLL_CTL_MOD, EPOLLIN);
		if (!flush(c)) {
			broken(c, "could not send");
			return;
		}
	}
	do {
		ssize_t got = receive(c, buffer, sizeof(buffer));
		if (got == 0)
			return;
		if (got < 0 || !take(c, buffer, (size_t)got)) {
			broken(c, got < 0 ? "closed by the server" : "not the answer to a request");
			return;
		}
	} while (c->ssl != NULL && SSL_has_pending(c->ssl));
}

/* --- the run ---------------------------------------------------------------------------------- */

static int64_t due_ns(const struct account *account)
{
	return measure_from + (int64_t)((double)account->due * 1e9 / account->rate);
}

/* Send what has fallen due; when the next falls due (INT64_MAX: none does, or all connections are busy). */
static int64_t send_due(struct account *account)
{
	while (account->idle_count > 0) {
		struct connection *c = account->idle[account->idle_first];
		int64_t due = due_ns(account);
		if (due >= measure_until)
			return INT64_MAX;
		if (due > now_ns())
			return due;
		account->idle_first = (account->idle_first + 1) % account->connections;
		account->idle_count--;
		account->due++;
		ask(c, due);
	}
	return INT64_MAX;
}

static void wait_until(int64_t until)
{
	struct epoll_event events[256];
	int64_t left = until - now_ns();
	struct timespec timeout = {0};

	if (left > 0) {
		timeout.tv_sec = left / 1000000000;
		timeout.tv_nsec = left % 1000000000;
	}
	int count = epoll_pwait2(epoll_fd, events, sizeof(events) / sizeof(*events), &timeout, NULL);
	if (count < 0 && errno != EINTR)
		fail("epoll", strerror(errno));
	for (int i = 0; i < count; i++)
		happened(events[i].data.ptr, events[i].events);
}

/* Make all connections, run, and wait for the answers that are still to come. Seconds of CPU that the run took. */
static double run(struct account *accounts, int account_count, struct connection *all, int count, double warm_up,
		  double seconds)
{
	int64_t give_up = now_ns() + DRAIN_SECONDS * (int64_t)1000000000;
	struct rusage before, after;
	int busy = 1;

	for (int i = 0; i < count; i++)
		open_connection(&all[i]);
	while (connecting > 0) {
		if (now_ns() > give_up)
			fail("connections", "not made in time");
		wait_until(give_up);
	}
	getrusage(RUSAGE_SELF, &before);
	started = true;
	measure_from = now_ns() + (int64_t)(warm_up * 1e9);
	measure_until = measure_from + (int64_t)(seconds * 1e9);
	give_up = measure_until + DRAIN_SECONDS * (int64_t)1000000000;
	for (int i = 0; i < count; i++) {
		struct connection *c = &all[i];
		if (c->account->rate > 0)
			c->account->due = -(int64_t)(warm_up * c->account->rate);
		else if (c->squad == NULL)
			ask(c, now_ns());
		else if (c == c->squad->members)
			ask_together(c->squad, now_ns());
	}
	while (busy > 0 && now_ns() < give_up) {
		int64_t next = now_ns() < measure_until ? measure_until : give_up;
		for (int i = 0; i < account_count; i++) {
			int64_t due = accounts[i].rate > 0 ? send_due(&accounts[i]) : INT64_MAX;
			next = due < next ? due : next;
		}
		wait_until(next);
		busy = now_ns() < measure_until;
		for (int i = 0; i < count && !busy; i++)
			busy = all[i].state == BUSY;
		for (int i = 0; i < account_count && !busy; i++)
			busy = accounts[i].rate > 0 && due_ns(&accounts[i]) < measure_until;
	}
	getrusage(RUSAGE_SELF, &after);
	for (int i = 0; i < count; i++)
		if (all[i].state == BUSY && measured(all[i].intended))
			all[i].account->unfinished++;
	for (int i = 0; i < account_count; i++)
		for (; accounts[i].rate > 0 && due_ns(&accounts[i]) < measure_until; accounts[i].due++)
			accounts[i].unfinished++;
	return (double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec -
			before.ru_stime.tv_sec) +
	       (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
			before.ru_stime.tv_usec) /
		       1e6;
}

/* --- what was asked for, what is said --------------------------------------------------------- */

static SSL_CTX *client_context(const char *authority, const char *suite, const char *certificate, const char *key)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(context, suite) || !SSL_CTX_load_verify_locations(context, authority, NULL))
		fail(authority, tls_reason());
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		fail(certificate, tls_reason());
	if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
		fail(key, tls_reason());
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_read_ahead(context, 1);
	return context;
}

static void read_account(struct account *account, char *text, const char *authority, const char *suite)
{
	char *fields[5];

	for (int i = 0; i < 5; i++)
		if ((fields[i] = strsep(&text, ":")) == NULL)
			fail("account", "expected NAME:CONNECTIONS:RATE:CERTIFICATE:KEY");
	account->name = fields[0];
	account->connections = atoi(fields[1]);
	account->rate = atof(fields[2]);
	if (account->connections < 1)
		fail(account->name, "expected at least one connection");
	account->idle = allocate((size_t)account->connections, sizeof(*account->idle));
	if (with_tls)
		account->tls = client_context(authority, suite, fields[3], fields[4]);
}

static void read_targets(const char *path, struct account *accounts, int account_count)
{
	FILE *file = fopen(path, "r");
	char line[1024], host[512], target[512];

	if (file == NULL)
		fail(path, strerror(errno));
	while (fgets(line, sizeof(line), file) != NULL) {
		int index = 0;
		if (sscanf(line, "%511s %511s %d", host, target, &index) < 2 || index < 0 || index >= account_count)
			fail(line, "expected HOST PATH [INDEX]");
		struct account *account = &accounts[index];
		if ((account->request_count & (account->request_count - 1)) == 0) {
			size_t room = account->request_count ? 2 * account->request_count : 1;
			account->requests = realloc(account->requests, room * sizeof(char *));
			if (account->requests == NULL)
				fail("memory", strerror(errno));
		}
		if (asprintf(&account->requests[account->request_count++],
			     "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: "
			     "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
			     "\r\nAccept-Encoding: identity\r\n\r\n",
			     target, host) < 0)
			fail("memory", strerror(errno));
	}
	fclose(file);
	for (int i = 0; i < account_count; i++)
		if (accounts[i].request_count == 0)
			fail(accounts[i].name, "no targets");
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static double quantile_us(const struct account *account, double q)
{
	if (account->latency_count == 0)
		return 0;
	return (double)account->latencies[(size_t)(q * (double)(account->latency_count - 1) + 0.5)] / 1e3;
}

static void say(struct account *account, double seconds)
{
	const char *comma = "";

	qsort(account->latencies, account->latency_count, sizeof(int64_t), by_size);
	printf("\"%s\": {\"answers\": %lu, \"requests\": %lu, \"errors\": %lu, \"unfinished\": %lu, \"bytes\": %lu, "
	       "\"statuses\": {",
	       account->name, account->answers, account->done, account->errors, account->unfinished, account->bytes);
	for (int status = 0; status < 600; status++)
		if (account->statuses[status] > 0) {
			printf("%s\"%d\": %lu", comma, status, account->statuses[status]);
			comma = ", ";
		}
	printf("}, \"requests_per_second\": %.1f, \"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": "
	       "%.1f}",
	       (double)account->done / seconds, quantile_us(account, 0.5), quantile_us(account, 0.9),
	       quantile_us(account, 0.99), quantile_us(account, 1));
}

int main(int argc, char **argv)
{
	const char *authority = NULL, *suite = "TLS_AES_128_GCM_SHA256";
	double seconds = 5, warm_up = 1;
	int squad_size = 1, count = 0, option;

	server.sin_port = htons(443);
	server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((option = getopt(argc, argv, "a:C:n:c:d:w:t:")) != -1) {
		char *port;
		switch (option) {
		case 'a':
			port = strchr(optarg, ':');
			if (port == NULL)
				fail(optarg, "expected ADDRESS:PORT");
			*port++ = '\0';
			server.sin_port = htons((uint16_t)atoi(port));
			if (inet_pton(AF_INET, optarg, &server.sin_addr) != 1)
				fail(optarg, "expected an IPv4 address");
			break;
		case 'C':
			authority = optarg;
			break;
		case 'n':
			server_name = optarg;
			break;
		case 'c':
			suite = optarg;
			break;
		case 'd':
			seconds = atof(optarg);
			break;
		case 'w':
			warm_up = atof(optarg);
			break;
		case 't':
			squad_size = atoi(optarg);
			break;
		default:
			return 2;
		}
	}
	int account_count = argc - optind - 1;
	if (account_count < 1 || seconds <= 0 || warm_up < 0 || squad_size < 1)
		fail("usage", "load [FLAG ...] TARGETS ACCOUNT [ACCOUNT ...]");
	with_tls = authority != NULL;
	prctl(PR_SET_TIMERSLACK, 1);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct account *accounts = allocate((size_t)account_count, sizeof(*accounts));
	for (int i = 0; i < account_count; i++) {
		read_account(&accounts[i], argv[optind + 1 + i], authority, suite);
		if (squad_size > 1 && (accounts[i].rate > 0 || accounts[i].connections % squad_size != 0))
			fail(accounts[i].name, "squads have no rate, and all the same number of connections");
		count += accounts[i].connections;
	}
	read_targets(argv[optind], accounts, account_count);
	struct connection *all = allocate((size_t)count, sizeof(*all)), *c = all;
	for (int i = 0; i < account_count; i++) {
		int walkers = accounts[i].connections / squad_size;
		for (int j = 0; j < accounts[i].connections; j++, c++) {
			c->account = &accounts[i];
			c->at = accounts[i].request_count * (size_t)(j / squad_size) / (size_t)walkers;
			if (squad_size > 1 && j % squad_size == 0) {
				c->squad = allocate(1, sizeof(*c->squad));
				*c->squad = (struct squad){.members = c, .size = squad_size, .at = c->at};
			} else if (squad_size > 1) {
				c->squad = c[-1].squad;
			}
		}
	}
	double cpu = run(accounts, account_count, all, count, warm_up, seconds);
	printf("{\"seconds\": %g, \"connections_lost\": %lu, \"protocol\": \"%s\", \"cipher\": \"%s\", \"load_cpu\": "
	       "%.3f, "
	       "\"accounts\": {",
	       seconds, error_count, protocol, cipher, cpu / (seconds + warm_up));
	for (int i = 0; i < account_count; i++) {
		printf("%s", i > 0 ? ", " : "");
		say(&accounts[i], seconds);
	}
	printf("}}\n");
	return 0;
}
