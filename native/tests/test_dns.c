/* Names, records, zones and answers. */
#include <errno.h>
#include <pthread.h>

#include "check.h"
#include "dns.h"
#include "limit.h"

static void names(void)
{
	char text[300];
	pm_name name;

	CHECK_INT(pm_name_parse(&name, ".", 1), 0);
	CHECK(name.len == 1 && name.labels == 0);
	CHECK_INT(pm_name_parse(&name, "A-b_1.Z.", 8), 0);
	CHECK(name.len == 9 && name.labels == 2 && memcmp(name.wire, "\5a-b_1\1z", 9) == 0);
	CHECK(name.at[0] == 0 && name.at[1] == 6 && name.at[2] == 8);
	CHECK(pm_name_begins(&name, 0) && pm_name_begins(&name, 6) && pm_name_begins(&name, 8));
	CHECK(!pm_name_begins(&name, 1) && !pm_name_begins(&name, 7) && !pm_name_begins(&name, 9));
	static const char *const wrong[] = {"",	   "a",	    "a..",   ".a.",  "a b.", "a\\.b.", "\"a\".",
					    "a@.", "\x7f.", "\xc3.", "a;b.", "$x.",  "(a).",   ".."};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK_INT(pm_name_parse(&name, wrong[i], strlen(wrong[i])), -1);
	memset(text, 'a', sizeof(text));
	text[63] = '.';
	CHECK_INT(pm_name_parse(&name, text, 64), 0);
	CHECK_INT(pm_name_parse(&name, text + 127, 65), -1);
	for (int i = 0; i < 254; i++)
		text[i] = i % 2 ? '.' : 'a';
	CHECK_INT(pm_name_parse(&name, text, 254), 0);
	CHECK(name.len == 255 && name.labels == 127);
	text[254] = 'a';
	text[255] = '.';
	CHECK_INT(pm_name_parse(&name, text, 256), -1);
	CHECK_INT(pm_name_read(&name, (const uint8_t *)"\1a", 2), -1);
	CHECK_INT(pm_name_read(&name, (const uint8_t *)"\xc0\0", 2), -1);
	CHECK_INT(pm_name_read(&name, (const uint8_t *)"", 0), -1);
	CHECK_INT(pm_name_read(&name, (const uint8_t *)"\1A\0x", 4), 3);
}

static void data(void)
{
	static const struct {
		uint16_t type;
		const char *text, *wanted;
		int len;
	} cases[] = {
		{PM_TYPE_A, "10.0.0.1", "\n\0\0\1", 4},	  {PM_TYPE_A, "10.0.0", NULL, -1},
		{PM_TYPE_A, "10.0.0.01x", NULL, -1},	  {PM_TYPE_AAAA, "::1", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16},
		{PM_TYPE_AAAA, "fe80::1%eth0", NULL, -1}, {PM_TYPE_CNAME, "B.z.", "\1b\1z", 5},
		{PM_TYPE_CNAME, "b", NULL, -1},		  {PM_TYPE_SRV, "1 2 65535 b.", "\0\1\0\2\xff\xff\1b", 9},
		{PM_TYPE_SRV, "1 2 65536 b.", NULL, -1},  {PM_TYPE_SRV, "1 2  3 b.", NULL, -1},
		{PM_TYPE_SRV, "1 2 3", NULL, -1},	  {PM_TYPE_SRV, "1 2 3 ", NULL, -1},
		{PM_TYPE_TXT, "\"a\" \"\"", "\1a\0", 3},  {PM_TYPE_TXT, "\"\\\"\\\\\\200\"", "\3\"\\\xc8", 4},
		{PM_TYPE_TXT, "\"\\256\"", NULL, -1},	  {PM_TYPE_TXT, "\"\\2", NULL, -1},
		{PM_TYPE_TXT, "\"\\", NULL, -1},	  {PM_TYPE_TXT, "\"a", NULL, -1},
		{PM_TYPE_TXT, "\"a\" ", NULL, -1},	  {PM_TYPE_TXT, "a", NULL, -1},
		{PM_TYPE_TXT, "\"\xc3\xa4\"", NULL, -1},  {PM_TYPE_SOA, "a. b. 1 2 3 4 5", NULL, -1},
	};
	uint8_t out[PM_RDATA_MAX];
	char text[600];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int len = pm_rdata_parse(cases[i].type, cases[i].text, strlen(cases[i].text), out);
		CHECK_INT(len, cases[i].len);
		CHECK(len < 0 || memcmp(out, cases[i].wanted, (size_t)len) == 0);
	}
	memset(text, 'a', sizeof(text));
	text[0] = text[256] = '"';
	CHECK_INT(pm_rdata_parse(PM_TYPE_TXT, text, 257, out), 256);
	text[256] = 'a';
	text[257] = '"';
	CHECK_INT(pm_rdata_parse(PM_TYPE_TXT, text, 258, out), -1);
	CHECK_INT(pm_type_parse("AAAA", 4), PM_TYPE_AAAA);
	CHECK_INT(pm_type_parse("AAA", 3), 0);
}

