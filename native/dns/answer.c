#include "answer.h"

#include "rdata.h"
#include "wire.h"

enum {
	HEADER = PM_MESSAGE_HEADER,
	OPT_LEN = 11,
	CHAIN_MAX = 16,
	CLASS_IN = 1,
	OPCODE_QUERY = 0,
	OPCODE_NOTIFY = 4,
	OPCODE_UPDATE = 5,
	FLAG_QR = 0x80,
	FLAG_AA = 0x04,
	FLAG_TC = 0x02,
	FLAG_RD = 0x01,
	POINTER = 0xc000,
	DO = 0x80,
};

typedef struct {
	pm_name name;
	uint64_t hashes[PM_LABELS_MAX + 1];
} hashed_name;

typedef struct {
	const pm_zones *zones;
	const pm_zone *zone;
	hashed_name question;
	uint16_t type, payload;
	uint8_t edns, version, dnssec_ok;
	uint8_t signature, hand_over;
	uint32_t turn;
	uint8_t *out;
	size_t len, limit; /* octets written and the most that may be; room for OPT is set aside */
	int full;
	uint16_t answers, authorities;
} query_state;

static uint8_t *reserve(query_state *state, size_t len)
{
	uint8_t *place = state->out + state->len;

	if (state->full || state->limit - state->len < len) {
		state->full = 1;
		return NULL;
	}
	state->len += len;
	return place;
}

/* Return a compression pointer to the longest suffix that a name shares with the question, 0 if they share only the
 * root. *own: octets of the name before that suffix. */
static uint32_t shared_suffix(const query_state *state, const pm_name *name, size_t *own)
{
	const pm_name *question = &state->question.name;

	for (unsigned label = 0; label < name->labels; label++) {
		size_t left = (size_t)name->len - name->at[label], from = (size_t)question->len - left;

		if (left <= question->len && memcmp(name->wire + name->at[label], question->wire + from, left) == 0 &&
		    pm_name_begins(question, from)) {
			*own = name->at[label];
			return POINTER | (uint32_t)(HEADER + from);
		}
	}
	*own = name->len;
	return 0;
}

/* Write a name, compressed against the question. Returns the number of octets. */
static size_t compress(const query_state *state, const pm_name *name, uint8_t out[PM_NAME_MAX])
{
	size_t own;
	uint32_t pointer = shared_suffix(state, name, &own);

	memcpy(out, name->wire, own);
	if (pointer == 0)
		return own;
	pm_put16(out + own, pointer);
	return own + 2;
}

static uint8_t *put_head(uint8_t *out, uint32_t owner, uint32_t type, uint32_t ttl, size_t len)
{
	pm_put16(out, owner);
	pm_put16(out + 2, type);
	pm_put16(out + 4, CLASS_IN);
	pm_put32(out + 6, ttl);
	pm_put16(out + 10, (uint32_t)len);
	return out + PM_RR_HEAD;
}

static void put_soa(query_state *state, const pm_soa *soa, uint32_t ttl)
{
	uint8_t primary[PM_NAME_MAX], mailbox[PM_NAME_MAX], *out;
	size_t primary_len = compress(state, &soa->primary, primary);
	size_t mailbox_len = compress(state, &soa->mailbox, mailbox);
	size_t len = primary_len + mailbox_len + sizeof(soa->numbers);

	out = reserve(state, PM_RR_HEAD + len);
	if (out == NULL)
		return;
	out = put_head(out, POINTER | (uint32_t)(HEADER + state->question.name.len - state->zone->name.len),
		       PM_TYPE_SOA, ttl, len);
	memcpy(out, primary, primary_len);
	memcpy(out + primary_len, mailbox, mailbox_len);
	memcpy(out + primary_len + mailbox_len, soa->numbers, sizeof(soa->numbers));
}

static void put_negative(query_state *state, const pm_soa *soa)
{
	put_soa(state, soa, soa->negative_ttl);
	state->authorities += !state->full;
}

