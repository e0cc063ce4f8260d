#include "zones.h"

#include <errno.h>

#include "cells.h"
#include "events.h"
#include "links.h"
#include "slots.h"

enum { KERNEL_CUT = KSTAT_STRLEN - 1 }; /* bytes of a zone's name that a kstat has */

static const char GLOBAL[] = "global";

static uint64_t id_hash(int id)
{
	return pm_lookup_hash((uint32_t)id, "", 0);
}

static int is_name(const pm_kstat_zone *zone, pm_kstat_text name)
{
	return zone->name_len == name.len && memcmp(zone->name, name.text, name.len) == 0;
}

static uint32_t *slots_of(const pm_kstat *kstat, uint32_t row)
{
	return &kstat->zone_slots[(size_t)row * kstat->family_count];
}

static uint32_t zone_by_id(const pm_kstat *kstat, int id)
{
	uint32_t cursor = 0, row;

	while ((row = pm_lookup_next(&kstat->zone_ids, id_hash(id), &cursor)) != PM_NONE)
		if (kstat->zones[row].id == id)
			return row;
	return PM_NONE;
}

static uint32_t zone_by_name(const pm_kstat *kstat, pm_kstat_text name)
{
	uint32_t cursor = 0, row;

	while ((row = pm_lookup_next(&kstat->zone_names, pm_kstat_name_hash(name), &cursor)) != PM_NONE)
		if (is_name(&kstat->zones[row], name))
			return row;
	return PM_NONE;
}

static int belongs_to(const pm_kstat *kstat, const pm_kstat_slot *slot, uint32_t row)
{
	const pm_kstat_zone *zone = &kstat->zones[row];
	const kstat_t *header = slot->kstat.header;
	size_t len = pm_kstat_name_len(header->ks_name);
	char name[KSTAT_STRLEN + 1];

	/* A name of 31 bytes without NUL is accepted, although the kernel always writes the NUL. */
	for (size_t cut = KERNEL_CUT; cut <= KSTAT_STRLEN; cut++) {
		pm_kstat_text text = {zone->name, zone->name_len};

		if (pm_kstat_family_name(&kstat->families[slot->family], zone->id, text, cut, name) == len &&
		    memcmp(name, header->ks_name, len) == 0)
			return header->ks_instance == zone->id;
	}
	return 0;
}

void pm_kstat_join(pm_kstat *kstat, uint32_t number)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	uint32_t row = zone_by_id(kstat, slot->kstat.header->ks_instance);

	if (row != PM_NONE && slots_of(kstat, row)[slot->family] == PM_NONE && belongs_to(kstat, slot, row)) {
		slot->zone = row;
		slots_of(kstat, row)[slot->family] = number;
	}
}

static void join_all(pm_kstat *kstat, uint32_t row)
{
	const pm_kstat_zone *zone = &kstat->zones[row];

	for (uint32_t f = 1; f < kstat->family_count; f++) {
		if (kstat->families[f].rows != PM_KSTAT_ZONE)
			continue;
		for (size_t cut = KERNEL_CUT; cut <= KSTAT_STRLEN; cut++) {
			char name[KSTAT_STRLEN + 1];
			pm_kstat_text text = {zone->name, zone->name_len};
			size_t len = pm_kstat_family_name(&kstat->families[f], zone->id, text, cut, name);
			uint64_t key = pm_kstat_key(f, zone->id, name, len);
			uint32_t cursor = 0, number;

			while ((number = pm_lookup_next(&kstat->index, key, &cursor)) != PM_NONE)
				if (kstat->slots[number].family == f)
					pm_kstat_join(kstat, number);
			if (len < cut)
				break;
		}
	}
}

static uint32_t new_row(pm_kstat *kstat)
{
	uint32_t row = kstat->free_zone, cap = kstat->zone_cap;

	if (row != PM_NONE) {
		kstat->free_zone = kstat->zones[row].first_link;
		return row;
	}
	if (pm_kstat_reserve(&kstat->zones, &cap, kstat->zone_rows + 1, sizeof(*kstat->zones)) < 0 ||
	    pm_kstat_reserve(&kstat->zone_slots, &kstat->zone_cap, kstat->zone_rows + 1,
			     kstat->family_count * sizeof(*kstat->zone_slots)) < 0)
		return PM_NONE;
	return kstat->zone_rows++;
}

static void free_row(pm_kstat *kstat, uint32_t row)
{
	kstat->zones[row] = (pm_kstat_zone){.first_link = kstat->free_zone};
	kstat->free_zone = row;
}

