/* A zone to ask, and messages to ask with. What cannot be made ends the test. */
#ifndef PYMON_TESTS_DNS_H
#define PYMON_TESTS_DNS_H

#include "answer.h"
#include "rdata.h"
#include "tree.h"
#include "wire.h"

static inline pm_name dns_name(const char *text)
{
	pm_name name;

	if (pm_name_parse(&name, text, strlen(text)) < 0)
		tree_die(text);
	return name;
}

/* Add a record to what the next dns_put puts. */
static inline void dns_record(pm_zone *zone, const char *type, uint32_t ttl, const char *data)
{
	uint8_t rdata[PM_RDATA_MAX];
	uint16_t number = pm_type_parse(type, strlen(type));
	int len = pm_rdata_parse(number, data, strlen(data), rdata);

	if (len < 0 || pm_builder_add(&zone->builder, number, ttl, rdata, (size_t)len) < 0)
		tree_die(data);
}

static inline pm_put dns_put(pm_zone *zone, const char *owner, pm_difference *difference)
{
	pm_name name = dns_name(owner);
	pm_put put = pm_zone_put(zone, &name, difference);

	pm_builder_clear(&zone->builder);
	return put;
}

static inline void dns_one(pm_zone *zone, const char *owner, const char *type, const char *data)
{
	dns_record(zone, type, 30, data);
	if (dns_put(zone, owner, NULL) != PM_PUT_CHANGED)
		tree_die(owner);
}

static inline void dns_soa(pm_zone *zone, uint32_t serial)
{
	pm_soa *soa = calloc(1, sizeof(*soa));

	if (soa == NULL)
		tree_die("SOA");
	soa->ttl = soa->negative_ttl = 30;
	soa->primary = dns_name("ns.example.net.");
	soa->mailbox = dns_name("hostmaster.z.");
	pm_put32(soa->numbers, serial);
	pm_zone_set_soa(zone, soa);
}

static inline pm_zone *dns_zone(pm_zones *zones, const char *origin)
{
	pm_name name = dns_name(origin);
	pm_zone *zone = pm_zones_add(zones, &name);

	if (zone == NULL)
		tree_die(origin);
	return zone;
}

static inline pm_zones *dns_example(void)
{
	pm_zones *zones = pm_zones_new();
	pm_zone *zone;

	if (zones == NULL)
		tree_die("zones");
	zone = dns_zone(zones, "z.");
	dns_soa(zone, 1);
	dns_one(zone, "z.", "NS", "ns.example.net.");
	dns_record(zone, "A", 30, "192.0.2.1");
	dns_record(zone, "A", 30, "192.0.2.2");
	dns_record(zone, "AAAA", 30, "2001:db8::1");
	if (dns_put(zone, "cmon.z.", NULL) != PM_PUT_CHANGED)
		tree_die("cmon.z.");
	dns_one(zone, "u.cmon.z.", "CNAME", "cmon.z.");
	dns_one(zone, "v.cmon.z.", "CNAME", "u.cmon.z.");
	dns_one(zone, "gone.z.", "CNAME", "nothing.z.");
	dns_one(zone, "out.z.", "CNAME", "www.example.net.");
	dns_one(zone, "loop.z.", "CNAME", "loop.z.");
	dns_one(zone, "t.inst.a.z.", "TXT", "\"text\"");
	for (int i = 0; i < 100; i++) {
		char address[32];
		snprintf(address, sizeof(address), "10.0.0.%d", i);
		dns_record(zone, "A", 30, address);
	}
	if (dns_put(zone, "many.svc.a.z.", NULL) != PM_PUT_CHANGED)
		tree_die("many");
	zone = dns_zone(zones, "10.in-addr.arpa.");
	dns_soa(zone, 1);
	dns_one(zone, "1.0.0.10.in-addr.arpa.", "PTR", "t.inst.a.z.");
	dns_zone(zones, "empty.");
	return zones;
}

/* A query; its length. */
static inline size_t dns_query(uint8_t out[512], const char *owner, uint16_t type, int payload)
{
	static const uint8_t head[12] = {0x12, 0x34, 0x01, 0, 0, 1};
	static const uint8_t opt[11] = {0, 0, 41};
	pm_name name = dns_name(owner);
	size_t len = 12u + name.len;

	memcpy(out, head, 12);
	memcpy(out + 12, name.wire, name.len);
	pm_put16(out + len, type);
	pm_put16(out + len + 2, 1);
	len += 4;
	if (payload) {
		out[11] = 1;
		memcpy(out + len, opt, 11);
		pm_put16(out + len + 3, (uint32_t)payload);
		len += 11;
	}
	return len;
}

/* Octets of a message that its counts speak of, 0 when they do not add up to well-formed records. */
static inline size_t dns_measure(const uint8_t *message, size_t len)
{
	uint32_t questions = pm_get16(message + 4);
	uint32_t records = questions + pm_get16(message + 6) + pm_get16(message + 8) + pm_get16(message + 10);
	size_t at = 12;

	for (uint32_t i = 0; i < records; i++) {
		while (at < len && message[at] && message[at] < 64)
			at += 1u + message[at];
		if (at >= len)
			return 0;
		if (message[at] >= 0xc0 && (at + 2 > len || (pm_get16(message + at) & 0x3fff) >= at))
			return 0;
		at += message[at] ? 2 : 1;
		if (i < questions) {
			at += 4;
			continue;
		}
		if (at + 10 > len)
			return 0;
		at += 10 + pm_get16(message + at + 8);
	}
	return at > len ? 0 : at;
}

#endif