static const pm_rrset *find_set(const pm_records *records, uint16_t type)
{
	for (uint32_t i = 0; i < records->sets; i++)
		if (records->set[i].type == type)
			return &records->set[i];
	return NULL;
}

/* Add a record set to the answer section. `owner`: compression pointer to the owner name. Address records, which all
 * have the same length, are rotated. */
static void put_set(query_state *state, const pm_records *records, const pm_rrset *set, uint32_t owner)
{
	const uint8_t *wire = pm_records_wire(records) + set->offset;
	uint8_t *out = set->count > UINT16_MAX ? NULL : reserve(state, set->len);

	if (out == NULL) {
		state->full = 1;
		return;
	}
	if (set->count > 1 && (set->type == PM_TYPE_A || set->type == PM_TYPE_AAAA)) {
		size_t first = state->turn % set->count * (size_t)(set->len / set->count);
		memcpy(out, wire + first, set->len - first);
		memcpy(out + set->len - first, wire, first);
	} else {
		memcpy(out, wire, set->len);
	}
	state->answers += (uint16_t)set->count;
	if (owner == (POINTER | HEADER))
		return;
	for (uint8_t *record = out; record < out + set->len; record += PM_RR_HEAD + pm_get16(record + 10))
		pm_put16(record, owner);
}

/* Add a CNAME record to the answer section and set *target. Returns a compression pointer to the target's name in the
 * message, 0 if there is no room. */
static uint32_t put_alias(query_state *state, const pm_records *records, const pm_rrset *set, uint32_t owner,
			  pm_name *target)
{
	const uint8_t *wire = pm_records_wire(records) + set->offset;
	uint8_t name[PM_NAME_MAX], *out;
	size_t own, len;
	uint32_t pointer;

	if (pm_name_read(target, wire + PM_RR_HEAD, pm_get16(wire + 10)) < 0)
		return 0;
	len = compress(state, target, name);
	out = reserve(state, PM_RR_HEAD + len);
	if (out == NULL)
		return 0;
	memcpy(put_head(out, owner, PM_TYPE_CNAME, set->ttl, len), name, len);
	state->answers++;
	pointer = shared_suffix(state, target, &own);
	return own == 0 ? pointer : POINTER | (uint32_t)(out + PM_RR_HEAD - state->out);
}

/* Write the answer from the zone. CNAMEs are followed within the zone, at most CHAIN_MAX times. */
static pm_rcode look_up(query_state *state)
{
	const pm_soa *soa = atomic_load_explicit(&state->zone->soa, memory_order_acquire);
	const hashed_name *name = &state->question;
	uint32_t owner = POINTER | HEADER;
	hashed_name target;

	if (soa == NULL)
		return PM_RCODE_SERVFAIL;
	for (int step = 0; step < CHAIN_MAX; step++) {
		const pm_node *node = pm_zone_find(state->zone, &name->name, name->hashes);
		const pm_records *records = node ? atomic_load_explicit(&node->records, memory_order_acquire) : NULL;
		const pm_rrset *set = NULL;

		if (node == state->zone->apex && (state->type == PM_TYPE_SOA || state->type == PM_TYPE_ANY)) {
			put_soa(state, soa, soa->ttl);
			state->answers += !state->full;
			return PM_RCODE_NOERROR;
		}
		if (records == NULL) {
			int empty = node && (node->parent == NULL || atomic_load(&node->children) > 0);
			put_negative(state, soa);
			return empty ? PM_RCODE_NOERROR : PM_RCODE_NXDOMAIN;
		}
		/* RFC 8482: ANY is answered with one record set. */
		set = state->type == PM_TYPE_ANY ? records->set : find_set(records, state->type);
		if (set && (state->type != PM_TYPE_ANY || set->type != PM_TYPE_CNAME)) {
			put_set(state, records, set, owner);
			return PM_RCODE_NOERROR;
		}
		/* RFC 4034 §2.5: RRSIG and NSEC may exist beside a CNAME, so a query for them does not follow it. */
		set = state->type == PM_TYPE_RRSIG || state->type == PM_TYPE_NSEC ? NULL
										  : find_set(records, PM_TYPE_CNAME);
		if (set == NULL) {
			put_negative(state, soa);
			return PM_RCODE_NOERROR;
		}
		owner = put_alias(state, records, set, owner, &target.name);
		if (owner == 0 || state->type == PM_TYPE_CNAME || state->type == PM_TYPE_ANY ||
		    !pm_zone_has(state->zone, &target.name))
			return PM_RCODE_NOERROR;
		pm_name_hashes(&target.name, state->zones->key, target.hashes);
		name = &target;
	}
	return PM_RCODE_NOERROR;
}

