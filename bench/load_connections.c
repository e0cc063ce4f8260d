/* The connections of the load: how they are made, asked and read. */
#define _GNU_SOURCE
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ERRORS_MAX = 100000 };

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

_Noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "load: %s: %s\n", what, why);
	exit(1);
}

const char *tls_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;

	return reason ? reason : "failed";
}

void *allocate(size_t count, size_t size)
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

	if (epoll_ctl(load.epoll_fd, operation, c->fd, &event) < 0)
		fail("epoll", strerror(errno));
}

void open_connection(struct connection *c)
{
	int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		fail("socket", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&load.server, sizeof(load.server)) < 0 && errno != EINPROGRESS)
		fail("connect", strerror(errno));
	if (load.with_tls) {
		c->ssl = SSL_new(c->account->tls);
		if (c->ssl == NULL || !SSL_set_fd(c->ssl, c->fd) ||
		    !SSL_set_tlsext_host_name(c->ssl, load.server_name) || !SSL_set1_host(c->ssl, load.server_name))
			fail("TLS", tls_reason());
		SSL_set_connect_state(c->ssl);
	}
	c->state = CONNECTING;
	load.connecting++;
	watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

bool measured(int64_t when)
{
	return load.started && when >= load.measure_from && when < load.measure_until;
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
	if (!load.started)
		fail("first connection", why);
	if (c->state == CONNECTING)
		load.connecting--;
	if (c->state == BUSY && measured(c->intended))
		c->account->errors++;
	if (++load.error_count > ERRORS_MAX)
		fail("too many errors, the last", why);
	reopen(c);
}

/* --- requests --------------------------------------------------------------------------------- */

/* Bytes moved; 0 nothing for now; -1 the connection ended or failed. */
static ssize_t moved(struct connection *c, ssize_t result)
{
	if (result > 0)
		return result;
	if (load.with_tls) {
		int error = SSL_get_error(c->ssl, (int)result);
		return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
	}
	return result < 0 && errno == EAGAIN ? 0 : -1;
}

static ssize_t receive(struct connection *c, char *buffer, size_t size)
{
	ERR_clear_error();
	return moved(c, load.with_tls ? SSL_read(c->ssl, buffer, (int)size) : recv(c->fd, buffer, size, 0));
}

static bool flush(struct connection *c)
{
	while (c->unsent_length > 0) {
		ERR_clear_error();
		ssize_t sent = moved(c, load.with_tls ? SSL_write(c->ssl, c->unsent, (int)c->unsent_length)
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

void ask(struct connection *c, int64_t intended)
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
void ask_together(struct squad *squad, int64_t now)
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
	if (account->rate > 0 || !load.started || now >= load.measure_until)
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
	if (load.with_tls) {
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
		if (load.cipher[0] == '\0') {
			snprintf(load.cipher, sizeof(load.cipher), "%s", SSL_get_cipher_name(c->ssl));
			snprintf(load.protocol, sizeof(load.protocol), "%s", SSL_get_version(c->ssl));
		}
	}
	load.connecting--;
	watch(c, EPOLL_CTL_MOD, EPOLLIN);
	free_for_next(c);
}

void happened(struct connection *c, uint32_t events)
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
