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
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DRAIN_SECONDS = 10 };

struct load load = {.server = {.sin_family = AF_INET}, .server_name = "localhost"};

/* --- the run ---------------------------------------------------------------------------------- */

static int64_t due_ns(const struct account *account)
{
	return load.measure_from + (int64_t)((double)account->due * 1e9 / account->rate);
}

/* Send what has fallen due; when the next falls due (INT64_MAX: none does, or all connections are busy). */
static int64_t send_due(struct account *account)
{
	while (account->idle_count > 0) {
		struct connection *c = account->idle[account->idle_first];
		int64_t due = due_ns(account);
		if (due >= load.measure_until)
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
	int count = epoll_pwait2(load.epoll_fd, events, sizeof(events) / sizeof(*events), &timeout, NULL);
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
	while (load.connecting > 0) {
		if (now_ns() > give_up)
			fail("connections", "not made in time");
		wait_until(give_up);
	}
	getrusage(RUSAGE_SELF, &before);
	load.started = true;
	load.measure_from = now_ns() + (int64_t)(warm_up * 1e9);
	load.measure_until = load.measure_from + (int64_t)(seconds * 1e9);
	give_up = load.measure_until + DRAIN_SECONDS * (int64_t)1000000000;
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
		int64_t next = now_ns() < load.measure_until ? load.measure_until : give_up;
		for (int i = 0; i < account_count; i++) {
			int64_t due = accounts[i].rate > 0 ? send_due(&accounts[i]) : INT64_MAX;
			next = due < next ? due : next;
		}
		wait_until(next);
		busy = now_ns() < load.measure_until;
		for (int i = 0; i < count && !busy; i++)
			busy = all[i].state == BUSY;
		for (int i = 0; i < account_count && !busy; i++)
			busy = accounts[i].rate > 0 && due_ns(&accounts[i]) < load.measure_until;
	}
	getrusage(RUSAGE_SELF, &after);
	for (int i = 0; i < count; i++)
		if (all[i].state == BUSY && measured(all[i].intended))
			all[i].account->unfinished++;
	for (int i = 0; i < account_count; i++)
		for (; accounts[i].rate > 0 && due_ns(&accounts[i]) < load.measure_until; accounts[i].due++)
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
	if (load.with_tls)
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

	load.server.sin_port = htons(443);
	load.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while ((option = getopt(argc, argv, "a:C:n:c:d:w:t:")) != -1) {
		char *port;
		switch (option) {
		case 'a':
			port = strchr(optarg, ':');
			if (port == NULL)
				fail(optarg, "expected ADDRESS:PORT");
			*port++ = '\0';
			load.server.sin_port = htons((uint16_t)atoi(port));
			if (inet_pton(AF_INET, optarg, &load.server.sin_addr) != 1)
				fail(optarg, "expected an IPv4 address");
			break;
		case 'C':
			authority = optarg;
			break;
		case 'n':
			load.server_name = optarg;
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
	load.with_tls = authority != NULL;
	prctl(PR_SET_TIMERSLACK, 1);
	load.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
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
	       seconds, load.error_count, load.protocol, load.cipher, cpu / (seconds + warm_up));
	for (int i = 0; i < account_count; i++) {
		printf("%s", i > 0 ? ", " : "");
		say(&accounts[i], seconds);
	}
	printf("}}\n");
	return 0;
}