static int add_zone(pm_kstat *kstat, uint32_t number, pm_kstat_text name, uint64_t boot_time_seconds)
{
	int id = kstat->slots[number].kstat.header->ks_instance;
	uint32_t row;
	pm_kstat_zone *zone;

	/* one event for its appearance, one for its removal */
	if (pm_kstat_events_reserve(kstat, 2, name.len) < 0)
		return -1;
	row = new_row(kstat);
	if (row == PM_NONE)
		return -1;
	zone = &kstat->zones[row];
	*zone = (pm_kstat_zone){
		.name = malloc(name.len),
		.name_len = name.len,
		.id = id,
		.name_hash = pm_kstat_name_hash(name),
		.boot_time_seconds = boot_time_seconds,
		.first_link = PM_NONE,
	};
	if (zone->name == NULL || pm_lookup_insert(&kstat->zone_ids, id_hash(id), row) < 0) {
		free(zone->name);
		free_row(kstat, row);
		return -1;
	}
	if (pm_lookup_insert(&kstat->zone_names, zone->name_hash, row) < 0) {
		pm_lookup_remove(&kstat->zone_ids, id_hash(id), row);
		free(zone->name);
		free_row(kstat, row);
		return -1;
	}
	memcpy(zone->name, name.text, name.len);
	zone->live = 1;
	kstat->live_zones++;
	for (uint32_t f = 0; f < kstat->family_count; f++)
		slots_of(kstat, row)[f] = PM_NONE;
	slots_of(kstat, row)[0] = number;
	kstat->slots[number].zone = row;
	kstat->slots[number].state = SLOT_ATTACHED;
	join_all(kstat, row);
	kstat->zone_appeared = 1;
	pm_kstat_event_zone(kstat, row);
	return 0;
}

static void remove_zone(pm_kstat *kstat, uint32_t row)
{
	pm_kstat_zone *zone = &kstat->zones[row];

	for (uint32_t f = 0; f < kstat->family_count; f++)
		if (slots_of(kstat, row)[f] != PM_NONE)
			kstat->slots[slots_of(kstat, row)[f]].zone = PM_NONE;
	for (uint32_t i = zone->first_link, next; i != PM_NONE; i = next) {
		next = kstat->slots[i].next;
		pm_kstat_release_link(kstat, &kstat->slots[i]);
		kstat->slots[i].state = SLOT_UNREAD;
		pm_kstat_pend(kstat, i);
	}
	pm_lookup_remove(&kstat->zone_ids, id_hash(zone->id), row);
	pm_lookup_remove(&kstat->zone_names, zone->name_hash, row);
	pm_kstat_event_gone(kstat, row);
	kstat->live_zones--;
	free(zone->name);
	free_row(kstat, row);
}

void pm_kstat_detach(pm_kstat *kstat, uint32_t number)
{
	pm_kstat_slot *slot = &kstat->slots[number];

	if (slot->zone == PM_NONE)
		return;
	if (kstat->families[slot->family].rows == PM_KSTAT_OF_ZONE) {
		pm_kstat_unlink_link(kstat, number);
		return;
	}
	slots_of(kstat, slot->zone)[slot->family] = PM_NONE;
	if (slot->family == 0)
		remove_zone(kstat, slot->zone);
}

int pm_kstat_restart(pm_kstat *kstat, uint32_t row, uint64_t boot_time_seconds)
{
	pm_kstat_zone *zone = &kstat->zones[row];
	uint32_t links = 0;

	for (uint32_t i = zone->first_link; i != PM_NONE; i = kstat->slots[i].next)
		links++;
	if (pm_kstat_events_reserve(kstat, 2 + links, zone->name_len + (size_t)links * KSTAT_STRLEN) < 0)
		return -1;
	zone->boot_time_seconds = boot_time_seconds;
	zone->reported = 0;
	pm_kstat_event_gone(kstat, row);
	pm_kstat_event_zone(kstat, row);
	for (uint32_t i = zone->first_link; i != PM_NONE; i = kstat->slots[i].next)
		pm_kstat_event_link(kstat, &kstat->slots[i]);
	return 0;
}

/* Finding zones, and the zones of links. */

/* Read the texts of a kstat, and its numbers into row 0 of `scratch`. Returns 0 or a reason, which has been counted. */
static int read_texts(pm_kstat *kstat, const pm_kstat_slot *slot, pm_kstat_texts *texts)
{
	pm_kstat_family *family = &kstat->families[slot->family];
	pm_kstat_data data;
	int reason = pm_kstat_read(&kstat->reading, slot->kstat, &data);

	pm_table_unset_row(&kstat->scratch, 0);
	if (!reason)
		reason = pm_kstat_family_set(family, &data, &kstat->scratch, 0, texts, kstat->failures);
	if (reason)
		kstat->failures[reason]++;
	return reason;
}