/* Parse the records after the question. Returns -1 if they are malformed. */
static int read_records(query_state *state, const uint8_t *query, size_t len, size_t at)
{
	uint32_t before = pm_get16(query + 6) + pm_get16(query + 8), count = before + pm_get16(query + 10);
	int opcode = query[2] >> 3 & 15;

	if (before && opcode == OPCODE_QUERY && !state->hand_over)
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		size_t name = at, rdata;
		uint32_t type;

		while (at < len && query[at] && query[at] <= PM_LABEL_MAX)
			at += 1u + query[at];
		if (at >= len || (query[at] && (query[at] & 0xc0) != 0xc0))
			return -1;
		at += query[at] ? 2 : 1;
		if (at + 10 > len)
			return -1;
		type = pm_get16(query + at);
		rdata = pm_get16(query + at + 8);
		if (at + 10 + rdata > len)
			return -1;
		if (type == PM_TYPE_TSIG) {
			if (i + 1 != count || i < before)
				return -1;
			state->signature = 1;
		} else if (type == PM_TYPE_OPT) {
			const uint8_t *option = query + at + 10, *end = option + rdata;

			if (query[name] || i < before || state->edns)
				return -1;
			for (; option < end; option += 4 + pm_get16(option + 2))
				if (end - option < 4 || (size_t)(end - option) < 4 + pm_get16(option + 2))
					return -1;
			state->edns = 1;
			state->payload = (uint16_t)pm_get16(query + at + 2);
			state->version = query[at + 5];
			state->dnssec_ok = query[at + 6] & DO;
		}
		at += 10 + rdata;
	}
	return at == len ? 0 : -1;
}

static pm_answer finish(query_state *state, const uint8_t *query, pm_rcode rcode, size_t question, uint64_t key)
{
	uint8_t *out = state->out;
	int authoritative = rcode == PM_RCODE_NXDOMAIN || (rcode == PM_RCODE_NOERROR && state->zone);
	pm_answer answer = {.verdict = PM_ANSWER_SEND,
			    .rcode = rcode,
			    .key = key,
			    .len = HEADER + question,
			    .question_len = (uint16_t)question,
			    .edns = state->edns};

	memset(out + 2, 0, HEADER - 2);
	memcpy(out, query, 2);
	out[2] = (uint8_t)(FLAG_QR | (query[2] & 0x78) | (authoritative ? FLAG_AA : 0) | (query[2] & FLAG_RD));
	out[3] = rcode & 15;
	out[5] = question > 0;
	if (state->full) {
		out[2] |= FLAG_TC;
		answer.truncated = 1;
	} else if (authoritative) {
		pm_put16(out + 6, state->answers);
		pm_put16(out + 8, state->authorities);
		answer.len = state->len;
	}
	if (state->edns) {
		uint8_t *opt = out + answer.len;

		memset(opt, 0, OPT_LEN);
		pm_put16(opt + 1, PM_TYPE_OPT);
		pm_put16(opt + 3, PM_UDP_PAYLOAD);
		opt[5] = (uint8_t)(rcode >> 4);
		opt[7] = state->dnssec_ok;
		out[11] = 1;
		answer.len += OPT_LEN;
	}
	return answer;
}

