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
	size_t len, limit; /* the limit leaves room for OPT */
	int full;
	uint16_t answers, authorities;
} conversation;

static uint8_t *reserve(conversation *talk, size_t len)
{
	uint8_t *place = talk->out + talk->len;

	if (talk->full || talk->limit - talk->len < len) {
		talk->full = 1;
		return NULL;
	}
	talk->len += len;
	return place;
}

/* Where the longest suffix that a name shares with the question is in the message, as a pointer; *own is how much of
 * the name comes before it. 0 when they share nothing but the root. */
static uint32_t shared_suffix(const conversation *talk, const pm_name *name, size_t *own)
{
	const pm_name *question = &talk->question.name;

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

/* The octets of a name when it is compressed against the question. */
static size_t compress(const conversation *talk, const pm_name *name, uint8_t out[PM_NAME_MAX])
{
	size_t own;
	uint32_t pointer = shared_suffix(talk, name, &own);

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

static void put_soa(conversation *talk, const pm_soa *soa, uint32_t ttl)
{
	uint8_t primary[PM_NAME_MAX], mailbox[PM_NAME_MAX], *out;
	size_t primary_len = compress(talk, &soa->primary, primary);
	size_t mailbox_len = compress(talk, &soa->mailbox, mailbox);
	size_t len = primary_len + mailbox_len + sizeof(soa->numbers);

	out = reserve(talk, PM_RR_HEAD + len);
	if (out == NULL)
		return;
	out = put_head(out, POINTER | (uint32_t)(HEADER + talk->question.name.len - talk->zone->name.len), PM_TYPE_SOA,
		       ttl, len);
	memcpy(out, primary, primary_len);
	memcpy(out + primary_len, mailbox, mailbox_len);
	memcpy(out + primary_len + mailbox_len, soa->numbers, sizeof(soa->numbers));
}

static void put_negative(conversation *talk, const pm_soa *soa)
{
	put_soa(talk, soa, soa->negative_ttl);
	talk->authorities += !talk->full;
}

static const pm_rrset *find_set(const pm_records *records, uint16_t type)
{
	for (uint32_t i = 0; i < records->sets; i++)
		if (records->set[i].type == type)
			return &records->set[i];
	return NULL;
}

/* Put a set in the answer, its owner where `owner` points to. Addresses, all of one length, are turned. */
static void put_set(conversation *talk, const pm_records *records, const pm_rrset *set, uint32_t owner)
{
	const uint8_t *wire = pm_records_wire(records) + set->offset;
	uint8_t *out = set->count > UINT16_MAX ? NULL : reserve(talk, set->len);

	if (out == NULL) {
		talk->full = 1;
		return;
	}
	if (set->count > 1 && (set->type == PM_TYPE_A || set->type == PM_TYPE_AAAA)) {
		size_t first = talk->turn % set->count * (size_t)(set->len / set->count);
		memcpy(out, wire + first, set->len - first);
		memcpy(out + set->len - first, wire, first);
	} else {
		memcpy(out, wire, set->len);
	}
	talk->answers += (uint16_t)set->count;
	if (owner == (POINTER | HEADER))
		return;
	for (uint8_t *record = out; record < out + set->len; record += PM_RR_HEAD + pm_get16(record + 10))
		pm_put16(record, owner);
}

/* Put a CNAME record and go to its target: where its name is in the message, 0 when there is no room. */
static uint32_t put_alias(conversation *talk, const pm_records *records, const pm_rrset *set, uint32_t owner,
			  pm_name *target)
{
	const uint8_t *wire = pm_records_wire(records) + set->offset;
	uint8_t name[PM_NAME_MAX], *out;
	size_t own, len;
	uint32_t pointer;

	if (pm_name_read(target, wire + PM_RR_HEAD, pm_get16(wire + 10)) < 0)
		return 0;
	len = compress(talk, target, name);
	out = reserve(talk, PM_RR_HEAD + len);
	if (out == NULL)
		return 0;
	memcpy(put_head(out, owner, PM_TYPE_CNAME, set->ttl, len), name, len);
	talk->answers++;
	pointer = shared_suffix(talk, target, &own);
	return own == 0 ? pointer : POINTER | (uint32_t)(out + PM_RR_HEAD - talk->out);
}

/* The answer from a zone, CNAMEs followed as long as they stay in it. */
static pm_rcode look_up(conversation *talk)
{
	const pm_soa *soa = atomic_load_explicit(&talk->zone->soa, memory_order_acquire);
	const hashed_name *name = &talk->question;
	uint32_t owner = POINTER | HEADER;
	hashed_name target;

	if (soa == NULL)
		return PM_RCODE_SERVFAIL;
	for (int step = 0; step < CHAIN_MAX; step++) {
		const pm_node *node = pm_zone_find(talk->zone, &name->name, name->hashes);
		const pm_records *records = node ? atomic_load_explicit(&node->records, memory_order_acquire) : NULL;
		const pm_rrset *set = NULL;

		if (node == talk->zone->apex && (talk->type == PM_TYPE_SOA || talk->type == PM_TYPE_ANY)) {
			put_soa(talk, soa, soa->ttl);
			talk->answers += !talk->full;
			return PM_RCODE_NOERROR;
		}
		if (records == NULL) {
			int empty = node && (node->parent == NULL || atomic_load(&node->children) > 0);
			put_negative(talk, soa);
			return empty ? PM_RCODE_NOERROR : PM_RCODE_NXDOMAIN;
		}
		/* RFC 8482: one set stands for all. */
		set = talk->type == PM_TYPE_ANY ? records->set : find_set(records, talk->type);
		if (set && (talk->type != PM_TYPE_ANY || set->type != PM_TYPE_CNAME)) {
			put_set(talk, records, set, owner);
			return PM_RCODE_NOERROR;
		}
		/* RFC 4034, 2.5: the two that may stand beside a CNAME are its owner's. */
		set = talk->type == PM_TYPE_RRSIG || talk->type == PM_TYPE_NSEC ? NULL
										: find_set(records, PM_TYPE_CNAME);
		if (set == NULL) {
			put_negative(talk, soa);
			return PM_RCODE_NOERROR;
		}
		owner = put_alias(talk, records, set, owner, &target.name);
		if (owner == 0 || talk->type == PM_TYPE_CNAME || talk->type == PM_TYPE_ANY ||
		    !pm_zone_has(talk->zone, &target.name))
			return PM_RCODE_NOERROR;
		pm_name_hashes(&target.name, talk->zones->key, target.hashes);
		name = &target;
	}
	return PM_RCODE_NOERROR;
}

/* Read the records behind the question. -1: malformed. */
static int read_records(conversation *talk, const uint8_t *query, size_t len, size_t at)
{
	uint32_t before = pm_get16(query + 6) + pm_get16(query + 8), count = before + pm_get16(query + 10);
	int opcode = query[2] >> 3 & 15;

	if (before && opcode == OPCODE_QUERY && !talk->hand_over)
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
			talk->signature = 1;
		} else if (type == PM_TYPE_OPT) {
			const uint8_t *option = query + at + 10, *end = option + rdata;

			if (query[name] || i < before || talk->edns)
				return -1;
			for (; option < end; option += 4 + pm_get16(option + 2))
				if (end - option < 4 || (size_t)(end - option) < 4 + pm_get16(option + 2))
					return -1;
			talk->edns = 1;
			talk->payload = (uint16_t)pm_get16(query + at + 2);
			talk->version = query[at + 5];
			talk->dnssec_ok = query[at + 6] & DO;
		}
		at += 10 + rdata;
	}
	return at == len ? 0 : -1;
}