static int identify(pm_kstat *kstat, uint32_t number)
{
	const pm_kstat_slot *slot = &kstat->slots[number];
	pm_kstat_texts texts;
	uint64_t boot_time_seconds = 0;

	if (read_texts(kstat, slot, &texts))
		return 0;
	if (kstat->boot_time != PM_NONE && pm_table_has(&kstat->scratch, 0, kstat->boot_time))
		boot_time_seconds = pm_table_get(&kstat->scratch, 0, kstat->boot_time);
	if (texts.zone.len == 0)
		texts.zone = (pm_kstat_text){slot->kstat.header->ks_name,
					     (uint32_t)pm_kstat_name_len(slot->kstat.header->ks_name)};
	if (texts.zone.len == 0 || zone_by_id(kstat, slot->kstat.header->ks_instance) != PM_NONE) {
		kstat->failures[PM_KSTAT_MALFORMED]++;
		return 0;
	}
	return add_zone(kstat, number, texts.zone, boot_time_seconds);
}

/* Return the zone id in `z<id>_link`, or 0. */
static int id_in_name(const kstat_t *header)
{
	const char *name = header->ks_name;
	size_t len = pm_kstat_name_len(name), i = 1;
	int64_t id = 0;

	if (len == 0 || name[0] != 'z')
		return 0;
	for (; i < len && name[i] >= '0' && name[i] <= '9' && id <= INT32_MAX / 10 - 1; i++)
		id = 10 * id + (name[i] - '0');
	return i > 1 && i < len && name[i] == '_' ? (int)id : 0;
}

static int find_owner(pm_kstat *kstat, uint32_t number)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	int id = id_in_name(slot->kstat.header);
	uint32_t row = id ? zone_by_id(kstat, id) : PM_NONE;
	pm_kstat_texts texts;

	if (read_texts(kstat, slot, &texts))
		return 0;
	if (texts.zone.len == 0) {
		slot->owner = id_hash(id);
		slot->state = id ? SLOT_WAITING : SLOT_UNOWNED;
	} else {
		slot->owner = pm_kstat_name_hash(texts.zone);
		slot->state = SLOT_WAITING;
		if (texts.zone.len == sizeof(GLOBAL) - 1 && memcmp(texts.zone.text, GLOBAL, texts.zone.len) == 0)
			slot->state = SLOT_UNOWNED;
		if (row == PM_NONE || !is_name(&kstat->zones[row], texts.zone))
			row = zone_by_name(kstat, texts.zone);
	}
	if (slot->state == SLOT_UNOWNED || row == PM_NONE)
		return 0;
	if (pm_kstat_attach_link(kstat, number, row, &texts) < 0) {
		slot->state = SLOT_UNREAD;
		return -1;
	}
	return 0;
}

static int owner_is_known(const pm_kstat *kstat, uint64_t owner)
{
	uint32_t cursors[2] = {0, 0};

	return pm_lookup_next(&kstat->zone_names, owner, &cursors[0]) != PM_NONE ||
	       pm_lookup_next(&kstat->zone_ids, owner, &cursors[1]) != PM_NONE;
}

int pm_kstat_resolve(pm_kstat *kstat)
{
	uint32_t kept = 0;
	int error = 0;

	for (uint32_t i = 0; i < kstat->pending_count && !error; i++) {
		const pm_kstat_slot *slot = &kstat->slots[kstat->pending[i]];

		if (slot->state == SLOT_UNREAD && slot->family == 0 && identify(kstat, kstat->pending[i]) < 0)
			error = ENOMEM;
	}
	for (uint32_t i = 0; i < kstat->pending_count; i++) {
		uint32_t number = kstat->pending[i];
		pm_kstat_slot *slot = &kstat->slots[number];

		if (slot->state == SLOT_WAITING && kstat->zone_appeared && owner_is_known(kstat, slot->owner))
			slot->state = SLOT_UNREAD;
		if (slot->state == SLOT_UNREAD && slot->family != 0 && !error && find_owner(kstat, number) < 0)
			error = ENOMEM;
		slot->listed = slot->state == SLOT_UNREAD || slot->state == SLOT_WAITING;
		if (slot->listed)
			kstat->pending[kept++] = number;
	}
	kstat->pending_count = kept;
	kstat->zone_appeared = 0;
	return error;
}