static const pm_node *look(const pm_zone *zone, const char *text)
{
	uint64_t hashes[PM_LABELS_MAX + 1];
	pm_name name = dns_name(text);

	pm_name_hashes(&name, zone->zones->key, hashes);
	return pm_zone_find(zone, &name, hashes);
}

static void changes(void)
{
	pm_zones *zones = pm_zones_new();
	pm_zone *zone = dns_zone(zones, "z.");
	pm_difference difference = {0};
	pm_name again = dns_name("z.");
	pm_snapshot *snapshot;
	pm_buffer out = {0};

	CHECK(pm_zones_add(zones, &again) == NULL && errno == EEXIST);
	dns_one(zone, "a.b.c.z.", "A", "10.0.0.1");
	dns_one(zone, "d.z.", "A", "10.0.0.1");
	CHECK_INT(zone->nodes.count, 4);
	CHECK_INT(zones->pool.index.count, 1);
	CHECK(atomic_load(&look(zone, "b.c.z.")->records) == NULL && look(zone, "x.b.c.z.") == NULL);
	dns_record(zone, "A", 30, "10.0.0.1");
	CHECK_INT(dns_put(zone, "d.z.", &difference), PM_PUT_SAME);
	dns_record(zone, "A", 30, "10.0.0.2");
	dns_record(zone, "A", 20, "10.0.0.1");
	dns_record(zone, "A", 30, "10.0.0.2");
	CHECK_INT(dns_put(zone, "d.z.", &difference), PM_PUT_CHANGED);
	CHECK_INT(atomic_load(&look(zone, "d.z.")->records)->set[0].count, 2);
	CHECK_INT(atomic_load(&look(zone, "d.z.")->records)->set[0].ttl, 20);
	CHECK(difference.removed_count == 1 && difference.added_count == 2);
	CHECK_INT(difference.removed.len, 2 + PM_RR_HEAD + 4);
	CHECK(memcmp(difference.removed.data, "\1d\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\n\0\0\1", 18) == 0);
	CHECK_INT(zone->records, 3);

	snapshot = pm_snapshot_new(zone);
	CHECK_INT(dns_put(zone, "a.b.c.z.", &difference), PM_PUT_CHANGED);
	CHECK_INT(dns_put(zone, "a.b.c.z.", &difference), PM_PUT_SAME);
	CHECK(zone->nodes.count == 1 && look(zone, "c.z.") == NULL);
	CHECK_INT(pm_snapshot_read(snapshot, &out, 1), 1);
	CHECK_INT(pm_snapshot_read(snapshot, &out, 1000), 2);
	CHECK_INT(pm_snapshot_read(snapshot, &out, 1000), 0);
	CHECK_INT(out.len, 2 * (2 + PM_RR_HEAD + 4) + 6 + PM_RR_HEAD + 4);
	CHECK(zones->epoch.count > 0);
	pm_snapshot_free(snapshot);
	CHECK_INT(zones->epoch.count, 0);

	pm_zone_begin(zone);
	dns_one(zone, "e.z.", "A", "10.0.0.3");
	CHECK_INT(pm_zone_sweep(zone, &difference), 0);
	CHECK(zone->nodes.count == 1 && zone->records == 1 && look(zone, "d.z.") == NULL);
	for (int i = 0; i < 20000; i++) {
		char text[32];
		snprintf(text, sizeof(text), "n%d.z.", i % 5000);
		if (i < 10000)
			dns_record(zone, "A", (uint32_t)i, "10.0.0.4");
		CHECK(dns_put(zone, text, NULL) == (i < 15000 ? PM_PUT_CHANGED : PM_PUT_SAME));
	}
	CHECK(zone->nodes.count == 1 && zones->pool.index.count == 1);
	snapshot = pm_snapshot_new(zone);
	CHECK_INT(pm_zones_remove(zones, zone), 0);
	CHECK_INT(pm_snapshot_read(snapshot, &out, 1000), 1);
	pm_snapshot_free(snapshot);
	pm_buffer_free(&out);
	pm_buffer_free(&difference.removed);
	pm_buffer_free(&difference.added);
	pm_zones_free(zones);
}

