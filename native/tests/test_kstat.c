/* The kstat reader against a chain of its own: zones that come and go, data that lies. */
#include "kstat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

enum { RECORDS = 4, TEXT_BYTES = 64, NAME_BYTES = 31, MOST_BYTES = 1 << 20 };

/* A kstat as the kernel has it, and its headers in the library. */
typedef struct {
	kstat_named_t records[RECORDS];
	char text[TEXT_BYTES];
} body;

typedef struct kernel_kstat {
	struct kernel_kstat *next;
	kstat_t header;
	uint32_t count;
	size_t size;
	int error;
	body body;
} kernel_kstat;

static struct {
	kernel_kstat *first;
	kid_t last_kid, chain_id;
	int fails;
	unsigned reads;
} kernel;

static kstat_ctl_t ctl;

static kernel_kstat *find(kid_t kid)
{
	kernel_kstat *item = kernel.first;

	while (item && item->header.ks_kid != kid)
		item = item->next;
	return item;
}

static void put_name(char field[NAME_BYTES], const char *name)
{
	size_t len = strlen(name);

	memcpy(field, name, len < NAME_BYTES ? len : NAME_BYTES);
}

static kernel_kstat *make(const char *module, const char *class, int instance, const char *name, const char *zone)
{
	kernel_kstat *made = calloc(1, sizeof(*made)), **end = &kernel.first;

	put_name(made->header.ks_module, module);
	put_name(made->header.ks_class, class);
	put_name(made->header.ks_name, name);
	made->header.ks_instance = instance;
	made->header.ks_kid = ++kernel.last_kid;
	made->header.ks_type = KSTAT_TYPE_NAMED;
	made->count = RECORDS;
	made->size = sizeof(made->body);
	put_name(made->body.records[0].name, "zonename");
	made->body.records[0].data_type = KSTAT_DATA_STRING;
	made->body.records[0].value.str.len = (uint32_t)snprintf(made->body.text, TEXT_BYTES, "%s", zone) + 1;
	put_name(made->body.records[1].name, "value");
	made->body.records[1].data_type = KSTAT_DATA_UINT64;
	made->body.records[1].value.ui64 = UINT64_MAX - (uint64_t)instance;
	put_name(made->body.records[2].name, "boot_time");
	made->body.records[2].data_type = KSTAT_DATA_INT32;
	made->body.records[2].value.i32 = 7;
	kernel.chain_id++;
	while (*end)
		end = &(*end)->next;
	*end = made;
	return made;
}

static void unmake(kernel_kstat *item)
{
	kernel_kstat **at = &kernel.first;

	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	free(item);
	kernel.chain_id++;
}

static kid_t chain_update(kstat_ctl_t *kc)
{
	kstat_t **at = &kc->kc_chain;

	if (kernel.fails) {
		errno = kernel.fails;
		return -1;
	}
	if (kc->kc_chain_id == kernel.chain_id)
		return 0;
	while (*at) {
		kstat_t *header = *at;

		if (find(header->ks_kid)) {
			at = &header->ks_next;
			continue;
		}
		*at = header->ks_next;
		free(header->ks_data);
		free(header);
	}
	for (const kernel_kstat *item = kernel.first; item; item = item->next) {
		kstat_t *header = kc->kc_chain;

		while (header && header->ks_kid != item->header.ks_kid)
			header = header->ks_next;
		if (header)
			continue;
		header = malloc(sizeof(*header));
		*header = item->header;
		header->ks_data_size = item->size;
		header->ks_ndata = item->count;
		*at = header;
		at = &header->ks_next;
	}
	kc->kc_chain_id = kernel.chain_id;
	return kernel.chain_id;
}

static kstat_ctl_t *open_chain(void)
{
	if (kernel.fails) {
		errno = kernel.fails;
		return NULL;
	}
	ctl = (kstat_ctl_t){.kc_kd = -1, .kc_chain_id = -1};
	chain_update(&ctl);
	return &ctl;
}

static int close_chain(kstat_ctl_t *kc)
{
	while (kc->kc_chain) {
		kstat_t *header = kc->kc_chain;

		kc->kc_chain = header->ks_next;
		free(header->ks_data);
		free(header);
	}
	return kc->kc_kd >= 0 ? close(kc->kc_kd) : 0;
}

static int copy_out(const kernel_kstat *item, void *data)
{
	body *copy = data;

	kernel.reads++;
	if (item->error) {
		errno = item->error;
		return -1;
	}
	*copy = item->body;
	if (copy->records[0].value.str.ptr == NULL)
		copy->records[0].value.str.ptr = copy->text;
	return 0;
}

