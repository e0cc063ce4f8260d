#include "kstat_collect.h"

#include <errno.h>

#include "cells.h"
#include "chain.h"
#include "clock.h"
#include "labels.h"
#include "slots.h"
#include "zones.h"

enum { AHEAD = 3, LINE_BYTES = 64 };

enum { TIMED_TOGETHER = 16 };

/* Reads that are timed together, because reading the clock costs a tenth of a read. Each gets an equal part of the
 * time. */
typedef struct {
	uint64_t *timers[TIMED_TOGETHER];
	uint32_t count;
	int64_t since_ns;
} pm_kstat_clock;

/* Status columns of a collector. The one between them, whether the data is cached, is always 0. */
enum { AVAILABLE = 0, TIMER_NS = 2 };

static void begin(pm_kstat *kstat)
{
	memset(kstat->failures, 0, sizeof(kstat->failures));
	pm_kstat_reading_renew(&kstat->reading);
}

static void clear_cells(pm_table *table)
{
	if (table->rows)
		memset(table->present, 0, (size_t)table->rows * table->words * sizeof(*table->present));
}

static void record_time(pm_kstat_clock *clock)
{
	int64_t now = pm_monotonic_ns();

	for (uint32_t i = 0; i < clock->count; i++)
		*clock->timers[i] += (uint64_t)(now - clock->since_ns) / clock->count;
	clock->count = 0;
	clock->since_ns = now;
}

static void record_read(pm_table *status, uint32_t row, uint32_t first, int available, pm_kstat_clock *clock)
{
	uint64_t *cells = &status->cells[(size_t)row * status->columns + first];

	cells[AVAILABLE] |= (uint64_t)available;
	clock->timers[clock->count++] = &cells[TIMER_NS];
	if (clock->count == TIMED_TOGETHER)
		record_time(clock);
}

/* Set a row of a status table: no wanted collector is available yet. */
static void start_status(const pm_kstat *kstat, pm_table *status, uint32_t row, const uint8_t *wanted, int of_node)
{
	pm_table_unset_row(status, row);
	for (uint32_t f = 0; f < kstat->family_count; f++) {
		const pm_kstat_family *family = &kstat->families[f];

		if (wanted[f] && (family->rows == PM_KSTAT_NODE) == of_node)
			for (uint32_t i = AVAILABLE; i <= TIMER_NS; i++)
				pm_table_set(status, row, family->status + i, 0);
	}
}

static int is_any(const pm_kstat *kstat, const uint8_t *wanted)
{
	return memchr(wanted, 1, kstat->family_count) != NULL;
}

static void start_zones_status(const pm_kstat *kstat, pm_table *status, const uint8_t *wanted)
{
	size_t cells = status->columns * sizeof(*status->cells), words = status->words * sizeof(*status->present);

	if (kstat->zone_rows == 0)
		return;
	if (!is_any(kstat, wanted)) {
		clear_cells(status);
		return;
	}
	start_status(kstat, status, 0, wanted, 0);
	for (uint32_t row = 1; row < kstat->zone_rows; row++) {
		memcpy(&status->cells[(size_t)row * status->columns], status->cells, cells);
		memcpy(&status->present[(size_t)row * status->words], status->present, words);
	}
	for (uint32_t row = 0; row < kstat->zone_rows; row++)
		if (!kstat->zones[row].live)
			pm_table_unset_row(status, row);
}

static int start_tables(const pm_kstat *kstat, const uint8_t *wanted, pm_table *status, pm_table *node_status)
{
	for (uint32_t f = 0; f < kstat->family_count; f++) {
		pm_kstat_family *family = &kstat->families[f];

		if (family->rows == PM_KSTAT_NODE) {
			pm_table_clear(family->table);
			continue;
		}
		if (family->rows == PM_KSTAT_ZONE && pm_table_grow(family->table, kstat->zone_rows) < 0)
			return ENOMEM;
		clear_cells(family->table);
	}
	if (pm_table_grow(status, kstat->zone_rows) < 0)
		return ENOMEM;
	start_zones_status(kstat, status, wanted);
	pm_table_clear(node_status);
	if (pm_table_append(node_status, PM_NO_PARENT) < 0)
		return ENOMEM;
	start_status(kstat, node_status, 0, wanted, 1);
	return 0;
}

/* Read a kstat into a row. Returns 0 or a reason, which has been counted. */
static int read_into(pm_kstat *kstat, const pm_kstat_slot *slot, pm_table *table, uint32_t row, pm_kstat_texts *texts)
{
	pm_kstat_data data;
	int reason = pm_kstat_read(&kstat->reading, slot->kstat, &data);

	if (!reason)
		reason = pm_kstat_family_set(&kstat->families[slot->family], &data, table, row, texts, kstat->failures);
	if (reason)
		kstat->failures[reason]++;
	return reason;
}

