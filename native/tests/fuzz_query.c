/* Messages to a set of zones. The first byte says whether they came over UDP. */
#include "dns.h"
#include "fuzz.h"

static pm_zones *zones;

static void free_zones(void)
{
	pm_zones_free(zones);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t out[PM_MESSAGE_MAX];
	int udp = fuzz_byte(&data, &size) % 2;
	uint32_t turn = (uint32_t)size * 7;
	uint8_t *query = malloc(size ? size : 1); /* so that one octet too far is seen */
	pm_answer answer;

	if (zones == NULL) {
		zones = dns_example();
		atexit(free_zones);
	}
	FUZZ_CHECK(query != NULL);
	if (size)
		memcpy(query, data, size);
	answer = pm_answer_query(zones, query, size, udp, out, udp ? PM_UDP_PAYLOAD : PM_MESSAGE_MAX, turn);
	if (answer.verdict == PM_ANSWER_SEND) {
		FUZZ_CHECK(size >= 12 && !(query[2] & 0x80));
		FUZZ_CHECK(out[0] == query[0] && out[1] == query[1] && (out[2] & 0x80));
		FUZZ_CHECK(answer.len <= (udp ? (size_t)PM_UDP_PAYLOAD : PM_MESSAGE_MAX));
		FUZZ_CHECK(dns_measure(out, answer.len) == answer.len);
		FUZZ_CHECK((answer.rcode & 15) == (out[3] & 15));
		FUZZ_CHECK(answer.rcode == PM_RCODE_NOERROR || answer.rcode == PM_RCODE_NXDOMAIN || answer.len <= size);
		pm_answer_truncate(&answer, out);
		FUZZ_CHECK(answer.len <= size && dns_measure(out, answer.len) == answer.len);
	} else {
		FUZZ_CHECK(answer.verdict == PM_ANSWER_HAND_OVER || size < 12 || query[2] & 0x80);
	}
	free(query);
	return 0;
}