static void refusals(void)
{
	static const struct {
		const char *owner, *type, *data;
	} cases[] = {
		{"z.", "CNAME", "a.z."},  {"*.z.", "A", "10.0.0.1"},	     {"a.y.", "A", "10.0.0.1"},
		{"xz.", "A", "10.0.0.1"}, {"a.z.", "NS", "ns.example.net."},
	};
	pm_zones *zones = pm_zones_new();
	pm_zone *zone = dns_zone(zones, "z.");
	pm_name name = dns_name("a.z.");

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		pm_name owner = dns_name(cases[i].owner);
		dns_record(zone, cases[i].type, 30, cases[i].data);
		CHECK(pm_zone_refusal(zone, &owner) != NULL);
		pm_builder_clear(&zone->builder);
	}
	dns_record(zone, "CNAME", 30, "b.z.");
	CHECK(pm_zone_refusal(zone, &name) == NULL);
	dns_record(zone, "A", 30, "10.0.0.1");
	CHECK(pm_zone_refusal(zone, &name) != NULL);
	pm_builder_clear(&zone->builder);
	pm_zones_free(zones);
}

static void answers(void)
{
	static const struct {
		const char *owner;
		uint16_t type;
		int rcode, answers, authorities;
	} cases[] = {
		{"cmon.z.", PM_TYPE_A, 0, 2, 0},
		{"CMON.Z.", PM_TYPE_AAAA, 0, 1, 0},
		{"cmon.z.", PM_TYPE_TXT, 0, 0, 1},
		{"u.cmon.z.", PM_TYPE_A, 0, 3, 0},
		{"v.cmon.z.", PM_TYPE_AAAA, 0, 3, 0},
		{"v.cmon.z.", PM_TYPE_TXT, 0, 2, 1},
		{"u.cmon.z.", PM_TYPE_CNAME, 0, 1, 0},
		{"x.u.cmon.z.", PM_TYPE_A, 3, 0, 1},
		{"gone.z.", PM_TYPE_A, 3, 1, 1},
		{"out.z.", PM_TYPE_A, 0, 1, 0},
		{"loop.z.", PM_TYPE_A, 0, 16, 0},
		{"inst.a.z.", PM_TYPE_A, 0, 0, 1},
		{"a.z.", PM_TYPE_ANY, 0, 0, 1},
		{"x.a.z.", PM_TYPE_A, 3, 0, 1},
		{"z.", PM_TYPE_SOA, 0, 1, 0},
		{"z.", PM_TYPE_NS, 0, 1, 0},
		{"cmon.z.", PM_TYPE_ANY, 0, 2, 0},
		{"y.", PM_TYPE_A, 5, 0, 0},
		{".", PM_TYPE_NS, 5, 0, 0},
		{"empty.", PM_TYPE_SOA, 2, 0, 0},
		{"a.empty.", PM_TYPE_A, 2, 0, 0},
		{"1.0.0.10.in-addr.arpa.", PM_TYPE_PTR, 0, 1, 0},
		{"in-addr.arpa.", PM_TYPE_PTR, 5, 0, 0},
		{"0.10.in-addr.arpa.", PM_TYPE_PTR, 0, 0, 1},
	};
	pm_zones *zones = dns_example();
	uint8_t query[512], out[PM_MESSAGE_MAX];
	pm_answer answer;
	size_t len;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		for (int payload = 0; payload < 2000; payload += 999) {
			len = dns_query(query, cases[i].owner, cases[i].type, payload);
			answer = pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, (uint32_t)i);
			CHECK_INT(answer.verdict, PM_ANSWER_SEND);
			CHECK(answer.rcode == (pm_rcode)cases[i].rcode && (out[3] & 15) == cases[i].rcode);
			CHECK_INT(pm_get16(out + 6), cases[i].answers);
			CHECK_INT(pm_get16(out + 8), cases[i].authorities);
			CHECK_INT(pm_get16(out + 10), payload > 0);
			CHECK_INT(dns_measure(out, answer.len), answer.len);
			CHECK((out[2] & 4) == (cases[i].rcode == 0 || cases[i].rcode == 3 ? 4 : 0));
			pm_answer_truncate(&answer, out);
			CHECK(answer.len == len && (out[2] & 2) && dns_measure(out, answer.len) == len);
		}
	}
	len = dns_query(query, "many.svc.a.z.", PM_TYPE_A, 1232);
	answer = pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0);
	CHECK(answer.truncated && answer.len == len && (out[2] & 2));
	answer = pm_answer_query(zones, query, len, 0, out, PM_MESSAGE_MAX, 7);
	CHECK(!answer.truncated && pm_get16(out + 6) == 100 && dns_measure(out, answer.len) == answer.len);
	CHECK_INT(out[len - 11 + 15], 7);
	for (unsigned opcode = 0; opcode < 16; opcode++) {
		query[2] = (uint8_t)(opcode << 3);
		answer = pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0);
		CHECK(opcode == 4 || opcode == 5 ? answer.verdict == PM_ANSWER_HAND_OVER
						 : answer.rcode == (opcode ? PM_RCODE_NOTIMP : PM_RCODE_NOERROR));
	}
	len = dns_query(query, "z.", PM_TYPE_AXFR, 0);
	CHECK_INT(pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0).verdict, PM_ANSWER_HAND_OVER);
	len = dns_query(query, "y.", PM_TYPE_AXFR, 0);
	CHECK_INT(pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0).rcode, PM_RCODE_REFUSED);
	len = dns_query(query, "cmon.z.", PM_TYPE_A, 1232);
	query[len - 5] = 1;
	answer = pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0);
	CHECK(answer.rcode == PM_RCODE_BADVERS && (out[3] & 15) == 0 && out[answer.len - 6] == 1);
	CHECK_INT(out[answer.len - 5], 0);
	query[2] = 0x80;
	CHECK_INT(pm_answer_query(zones, query, len, 1, out, PM_UDP_PAYLOAD, 0).verdict, PM_ANSWER_DROP);
	CHECK_INT(pm_answer_query(zones, query, 11, 1, out, PM_UDP_PAYLOAD, 0).verdict, PM_ANSWER_DROP);
	pm_zones_free(zones);
}

