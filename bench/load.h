/* What is asked of a server, by whom, over which connections. */
#ifndef PYMON_BENCH_LOAD_H
#define PYMON_BENCH_LOAD_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEAD_MAX = 16384 };

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

extern struct load {
	struct sockaddr_in server;
	const char *server_name;
	bool with_tls;
	int epoll_fd;
	int64_t measure_from, measure_until; /* ns */
	bool started;			     /* all connections were made */
	int connecting;
	uint64_t error_count;
	char cipher[64], protocol[16];
} load;

int64_t now_ns(void);

/* Ends the program with status 1 and one line. */
_Noreturn void fail(const char *what, const char *why);

/* What OpenSSL says of the last failure. */
const char *tls_reason(void);

/* Memory that is zero; ends the program where there is none. */
void *allocate(size_t count, size_t size);

void open_connection(struct connection *c);

/* Whether what is due then is of the time that is measured. */
bool measured(int64_t when);

void ask(struct connection *c, int64_t intended);

void ask_together(struct squad *squad, int64_t now);

/* What epoll says of a connection. */
void happened(struct connection *c, uint32_t events);

#endif
