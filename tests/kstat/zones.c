/* Zones as SmartOS has them: seven kstats each, statistics in the kernel's order and of its types. */
#include <stdio.h>
#include <string.h>

#include "kernel.h"

static const char ZONE_MISC[] =
	"zonename nsec_user nsec_sys nsec_waitrq u32:avenrun_1min u32:avenrun_5min u32:avenrun_15min u32:forkfail_cap "
	"u32:forkfail_noproc u32:forkfail_nomem u32:forkfail_misc u32:mapfail_seglim u32:nested_interp u32:init_pid "
	"boot_time u32:init_restarts";
static const char MEMORY_CAP[] =
	"zonename rss physcap swap swapcap nover pagedout pgpgin anonpgin execpgin fspgin anon_alloc_fail . .";
static const char ZONE_VFS[] = "zonename nread reads rtime rcnt rlentime nwritten writes wtime wcnt wlentime 10ms_ops "
			       "100ms_ops 1s_ops 10s_ops delay_cnt delay_time";
static const char ZONE_ZFS[] = "zonename nread reads rtime rlentime nwritten writes waittime";
static const char CPUCAPS[] = "value baseline effective burst_limit_sec bursting_sec usage nwait below_sec above_sec "
			      "above_base_sec maxusage zonename";
static const char LINK[] =
	"ifspeed u32:multircv u32:brdcstrcv u32:multixmt u32:brdcstxmt u32:norcvbuf u32:ierrors u32:noxmtbuf "
	"u32:oerrors "
	"u32:collisions u32:rbytes u32:ipackets u32:obytes u32:opackets rbytes64 ipackets64 obytes64 opackets64 "
	"u32:link_state u32:link_duplex u32:unknowns zonename";
static const char TCP[] =
	"i32:rtoAlgorithm i32:rtoMin i32:rtoMax i32:maxConn u32:activeOpens u32:passiveOpens u32:attemptFails "
	"u32:estabResets u32:currEstab inSegs outSegs u32:retransSegs i32:connTableSize u32:outRsts u32:outDataSegs "
	"u32:outDataBytes u32:retransBytes u32:outAck u32:outAckDelayed u32:outUrg u32:outWinUpdate u32:outWinProbe "
	"u32:outControl u32:outFastRetrans u32:inAckSegs u32:inAckBytes u32:inDupAck u32:inAckUnsent "
	"u32:inDataInorderSegs u32:inDataInorderBytes u32:inDataUnorderSegs u32:inDataUnorderBytes u32:inDataDupSegs "
	"u32:inDataDupBytes u32:inDataPartDupSegs u32:inDataPartDupBytes u32:inDataPastWinSegs u32:inDataPastWinBytes "
	"u32:inWinProbe u32:inWinUpdate u32:inClosed u32:rttUpdate u32:rttNoUpdate u32:timRetrans u32:timRetransDrop "
	"u32:timKeepalive u32:timKeepaliveProbe u32:timKeepaliveDrop u32:listenDrop u32:listenDropQ0 u32:halfOpenDrop "
	"u32:outSackRetransSegs i32:connTableSize6";

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* A version 4 UUID. */
static void zone_name(int zone, unsigned salt, char name[37])
{
	uint64_t high = mix((uint64_t)salt << 32 | (uint32_t)zone);
	uint64_t low = mix(high);
	snprintf(name, 37, "%08x-%04x-4%03x-%04x-%012llx", (uint32_t)(high >> 32), (uint32_t)(high >> 16) & 0xffff,
		 (uint32_t)high & 0xfff, 0x8000 | ((uint32_t)(low >> 48) & 0x3fff),
		 (unsigned long long)low & 0xffffffffffffu);
}

/* The statistics of a list; number i has the value (zone * 1000003 + i * 7919 + salt), cut to its type. */
static void add(spec *made, const char *module, int instance, const char *name, const char *class, const char *list,
		int zone, unsigned salt, const char *zonename)
{
	spec_clear(made);
	spec_name(made->module, module, strlen(module));
	spec_name(made->name, name, strlen(name) < KSTAT_STRLEN ? strlen(name) : KSTAT_STRLEN - 1);
	spec_name(made->class, class, strlen(class));
	made->instance = instance;
	made->type = KSTAT_TYPE_NAMED;
	made->flags = KSTAT_FLAG_VIRTUAL;
	made->crtime = 1000000000 + (hrtime_t)zone * 1000 + salt;
	for (uint64_t i = 0; *list; i++) {
		size_t len = strcspn(list, " ");
		uint64_t value = (uint64_t)zone * 1000003 + i * 7919 + salt;
		if (len == 8 && memcmp(list, "zonename", 8) == 0) {
			spec_text(made, list, len, KSTAT_DATA_STRING, zonename, strlen(zonename));
		} else if (*list == '.') {
			spec_stat(made, "", 0, KSTAT_DATA_CHAR);
		} else if (len > 4 && list[3] == ':') {
			uint8_t type = *list == 'i' ? KSTAT_DATA_INT32 : KSTAT_DATA_UINT32;
			uint32_t low = (uint32_t)value & (*list == 'i' ? INT32_MAX : UINT32_MAX);
			spec_stat(made, list + 4, len - 4, type)->value.ui32 = low;
		} else {
			spec_stat(made, list, len, KSTAT_DATA_UINT64)->value.ui64 = value;
		}
		list += len + (list[len] == ' ');
	}
	kernel_put(made);
}

void zones_generate(int first, int count, unsigned salt)
{
	static const struct {
		const char *module, *class, *list;
	} by_zone[] = {
		{"zones", "zone_misc", ZONE_MISC},
		{"memory_cap", "zone_memory_cap", MEMORY_CAP},
		{"zone_vfs", "zone_vfs", ZONE_VFS},
		{"zone_zfs", "zone_zfs", ZONE_ZFS},
	};
	spec made = {0};
	for (int zone = first; zone < first + count; zone++) {
		char zonename[37];
		char name[KSTAT_STRLEN];
		zone_name(zone, salt, zonename);
		for (size_t i = 0; i < sizeof(by_zone) / sizeof(*by_zone); i++) {
			add(&made, by_zone[i].module, zone, zonename, by_zone[i].class, by_zone[i].list, zone, salt,
			    zonename);
		}
		snprintf(name, sizeof(name), "cpucaps_zone_%d", zone);
		add(&made, "caps", zone, name, "zone_caps", CPUCAPS, zone, salt, zonename);
		add(&made, "tcp", zone, "tcp", "mib2", TCP, zone, salt, zonename);
		snprintf(name, sizeof(name), "z%d_net0", zone);
		add(&made, "link", 0, name, "net", LINK, zone, salt, zonename);
	}
	spec_free(&made);
}