static void limits(void)
{
	enum { SECOND = 1000000000 };
	const pm_limits both = {10, 1000, 5, 2}, none = {0};
	const uint64_t key[2] = {1, 3};
	pm_limiter *limiter = pm_limiter_new(&both, key);
	struct sockaddr_storage source = {.ss_family = AF_INET};
	uint8_t *address = (uint8_t *)&((struct sockaddr_in *)(void *)&source)->sin_addr;
	unsigned passed = 0, slipped = 0;

	address[0] = 192;
	for (int i = 0; i < 1000; i++) {
		pm_limit limit;
		address[3] = (uint8_t)i;
		limit = pm_limiter_ask(limiter, SECOND + i, &source, 7, 50, 50);
		passed += limit == PM_LIMIT_PASS;
		slipped += limit == PM_LIMIT_SLIP;
	}
	CHECK_INT(passed, 21);
	CHECK(slipped == 489 || slipped == 490);
	CHECK_INT(pm_limiter_ask(limiter, SECOND, &source, 8, 50, 50), PM_LIMIT_PASS);
	CHECK_INT(pm_limiter_ask(limiter, 4ll * SECOND, &source, 7, 50, 50), PM_LIMIT_PASS);
	passed = 0;
	for (uint64_t i = 0; i < 1000; i++)
		passed += pm_limiter_ask(limiter, 10ll * SECOND, &source, 1000 + i, 50, 150) == PM_LIMIT_PASS;
	CHECK_INT(passed, 21);
	address[2]++;
	CHECK_INT(pm_limiter_ask(limiter, 10ll * SECOND, &source, 7, 50, 150), PM_LIMIT_PASS);
	address[0] = 127;
	for (int i = 0; i < 1000; i++)
		CHECK_INT(pm_limiter_ask(limiter, SECOND, &source, 7, 50, 150), PM_LIMIT_PASS);
	for (uint8_t last = 1; last < 4; last++) {
		address[3] = last;
		passed = 0;
		for (int i = 0; i < 1000; i++)
			passed += (unsigned)pm_limiter_hand(limiter, SECOND, &source);
		CHECK_INT(passed, 11);
		CHECK_INT(pm_limiter_hand(limiter, 2ll * SECOND, &source), 1);
	}
	source = (struct sockaddr_storage){.ss_family = AF_INET6};
	address = ((struct sockaddr_in6 *)(void *)&source)->sin6_addr.s6_addr;
	address[0] = 0x20;
	passed = 0;
	for (int i = 0; i < 1000; i++) {
		address[7] = (uint8_t)i; /* the same /56 */
		passed += (unsigned)pm_limiter_hand(limiter, SECOND, &source);
	}
	CHECK_INT(passed, 11);
	address[6]++;
	CHECK_INT(pm_limiter_hand(limiter, SECOND, &source), 1);
	pm_limiter_free(limiter);
	source = (struct sockaddr_storage){.ss_family = AF_INET};
	address = (uint8_t *)&((struct sockaddr_in *)(void *)&source)->sin_addr;
	limiter = pm_limiter_new(&none, key);
	address[0] = 10;
	for (int i = 0; i < 1000; i++)
		CHECK_INT(pm_limiter_ask(limiter, SECOND, &source, 7, 50, 150), PM_LIMIT_PASS);
	for (int i = 0; i < 1000; i++)
		CHECK_INT(pm_limiter_hand(limiter, SECOND, &source), 1);
	pm_limiter_free(limiter);
}

