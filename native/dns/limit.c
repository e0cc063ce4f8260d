#include "limit.h"

#include <stdlib.h>
#include <string.h>

#include "name.h"

enum { WAYS = 4, SETS = 1 << 14, BURST_SECONDS = 2, SECOND_NS = 1000000000 };

/* Generic cell rate algorithm: the allowance is stored as the time at which it is full again. */
typedef struct {
	uint64_t tag;
	int64_t full_ns;
} allowance;

struct pm_limiter {
	pm_limits limits;
	uint64_t key[2];
	uint32_t refused;
	allowance table[SETS][WAYS];
};

pm_limiter *pm_limiter_new(const pm_limits *limits, const uint64_t key[2])
{
	pm_limiter *limiter = calloc(1, sizeof(*limiter));

	if (limiter == NULL)
		return NULL;
	limiter->limits = *limits;
	memcpy(limiter->key, key, sizeof(limiter->key));
	return limiter;
}

void pm_limiter_free(pm_limiter *limiter)
{
	free(limiter);
}

/* Write the prefix of a source: `of_ipv4` octets for IPv4, 7 for IPv6. Returns its length in octets. */
static size_t prefix(const struct sockaddr_storage *source, size_t of_ipv4, uint8_t out[8])
{
	static const uint8_t mapped[12] = {[10] = 0xff, 0xff};
	const uint8_t *address;

	if (source->ss_family == AF_INET) {
		memcpy(out, &((const struct sockaddr_in *)source)->sin_addr, of_ipv4);
		return of_ipv4;
	}
	address = ((const struct sockaddr_in6 *)source)->sin6_addr.s6_addr;
	if (memcmp(address, mapped, sizeof(mapped)) == 0) {
		memcpy(out, address + sizeof(mapped), of_ipv4);
		return of_ipv4;
	}
	memcpy(out, address, 7);
	return 7;
}

static int is_loopback(const struct sockaddr_storage *source, const uint8_t network[8], size_t len)
{
	if (len < 7)
		return network[0] == 127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)source)->sin6_addr);
}

/* Take `cost_ns` from the allowance of a tag. Returns 0 if the allowance is used up. */
static int spend(pm_limiter *limiter, uint64_t tag, int64_t now, int64_t cost_ns)
{
	allowance *set = limiter->table[tag % SETS], *found = &set[0];

	for (unsigned i = 0; i < WAYS; i++) {
		if (set[i].tag == tag) {
			found = &set[i];
			break;
		}
		if (set[i].full_ns < found->full_ns)
			found = &set[i];
	}
	if (found->tag != tag || found->full_ns < now)
		*found = (allowance){tag, now};
	if (found->full_ns - now > (int64_t)BURST_SECONDS * SECOND_NS)
		return 0;
	found->full_ns += cost_ns;
	return 1;
}

pm_limit pm_limiter_ask(pm_limiter *limiter, int64_t now_ns, const struct sockaddr_storage *source, uint64_t answer,
			size_t query_len, size_t answer_len)
{
	const pm_limits *limits = &limiter->limits;
	uint8_t network[8];
	size_t len = prefix(source, 3, network);
	uint64_t tag;
	int pass = 1;

	if (is_loopback(source, network, len))
		return PM_LIMIT_PASS;
	tag = pm_name_hash(network, len, limiter->key[0], limiter->key);
	if (limits->responses_per_second)
		pass = spend(limiter, pm_name_hash((const uint8_t *)&answer, sizeof(answer), tag, limiter->key), now_ns,
			     SECOND_NS / limits->responses_per_second);
	if (pass && limits->excess_bytes_per_second && answer_len > query_len)
		pass = spend(limiter, tag, now_ns,
			     (int64_t)(answer_len - query_len) * SECOND_NS / limits->excess_bytes_per_second);
	if (pass)
		return PM_LIMIT_PASS;
	return limits->slip && limiter->refused++ % limits->slip == 0 ? PM_LIMIT_SLIP : PM_LIMIT_DROP;
}

int pm_limiter_hand(pm_limiter *limiter, int64_t now_ns, const struct sockaddr_storage *source)
{
	uint32_t rate = limiter->limits.handed_per_second;
	uint8_t network[8];
	size_t len = prefix(source, 4, network);

	/* Hashed with another start value than in pm_limiter_ask, so the allowances are separate. */
	return rate == 0 ||
	       spend(limiter, pm_name_hash(network, len, ~limiter->key[0], limiter->key), now_ns, SECOND_NS / rate);
}