/* Return whether a row has any cell. A kstat that was read may lack every wanted statistic. */
static int has_any(const pm_table *table, uint32_t row)
{
	const uint64_t *present = &table->present[(size_t)row * table->words];
	uint64_t any = 0;

	for (uint32_t word = 0; word < table->words; word++)
		any |= present[word];
	return any != 0;
}

/* Return whether a link still belongs to its zone. If not, its zone will be looked up again. */
static int is_still_of(pm_kstat *kstat, uint32_t number, const pm_kstat_texts *texts)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	const pm_kstat_zone *zone = &kstat->zones[slot->zone];

	if (texts->zone.len == 0 ||
	    (texts->zone.len == zone->name_len && memcmp(texts->zone.text, zone->name, zone->name_len) == 0))
		return 1;
	pm_kstat_detach(kstat, number);
	slot->state = SLOT_UNREAD;
	pm_kstat_pend(kstat, number);
	return 0;
}

/* Read a kstat of the node into a new row with labels. Returns 1, or 0 if there is no value. */
static int read_node(pm_kstat *kstat, const pm_kstat_slot *slot)
{
	const pm_kstat_family *family = &kstat->families[slot->family];
	pm_table *table = family->table;
	pm_kstat_texts texts;
	int64_t row;
	int good;

	if (family->label_count == 0 && table->rows)
		return 0; /* without labels, a second row would be a duplicate */
	row = pm_table_append(table, PM_NO_PARENT);
	if (row < 0) {
		kstat->failures[ENOMEM]++;
		return 0;
	}
	good = !read_into(kstat, slot, table, (uint32_t)row, &texts);
	for (uint32_t i = 0; i < family->label_count && good; i++)
		good = family->labels[i].from != PM_KSTAT_FROM_STATISTIC || texts.labels[i].text != NULL;
	if (good && (pm_kstat_label_block(kstat, family, slot->kstat.header, &texts, 0, 1) < 0 ||
		     pm_table_relabel(table, (uint32_t)row, kstat->labels.data, kstat->labels.len) < 0)) {
		kstat->failures[ENOMEM]++;
		good = 0;
	}
	if (!good)
		table->rows--;
	return good && has_any(table, (uint32_t)row);
}

static int read_zone(pm_kstat *kstat, uint32_t number)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	const pm_kstat_family *family = &kstat->families[slot->family];
	uint32_t row = family->rows == PM_KSTAT_ZONE ? slot->zone : slot->row;
	pm_kstat_texts texts;

	if (read_into(kstat, slot, family->table, row, &texts))
		return 0;
	return (family->rows == PM_KSTAT_ZONE || is_still_of(kstat, number, &texts)) && has_any(family->table, row);
}

/* Find zones that have booted since they appeared: only then do they have a boot time. */
static int note_boots(pm_kstat *kstat)
{
	const pm_table *table = kstat->families[0].table;

	if (kstat->boot_time == PM_NONE)
		return 0;
	for (uint32_t row = 0; row < kstat->zone_rows; row++) {
		const pm_kstat_zone *zone = &kstat->zones[row];

		if (zone->live && zone->boot_time_seconds == 0 && pm_table_has(table, row, kstat->boot_time) &&
		    pm_table_get(table, row, kstat->boot_time) != 0 &&
		    pm_kstat_restart(kstat, row, pm_table_get(table, row, kstat->boot_time)) < 0)
			return ENOMEM;
	}
	return 0;
}

static void prefetch(const void *start, size_t size)
{
	for (size_t offset = 0; offset < size; offset += LINE_BYTES)
		__builtin_prefetch((const char *)start + offset);
}

static void prefetch_row(const pm_table *table, uint32_t row)
{
	size_t size = table->columns * sizeof(*table->cells);
	const char *cells = (const char *)&table->cells[(size_t)row * table->columns];

	for (size_t offset = 0; offset < size + LINE_BYTES - 1; offset += LINE_BYTES)
		__builtin_prefetch(cells + offset, 1);
	__builtin_prefetch(&table->present[(size_t)row * table->words], 1);
}

static uint32_t slot_at(const pm_kstat *kstat, uint32_t position)
{
	return position < kstat->chain.len ? kstat->chain.slots[position] : PM_NONE;
}