static kid_t read_kstat(kstat_ctl_t *kc, kstat_t *header, void *buffer)
{
	const kernel_kstat *item = find(header->ks_kid);

	(void)buffer;
	if (!item) {
		errno = ENXIO;
		return -1;
	}
	if (!header->ks_data || (item->size > header->ks_data_size && item->size <= MOST_BYTES)) {
		free(header->ks_data);
		header->ks_data =
			malloc(item->size > sizeof(body) && item->size <= MOST_BYTES ? item->size : sizeof(body));
	}
	header->ks_ndata = item->count;
	header->ks_data_size = item->size;
	header->ks_type = item->header.ks_type;
	return copy_out(item, header->ks_data) ? -1 : kc->kc_chain_id;
}

/* A library that gives its own memory, whatever comes with the kstat. */
static kid_t read_into_own(kstat_ctl_t *kc, kstat_t *header, void *buffer)
{
	static body own;

	header->ks_data = &own;
	return read_kstat(kc, header, buffer);
}

/* It frees nothing that is in its own memory. */
static int close_chain_of_own(kstat_ctl_t *kc)
{
	for (kstat_t *header = kc->kc_chain; header; header = header->ks_next)
		header->ks_data = NULL;
	return close_chain(kc);
}

static int call_ioctl(int descriptor, int request, ...)
{
	va_list arguments;
	kstat_t *header;
	const kernel_kstat *item;

	(void)descriptor;
	if (request == KSTAT_IOC_CHAIN_ID)
		return kernel.chain_id;
	va_start(arguments, request);
	header = va_arg(arguments, kstat_t *);
	va_end(arguments);
	item = find(header->ks_kid);
	if (!item) {
		errno = ENXIO;
		return -1;
	}
	if (header->ks_data_size < item->size) {
		header->ks_data_size = item->size;
		errno = ENOMEM;
		return -1;
	}
	header->ks_data_size = item->size;
	header->ks_ndata = item->count;
	return copy_out(item, header->ks_data) ? -1 : kernel.chain_id;
}

static kstat_ctl_t *open_device(void)
{
	kstat_ctl_t *kc = open_chain();

	if (kc)
		kc->kc_kd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return kc;
}

static const pm_kstat_library by_library = {
	.open = open_chain,
	.close = close_chain,
	.chain_update = chain_update,
	.read = read_kstat,
	.ioctl = call_ioctl,
};

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

/* More than the reader lends, and less again; the sanitizers look after what becomes of the memory. */
static void data_that_outgrows_what_is_lent(void)
{
	const size_t sizes[] = {sizeof(body), 40000, sizeof(body), 300000, 1000};
	kernel_kstat *memory;
	pm_kstat *reader;

	make_zone(1);
	make_zone(2);
	memory = find(kernel.last_kid - 2);
	reader = start(&by_library);
	CHECK_INT(pm_kstat_open(reader), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		memory->size = sizes[i];
		memory->body.records[1].value.ui64 = i;
		collect(reader);
		CHECK_INT(pm_table_get(&tables[MEMORY], 1, 0), i);
		CHECK_INT(failures(reader), 0);
	}
	for (const kstat_t *header = ctl.kc_chain; header; header = header->ks_next)
		CHECK((header->ks_data != NULL) == (header->ks_kid == memory->header.ks_kid));
	stop(reader);
}

/* It is not lent to; the others still are. */
static void a_size_that_is_absurd_from_the_start(void)
{
	kernel_kstat *memory;
	pm_kstat *reader;

	make_zone(1);
	make_zone(2);
	memory = find(kernel.last_kid - 2);
	memory->size = SIZE_MAX;
	reader = start(&by_library);
	CHECK_INT(pm_kstat_open(reader), 0);
	collect(reader);
	CHECK_INT(pm_kstat_failures(reader)[PM_KSTAT_MALFORMED], 1);
	for (const kstat_t *header = ctl.kc_chain; header; header = header->ks_next)
		CHECK((header->ks_data != NULL) == (header->ks_kid == memory->header.ks_kid));
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

static void an_open_that_fails(void)
{
	pm_kstat *reader = start(&by_library);

	kernel.fails = EACCES;
	CHECK_INT(pm_kstat_open(reader), EACCES);
	kernel.fails = 0;
	stop(reader);
}

int main(void)
{
	pm_kstat_library by_ioctl = by_library;
	const pm_kstat_library *libraries[] = {&by_library, &by_ioctl};

	by_ioctl.open = open_device;
	for (int i = 0; i < 2; i++) {
		zones_are_told_apart(libraries[i]);
		data_that_lies(libraries[i]);
		churn(libraries[i]);
	}
	data_that_outgrows_what_is_lent();
	a_size_that_is_absurd_from_the_start();
	a_library_with_memory_of_its_own();
	an_open_that_fails();
	return check_result("test_kstat");
}