static atomic_int stop;

typedef struct {
	pm_zones *zones;
	uint64_t answered, wrong;
} asking;

static void *ask(void *argument)
{
	asking *asked = argument;
	pm_zones *zones = asked->zones;
	uint8_t query[512], out[PM_UDP_PAYLOAD];

	for (uint32_t i = 0; !atomic_load(&stop); i++) {
		char text[32];
		size_t len;
		pm_answer answer;

		snprintf(text, sizeof(text), "n%u.deep.z.", i % 500);
		len = dns_query(query, text, PM_TYPE_A, 0);
		pm_epoch_enter(&zones->epoch, 0);
		answer = pm_answer_query(zones, query, len, 1, out, sizeof(out), i);
		pm_epoch_exit(&zones->epoch, 0);
		if (answer.verdict != PM_ANSWER_SEND || dns_measure(out, answer.len) != answer.len)
			asked->wrong++;
		asked->answered += answer.rcode == PM_RCODE_NOERROR && pm_get16(out + 6) == 1;
	}
	return NULL;
}

/* One thread answers while names, and whole zones, come and go. */
static void together(void)
{
	pm_zones *zones = pm_zones_new();
	pm_zone *zone = dns_zone(zones, "z.");
	pthread_t thread;
	asking asked = {zones, 0, 0};

	dns_soa(zone, 1);
	CHECK_INT(pm_epoch_join(&zones->epoch), 0);
	if (pthread_create(&thread, NULL, ask, &asked) != 0)
		tree_die("pthread_create");
	for (uint32_t i = 0; i < 60000; i++) {
		char text[32];

		snprintf(text, sizeof(text), "n%u.deep.z.", i * 7 % 500);
		if (i % 3)
			dns_record(zone, "A", i % 5, i % 2 ? "10.0.0.1" : "10.0.0.2");
		dns_put(zone, text, NULL);
		if (i % 1000 == 0)
			dns_soa(zone, i);
		if (i % 5000 == 0) {
			CHECK_INT(pm_zones_remove(zones, zone), 0);
			zone = dns_zone(zones, "z.");
			dns_soa(zone, 1);
		}
	}
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
	CHECK(asked.answered > 0 && asked.wrong == 0);
	pm_epoch_leave(&zones->epoch, 0);
	pm_zones_free(zones);
}

int main(void)
{
	names();
	data();
	changes();
	refusals();
	answers();
	limits();
	together();
	return check_result("dns");
}