/* Prefetch for the kstats after this one: first their slots, then the headers and rows. */
static void look_ahead(const pm_kstat *kstat, uint32_t position)
{
	uint32_t far = slot_at(kstat, position + 2 * AHEAD), near = slot_at(kstat, position + AHEAD);

	if (far != PM_NONE)
		__builtin_prefetch(&kstat->slots[far]);
	if (near != PM_NONE) {
		const pm_kstat_slot *slot = &kstat->slots[near];
		const pm_kstat_family *family = &kstat->families[slot->family];

		if (!kstat->reading.direct)
			prefetch(slot->kstat.header, sizeof(*slot->kstat.header));
		if (slot->zone != PM_NONE)
			prefetch_row(family->table, family->rows == PM_KSTAT_ZONE ? slot->zone : slot->row);
	}
}

int pm_kstat_collect(pm_kstat *kstat, const uint8_t *wanted, pm_table *status, pm_table *node_status)
{
	pm_kstat_clock clock = {.count = 0};
	int error;

	begin(kstat);
	error = pm_kstat_update(kstat);
	if (!error)
		error = start_tables(kstat, wanted, status, node_status);
	if (error || !is_any(kstat, wanted))
		return error;
	clock.since_ns = pm_monotonic_ns();
	for (uint32_t position = 0; position < kstat->chain.len; position++) {
		uint32_t number = kstat->chain.slots[position], zone;
		pm_kstat_family *family;
		int available;

		look_ahead(kstat, position);
		if (number == PM_NONE || !wanted[kstat->slots[number].family])
			continue;
		family = &kstat->families[kstat->slots[number].family];
		zone = kstat->slots[number].zone;
		if (family->rows == PM_KSTAT_NODE)
			available = read_node(kstat, &kstat->slots[number]);
		else if (zone != PM_NONE)
			available = read_zone(kstat, number);
		else
			continue;
		if (family->rows == PM_KSTAT_NODE)
			record_read(node_status, 0, family->status, available, &clock);
		else
			record_read(status, zone, family->status, available, &clock);
	}
	record_time(&clock);
	return wanted[0] ? note_boots(kstat) : 0;
}

static int collect_slot(pm_kstat *kstat, uint32_t number, pm_table *table, pm_table *status)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	const pm_kstat_family *family = &kstat->families[slot->family];
	pm_kstat_clock clock = {.since_ns = pm_monotonic_ns()};
	uint32_t row = 0;
	pm_kstat_texts texts;
	int available;

	if (family->rows == PM_KSTAT_OF_ZONE) {
		const pm_row_labels *labels = &family->table->labels[slot->row];
		int64_t made = pm_table_append(table, 0);

		if (made < 0)
			return ENOMEM;
		row = (uint32_t)made;
		if (pm_table_relabel(table, row, family->table->arena.data + labels->offset, labels->len) < 0)
			return ENOMEM;
	}
	available = !read_into(kstat, slot, table, row, &texts);
	if (available && family->rows == PM_KSTAT_OF_ZONE && !is_still_of(kstat, number, &texts)) {
		pm_table_unset_row(table, row);
		available = 0;
	}
	available = available && has_any(table, row);
	if (status != NULL) {
		record_read(status, 0, family->status, available, &clock);
		record_time(&clock);
	}
	return 0;
}

int pm_kstat_collect_zone(pm_kstat *kstat, uint32_t row, pm_table *const *tables, pm_table *status)
{
	uint8_t wanted[PM_KSTAT_FAMILIES];
	int error;

	begin(kstat);
	error = pm_kstat_update(kstat);
	if (error)
		return -error;
	if (row >= kstat->zone_rows || !kstat->zones[row].live || !kstat->zones[row].reported)
		return 0;
	for (uint32_t f = 0; f < kstat->family_count; f++)
		wanted[f] = tables[f] != NULL;
	if (status != NULL) {
		if (pm_table_clear_to(status, 1) < 0)
			return -ENOMEM;
		start_status(kstat, status, 0, wanted, 0);
	}
	for (uint32_t f = 0; f < kstat->family_count; f++) {
		uint32_t number = kstat->zone_slots[(size_t)row * kstat->family_count + f];

		if (tables[f] == NULL)
			continue;
		if (kstat->families[f].rows == PM_KSTAT_OF_ZONE)
			pm_table_clear(tables[f]);
		else if (pm_table_clear_to(tables[f], 1) < 0)
			return -ENOMEM;
		else if (number != PM_NONE && collect_slot(kstat, number, tables[f], status))
			return -ENOMEM;
	}
	for (uint32_t i = kstat->zones[row].first_link, next; i != PM_NONE; i = next) {
		next = kstat->slots[i].next;
		if (tables[kstat->slots[i].family] != NULL &&
		    collect_slot(kstat, i, tables[kstat->slots[i].family], status))
			return -ENOMEM;
	}
	return 1;
}