static pm_answer finish(conversation *talk, const uint8_t *query, pm_rcode rcode, size_t question, uint64_t key)
{
	uint8_t *out = talk->out;
	int authoritative = rcode == PM_RCODE_NXDOMAIN || (rcode == PM_RCODE_NOERROR && talk->zone);
	pm_answer answer = {.verdict = PM_ANSWER_SEND,
			    .rcode = rcode,
			    .key = key,
			    .len = HEADER + question,
			    .question_len = (uint16_t)question,
			    .edns = talk->edns};

	memset(out + 2, 0, HEADER - 2);
	memcpy(out, query, 2);
	out[2] = (uint8_t)(FLAG_QR | (query[2] & 0x78) | (authoritative ? FLAG_AA : 0) | (query[2] & FLAG_RD));
	out[3] = rcode & 15;
	out[5] = question > 0;
	if (talk->full) {
		out[2] |= FLAG_TC;
		answer.truncated = 1;
	} else if (authoritative) {
		pm_put16(out + 6, talk->answers);
		pm_put16(out + 8, talk->authorities);
		answer.len = talk->len;
	}
	if (talk->edns) {
		uint8_t *opt = out + answer.len;

		memset(opt, 0, OPT_LEN);
		pm_put16(opt + 1, PM_TYPE_OPT);
		pm_put16(opt + 3, PM_UDP_PAYLOAD);
		opt[5] = (uint8_t)(rcode >> 4);
		opt[7] = talk->dnssec_ok;
		out[11] = 1;
		answer.len += OPT_LEN;
	}
	return answer;
}