pm_answer pm_answer_query(const pm_zones *zones, const uint8_t *query, size_t len, int udp, uint8_t *out, size_t limit,
			  uint32_t turn)
{
	query_state state;
	pm_answer nothing = {.verdict = PM_ANSWER_DROP};
	int opcode, name_len;
	size_t question;
	pm_rcode rcode;
	uint64_t key = 0;

	state.zones = zones;
	state.zone = NULL;
	state.edns = state.signature = state.hand_over = state.dnssec_ok = 0;
	state.payload = 0;
	state.turn = turn;
	state.out = out;
	state.full = 0;
	state.answers = state.authorities = 0;
	if (len < HEADER || query[2] & FLAG_QR)
		return nothing;
	opcode = query[2] >> 3 & 15;
	if (opcode == OPCODE_NOTIFY || opcode == OPCODE_UPDATE) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (opcode != OPCODE_QUERY)
		return finish(&state, query, PM_RCODE_NOTIMP, 0, PM_RCODE_NOTIMP);
	if (pm_get16(query + 4) != 1)
		return finish(&state, query, PM_RCODE_FORMERR, 0, PM_RCODE_FORMERR);
	name_len = pm_name_read(&state.question.name, query + HEADER, len - HEADER);
	if (name_len < 0 || HEADER + (size_t)name_len + 4 > len)
		return finish(&state, query, PM_RCODE_FORMERR, 0, PM_RCODE_FORMERR);
	question = (size_t)name_len + 4;
	state.type = (uint16_t)pm_get16(query + HEADER + name_len);
	state.hand_over = state.type == PM_TYPE_AXFR || state.type == PM_TYPE_IXFR;
	memcpy(out + HEADER, query + HEADER, question);
	if (read_records(&state, query, len, HEADER + question) < 0) {
		state.edns = 0;
		return finish(&state, query, PM_RCODE_FORMERR, question, PM_RCODE_FORMERR);
	}
	if (state.signature) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (state.edns && state.version)
		return finish(&state, query, PM_RCODE_BADVERS, question, PM_RCODE_BADVERS);
	if (state.type == PM_TYPE_OPT || state.type == PM_TYPE_TSIG || state.type == PM_TYPE_TKEY)
		return finish(&state, query, PM_RCODE_FORMERR, question, PM_RCODE_FORMERR);
	if (pm_get16(query + HEADER + name_len + 2) == CLASS_IN) {
		pm_name_hashes(&state.question.name, zones->key, state.question.hashes);
		state.zone = pm_zones_find(zones, &state.question.name, state.question.hashes);
	}
	if (state.zone == NULL)
		return finish(&state, query, PM_RCODE_REFUSED, question, PM_RCODE_REFUSED);
	if (state.hand_over) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (udp) {
		size_t most = !state.edns || state.payload < PM_UDP_PLAIN ? PM_UDP_PLAIN : state.payload;

		if (most > PM_UDP_PAYLOAD)
			most = PM_UDP_PAYLOAD;
		if (limit > most)
			limit = most;
	}
	state.len = HEADER + question;
	state.limit = limit - (state.edns ? OPT_LEN : 0);
	rcode = look_up(&state);
	key = rcode == PM_RCODE_NXDOMAIN ? state.zone->hash : state.question.hashes[0] + state.type;
	return finish(&state, query, rcode, question, key);
}

void pm_answer_truncate(pm_answer *answer, uint8_t *out)
{
	size_t end = HEADER + (size_t)answer->question_len;

	memset(out + 6, 0, 4);
	out[2] |= FLAG_TC;
	if (answer->edns)
		memmove(out + end, out + answer->len - OPT_LEN, OPT_LEN);
	answer->len = end + (answer->edns ? OPT_LEN : 0);
	answer->truncated = 1;
}
