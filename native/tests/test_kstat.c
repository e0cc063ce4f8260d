/* The kstat reader against a chain of its own: zones that come and go, data that lies. */
#include "events.h"
#include "kstat_collect.h"
#include "kstat_reader.h"

#include "check.h"
#include "kstat_library.h"

/* The families of the test: zones, one that is by the zone's name, one by its id, links, one of the node. */
enum { ZONES, MEMORY, CAPS, LINKS, CPUS, FAMILIES };

static pm_table tables[FAMILIES], status, node_status;
static const uint8_t all[FAMILIES] = {1, 1, 1, 1, 1};

static pm_kstat *start(const pm_kstat_library *library)
{
	static const char *const statistics[] = {"value", "boot_time"};
	pm_kstat *reader = pm_kstat_new();

	pm_kstat_use(reader, library);
	for (int f = 0; f < FAMILIES; f++)
		pm_table_init(&tables[f], 2);
	pm_table_init(&status, 12);
	pm_table_init(&node_status, 3);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_ZONE, "zones", "zone_misc", "{zone}", PM_KSTAT_ANY, statistics,
				      2, &tables[ZONES], 0),
		  ZONES);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_ZONE, "memory_cap", "zone_memory_cap", "{zone}", PM_KSTAT_ANY,
				      statistics, 2, &tables[MEMORY], 3),
		  MEMORY);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_ZONE, "caps", "zone_caps", "cpucaps_zone_{instance}",
				      PM_KSTAT_ANY, statistics, 2, &tables[CAPS], 6),
		  CAPS);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_OF_ZONE, "link", "net", "", 0, statistics, 2, &tables[LINKS], 9),
		  LINKS);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_NODE, "cpu", "misc", "sys", PM_KSTAT_ANY, statistics, 2,
				      &tables[CPUS], 0),
		  CPUS);
	CHECK_INT(pm_kstat_add_label(reader, LINKS, "interface", PM_KSTAT_FROM_INTERFACE, ""), 0);
	CHECK_INT(pm_kstat_add_label(reader, CPUS, "cpu", PM_KSTAT_FROM_INSTANCE, ""), 0);
	CHECK_INT(pm_kstat_add_nothing(reader, MEMORY, 0, UINT64_MAX - 4), 0);
	CHECK_INT(pm_kstat_add_family(reader, PM_KSTAT_ZONE, "any", "any", "", PM_KSTAT_ANY, statistics, 2, NULL, 0),
		  -1);
	return reader;
}

static void stop(pm_kstat *reader)
{
	pm_kstat_free(reader);
	for (int f = 0; f < FAMILIES; f++)
		pm_table_free(&tables[f]);
	pm_table_free(&status);
	pm_table_free(&node_status);
	while (kernel.first)
		unmake(kernel.first);
}

static const char *full_name(int zone)
{
	static char name[TEXT_BYTES];

	snprintf(name, sizeof(name), "the-first-thirty-bytes-are-same-%d", zone);
	return name;
}

static void make_zone(int zone)
{
	char name[NAME_BYTES], caps[NAME_BYTES + 1], link[NAME_BYTES + 1];

	memcpy(name, full_name(zone), NAME_BYTES - 1);
	name[NAME_BYTES - 1] = 0;
	snprintf(caps, sizeof(caps), "cpucaps_zone_%d", zone);
	snprintf(link, sizeof(link), "z%d_net0", zone);
	make("link", "net", 0, link, full_name(zone));
	make("memory_cap", "zone_memory_cap", zone, name, full_name(zone));
	make("zones", "zone_misc", zone, name, full_name(zone));
	make("caps", "zone_caps", zone, caps, full_name(zone));
}

static void unmake_zone(int zone)
{
	kernel_kstat *next;

	for (kernel_kstat *item = kernel.first; item; item = next) {
		next = item->next;
		if (strcmp(item->body.text, full_name(zone)) == 0)
			unmake(item);
	}
}

static void collect(pm_kstat *reader)
{
	CHECK_INT(pm_kstat_collect(reader, all, &status, &node_status), 0);
}

static uint64_t failures(const pm_kstat *reader)
{
	uint64_t count = 0;

	for (int reason = 0; reason < PM_KSTAT_REASONS; reason++)
		count += pm_kstat_failures(reader)[reason];
	return count;
}