pm_answer pm_answer_query(const pm_zones *zones, const uint8_t *query, size_t len, int udp, uint8_t *out, size_t limit,
			  uint32_t turn)
{
	conversation talk;
	pm_answer nothing = {.verdict = PM_ANSWER_DROP};
	int opcode, name_len;
	size_t question;
	pm_rcode rcode;
	uint64_t key = 0;

	talk.zones = zones;
	talk.zone = NULL;
	talk.edns = talk.signature = talk.hand_over = talk.dnssec_ok = 0;
	talk.payload = 0;
	talk.turn = turn;
	talk.out = out;
	talk.full = 0;
	talk.answers = talk.authorities = 0;
	if (len < HEADER || query[2] & FLAG_QR)
		return nothing;
	opcode = query[2] >> 3 & 15;
	if (opcode == OPCODE_NOTIFY || opcode == OPCODE_UPDATE) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (opcode != OPCODE_QUERY)
		return finish(&talk, query, PM_RCODE_NOTIMP, 0, PM_RCODE_NOTIMP);
	if (pm_get16(query + 4) != 1)
		return finish(&talk, query, PM_RCODE_FORMERR, 0, PM_RCODE_FORMERR);
	name_len = pm_name_read(&talk.question.name, query + HEADER, len - HEADER);
	if (name_len < 0 || HEADER + (size_t)name_len + 4 > len)
		return finish(&talk, query, PM_RCODE_FORMERR, 0, PM_RCODE_FORMERR);
	question = (size_t)name_len + 4;
	talk.type = (uint16_t)pm_get16(query + HEADER + name_len);
	talk.hand_over = talk.type == PM_TYPE_AXFR || talk.type == PM_TYPE_IXFR;
	memcpy(out + HEADER, query + HEADER, question);
	if (read_records(&talk, query, len, HEADER + question) < 0) {
		talk.edns = 0;
		return finish(&talk, query, PM_RCODE_FORMERR, question, PM_RCODE_FORMERR);
	}
	if (talk.signature) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (talk.edns && talk.version)
		return finish(&talk, query, PM_RCODE_BADVERS, question, PM_RCODE_BADVERS);
	if (talk.type == PM_TYPE_OPT || talk.type == PM_TYPE_TSIG || talk.type == PM_TYPE_TKEY)
		return finish(&talk, query, PM_RCODE_FORMERR, question, PM_RCODE_FORMERR);
	if (pm_get16(query + HEADER + name_len + 2) == CLASS_IN) {
		pm_name_hashes(&talk.question.name, zones->key, talk.question.hashes);
		talk.zone = pm_zones_find(zones, &talk.question.name, talk.question.hashes);
	}
	if (talk.zone == NULL)
		return finish(&talk, query, PM_RCODE_REFUSED, question, PM_RCODE_REFUSED);
	if (talk.hand_over) {
		nothing.verdict = PM_ANSWER_HAND_OVER;
		return nothing;
	}
	if (udp) {
		size_t most = !talk.edns || talk.payload < PM_UDP_PLAIN ? PM_UDP_PLAIN : talk.payload;

		if (most > PM_UDP_PAYLOAD)
			most = PM_UDP_PAYLOAD;
		if (limit > most)
			limit = most;
	}
	talk.len = HEADER + question;
	talk.limit = limit - (talk.edns ? OPT_LEN : 0);
	rcode = look_up(&talk);
	key = rcode == PM_RCODE_NXDOMAIN ? talk.zone->hash : talk.question.hashes[0] + talk.type;
	return finish(&talk, query, rcode, question, key);
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