static void zones_are_told_apart(const pm_kstat_library *library)
{
	const pm_kstat_event *events;
	const char *names;
	size_t count;
	pm_kstat *reader;

	make_zone(3);
	make_zone(4);
	make("zones", "zone_misc", 0, "global", "global");
	make("link", "net", 0, "net0", "global");
	make("cpu", "misc", 5, "sys", "");
	reader = start(library);
	CHECK_INT(pm_kstat_open(reader), 0);
	collect(reader);
	events = pm_kstat_events(reader, &count, &names);
	CHECK_INT(count, 4);
	CHECK_INT(events[0].change, PM_KSTAT_ZONE_APPEARED);
	CHECK_INT(events[0].boot_time_seconds, 7);
	CHECK_TEXT(names + events[0].name_offset, events[0].name_len, full_name(events[0].zone_id));
	CHECK_INT(events[2].change, PM_KSTAT_LINK_APPEARED);
	CHECK_TEXT(names + events[2].name_offset, events[2].name_len, "z3_net0");
	pm_kstat_clear_events(reader);
	CHECK_INT(pm_kstat_zone_rows(reader), 2);
	for (uint32_t row = 0; row < 2; row++) {
		CHECK(pm_table_get(&tables[ZONES], row, 0) == UINT64_MAX - 3 - row);
		CHECK(pm_table_get(&tables[CAPS], row, 0) == UINT64_MAX - 3 - row);
		CHECK_INT(pm_table_has(&tables[MEMORY], row, 0), row == 0);
		CHECK_INT(pm_table_has(&tables[MEMORY], row, 1), 1);
		CHECK_INT(tables[LINKS].labels[row].parent, row);
		CHECK_TEXT(tables[LINKS].arena.data + tables[LINKS].labels[row].offset, tables[LINKS].labels[row].len,
			   "interface=\"vnic0\",");
		CHECK_INT(pm_table_get(&status, row, 9), 1);
	}
	CHECK_INT(tables[LINKS].rows, 2);
	CHECK_INT(tables[CPUS].rows, 1);
	CHECK_INT(failures(reader), 0);
	stop(reader);
}

static void data_that_lies(const pm_kstat_library *library)
{
	kernel_kstat *memory, *link;
	pm_kstat *reader;

	make_zone(1);
	memory = find(kernel.last_kid - 2);
	link = find(kernel.last_kid - 3);
	reader = start(library);
	CHECK_INT(pm_kstat_open(reader), 0);
	collect(reader);
	for (uint32_t i = 0; i < 3; i++) {
		const uint32_t counts[] = {UINT32_MAX, 0x05555556, RECORDS + 2};
		const size_t sizes[] = {sizeof(body), sizeof(kstat_named_t), SIZE_MAX / 2};

		memory->count = counts[i];
		collect(reader);
		CHECK(!pm_table_has(&tables[MEMORY], 0, 0));
		CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_MALFORMED], 1);
		memory->count = RECORDS;
		memory->size = sizes[i];
		collect(reader);
		CHECK_INT(pm_table_has(&tables[MEMORY], 0, 0), i == 0);
		memory->size = sizeof(body);
	}
	link->body.records[0].value.str.ptr = (char *)16;
	collect(reader);
	CHECK(pm_table_has(&tables[LINKS], 0, 0));
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_STRING], 1);
	link->body.records[0].value.str.ptr = NULL;
	link->body.records[0].value.str.len = UINT32_MAX;
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_STRING], 1);
	link->body.records[0].value.str.len = TEXT_BYTES;
	memory->body.records[1].data_type = KSTAT_DATA_DOUBLE;
	memory->body.records[1].value.d = 0.5;
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_FLOAT], 1);
	memory->body.records[1].value.d = -3;
	collect(reader);
	CHECK_INT(pm_table_get(&tables[MEMORY], 0, 0), -3);
	memory->body.records[1].data_type = 77;
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_TYPE], 1);
	memory->error = ENXIO;
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[ENXIO], 1);
	CHECK_INT(pm_table_get(&status, 0, 3), 0);
	memory->error = EAGAIN;
	kernel.reads = 0;
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[EAGAIN], 1);
	CHECK(kernel.reads < 20);
	kernel.fails = EIO;
	CHECK_INT(pm_kstat_collect(reader, all, &status, &node_status), EIO);
	kernel.fails = 0;
	memory->error = 0;
	collect(reader);
	CHECK_INT(failures(reader), 1);
	stop(reader);
}

static void churn(const pm_kstat_library *library)
{
	enum { ROUNDS = 1000, ZONES_AT_ONCE = 12 };
	pm_table row_tables[FAMILIES], row_status;
	pm_table *given[FAMILIES];
	pm_kstat *reader = start(library);

	for (int f = 0; f < FAMILIES; f++) {
		pm_table_init(&row_tables[f], 2);
		given[f] = &row_tables[f];
	}
	pm_table_init(&row_status, 12);
	CHECK_INT(pm_kstat_open(reader), 0);
	for (int round = 1; round <= ROUNDS; round++) {
		int answer;

		make_zone(round);
		if (round % 3 == 0)
			unmake_zone(round - round % 7 - 1);
		if (round > ZONES_AT_ONCE)
			unmake_zone(round - ZONES_AT_ONCE);
		if (round % 5 == 0) {
			unmake_zone(round);
			make_zone(round);
		}
		collect(reader);
		if (round % 2)
			pm_kstat_clear_events(reader);
		answer = pm_kstat_collect_zone(reader, (uint32_t)round % 8, given, &row_status);
		CHECK(answer >= 0 && (!answer || (row_tables[ZONES].rows == 1 && row_tables[LINKS].rows <= 1)));
		CHECK_INT(failures(reader), 0);
	}
	CHECK(pm_kstat_zone_rows(reader) <= ZONES_AT_ONCE + 1);
	CHECK(tables[LINKS].rows <= ZONES_AT_ONCE + 1 && tables[LINKS].arena.len < 8192);
	for (int f = 0; f < FAMILIES; f++)
		pm_table_free(&row_tables[f]);
	pm_table_free(&row_status);
	stop(reader);
}

/* More than there was room for, and less again; the sanitizers look after what becomes of the memory. */
static void data_that_grows(const pm_kstat_library *library)
{
	const size_t sizes[] = {sizeof(body), 40000, sizeof(body), 300000, 1000};
	kernel_kstat *memory;
	pm_kstat *reader;

	make_zone(1);
	make_zone(2);
	memory = find(kernel.last_kid - 2);
	reader = start(library);
	CHECK_INT(pm_kstat_open(reader), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		memory->size = sizes[i];
		memory->body.records[1].value.ui64 = i;
		collect(reader);
		CHECK_INT(pm_table_get(&tables[MEMORY], 1, 0), i);
		CHECK_INT(failures(reader), 0);
	}
	stop(reader);
}

static void a_size_that_is_absurd_from_the_start(void)
{
	pm_kstat *reader;

	make_zone(1);
	make_zone(2);
	find(kernel.last_kid - 2)->size = SIZE_MAX;
	reader = start(&by_library);
	CHECK_INT(pm_kstat_open(reader), 0);
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_MALFORMED], 1);
	CHECK(pm_table_get(&tables[MEMORY], 0, 0) == UINT64_MAX - 1);
	stop(reader);
}

/* Ids that come, or go, in front of those of zones that stay: their headers are others, the zones are not. */
static void headers_that_are_made_anew(const pm_kstat_library *library)
{
	enum { ROUNDS = 4 };
	kernel_kstat *low[ROUNDS];
	const pm_kstat_event *events;
	const char *names;
	size_t count;
	pm_kstat *reader;
	unsigned made;

	for (int i = 0; i < ROUNDS; i++) {
		low[i] = make("zones", "zone_misc", 100 + i, "low", "low");
		low[i]->invalid = 1;
		make_zone(1 + i);
	}
	reader = start(library);
	CHECK_INT(pm_kstat_open(reader), 0);
	collect(reader);
	CHECK_INT(pm_kstat_zone_rows(reader), ROUNDS);
	for (int i = 0; i < ROUNDS; i++) {
		pm_kstat_clear_events(reader);
		made = kernel.made;
		low[i]->invalid = 0;
		kernel.chain_id++;
		collect(reader);
		CHECK(kernel.made - made == 1 + 4 * (unsigned)(ROUNDS - i));
		events = pm_kstat_events(reader, &count, &names);
		CHECK_INT(count, 1);
		CHECK_INT(events[0].change, PM_KSTAT_ZONE_APPEARED);
		CHECK_INT(events[0].zone_id, 100 + i);
		CHECK_INT(failures(reader), 0);
		for (uint32_t row = 0; row < ROUNDS; row++) {
			CHECK(pm_table_get(&tables[ZONES], row, 0) == UINT64_MAX - 1 - row);
			CHECK(pm_table_get(&tables[CAPS], row, 0) == UINT64_MAX - 1 - row);
			CHECK_INT(pm_table_get(&status, row, 9), 1);
		}
	}
	pm_kstat_clear_events(reader);
	unmake(low[0]);
	low[1]->invalid = 1;
	kernel.chain_id++;
	collect(reader);
	events = pm_kstat_events(reader, &count, &names);
	CHECK_INT(count, 2);
	CHECK_INT(events[0].change, PM_KSTAT_ZONE_GONE);
	CHECK_INT(events[1].change, PM_KSTAT_ZONE_GONE);
	CHECK(pm_table_get(&tables[ZONES], 0, 0) == UINT64_MAX - 1);
	stop(reader);
}

/* Kstats come while the chain is opened: the device is one nevertheless. */
static void a_chain_id_that_moves(const pm_kstat_library *by_ioctl)
{
	pm_kstat *reader;

	make_zone(1);
	kernel.moves = 1;
	reader = start(by_ioctl);
	CHECK_INT(pm_kstat_open(reader), 0);
	kernel.library_reads = kernel.reads = 0;
	collect(reader);
	CHECK_INT(kernel.library_reads, 0);
	CHECK(kernel.reads > 0);
	kernel.moves = 0;
	stop(reader);
}

static void a_library_with_memory_of_its_own(void)
{
	pm_kstat_library library = by_library;
	pm_kstat *reader;

	library.read = read_into_own;
	library.close = close_chain_of_own;
	make_zone(1);
	reader = start(&library);
	CHECK_INT(pm_kstat_open(reader), 0);
	for (int round = 0; round < 3; round++) {
		collect(reader);
		CHECK(pm_table_get(&tables[ZONES], 0, 0) == UINT64_MAX - 1);
		CHECK_INT(failures(reader), 0);
	}
	stop(reader);
}

static void a_library_that_frees_at_every_read(void)
{
	pm_kstat_library library = by_library;
	pm_kstat *reader;

	library.read = read_into_new;
	make_zone(1);
	make_zone(2);
	reader = start(&library);
	CHECK_INT(pm_kstat_open(reader), 0);
	for (int round = 0; round < 3; round++) {
		collect(reader);
		CHECK(pm_table_get(&tables[ZONES], 1, 0) == UINT64_MAX - 2);
		CHECK_INT(failures(reader), 0);
	}
	stop(reader);
}

static void an_open_that_fails(void)
{
	pm_kstat *reader = start(&by_library);

	kernel.fails = EACCES;
	CHECK_INT(pm_kstat_open(reader), EACCES);
	kernel.fails = 0;
	stop(reader);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static void no_memory(void)
{
	/* the sanitizers have a realloc of their own */
}
#else
static unsigned realloc_calls, refused_call;
static int refuses_all;
extern void *__libc_realloc(void *memory, size_t size);

void *realloc(void *memory, size_t size)
{
	return refuses_all || ++realloc_calls == refused_call ? NULL : __libc_realloc(memory, size);
}

static unsigned count_events(pm_kstat *reader, pm_kstat_change change)
{
	const char *names;
	unsigned found = 0;
	size_t count;
	const pm_kstat_event *events = pm_kstat_events(reader, &count, &names);

	for (size_t i = 0; i < count; i++)
		found += events[i].change == change;
	return found;
}

/* Whatever there is no memory for is done at the next collection, and each change is told once. */
static void no_memory(void)
{
	enum { MANY = 70 };
	int refused = 1;

	for (unsigned call = 1; refused; call++) {
		pm_kstat *reader;
		int error;

		for (int zone = 1; zone <= MANY; zone++)
			make_zone(zone);
		reader = start(&by_library);
		CHECK_INT(pm_kstat_open(reader), 0);
		realloc_calls = 0;
		refused_call = call;
		error = pm_kstat_collect(reader, all, &status, &node_status);
		refused = realloc_calls >= call;
		refused_call = 0;
		CHECK(error == 0 || (error == ENOMEM && refused));
		CHECK_INT(pm_kstat_collect(reader, all, &status, &node_status), 0);
		CHECK_INT(count_events(reader, PM_KSTAT_ZONE_APPEARED), MANY);
		CHECK_INT(count_events(reader, PM_KSTAT_LINK_APPEARED), MANY);
		for (int zone = 1; zone <= MANY; zone++)
			unmake_zone(zone);
		refuses_all = 1;
		CHECK_INT(pm_kstat_collect(reader, all, &status, &node_status), 0);
		refuses_all = 0;
		CHECK_INT(count_events(reader, PM_KSTAT_ZONE_GONE), MANY);
		stop(reader);
	}
}
#endif

int main(void)
{
	pm_kstat_library by_ioctl = by_library;
	const pm_kstat_library *libraries[] = {&by_library, &by_ioctl};

	by_ioctl.open = open_device;
	for (int i = 0; i < 2; i++) {
		zones_are_told_apart(libraries[i]);
		data_that_lies(libraries[i]);
		churn(libraries[i]);
		data_that_grows(libraries[i]);
		headers_that_are_made_anew(libraries[i]);
	}
	a_chain_id_that_moves(&by_ioctl);
	a_size_that_is_absurd_from_the_start();
	a_library_with_memory_of_its_own();
	a_library_that_frees_at_every_read();
	an_open_that_fails();
	no_memory();
	return check_result("test_kstat");
}
