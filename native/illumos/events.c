#include "events.h"

#include "slots.h"

int pm_kstat_events_reserve(pm_kstat *kstat, uint32_t count, size_t name_bytes)
{
	return pm_kstat_reserve(&kstat->events, &kstat->event_cap, kstat->event_count + count + kstat->live_zones,
				sizeof(*kstat->events)) < 0 ||
			       pm_buffer_reserve(&kstat->names, name_bytes) < 0
		       ? -1
		       : 0;
}

static void append_event(pm_kstat *kstat, pm_kstat_event event, const char *name, size_t len)
{
	event.name_offset = (uint32_t)kstat->names.len;
	event.name_len = (uint32_t)len;
	pm_buffer_append(&kstat->names, name, len);
	kstat->events[kstat->event_count++] = event;
}

void pm_kstat_event_zone(pm_kstat *kstat, uint32_t row)
{
	const pm_kstat_zone *zone = &kstat->zones[row];
	pm_kstat_event event = {
		.change = PM_KSTAT_ZONE_APPEARED,
		.row = row,
		.zone_id = zone->id,
		.boot_time_seconds = zone->boot_time_seconds,
	};

	append_event(kstat, event, zone->name, zone->name_len);
}

void pm_kstat_event_gone(pm_kstat *kstat, uint32_t row)
{
	append_event(kstat, (pm_kstat_event){.change = PM_KSTAT_ZONE_GONE, .row = row}, "", 0);
}

void pm_kstat_event_link(pm_kstat *kstat, const pm_kstat_slot *slot)
{
	pm_kstat_event event = {.change = PM_KSTAT_LINK_APPEARED, .row = slot->zone, .link_row = slot->row};

	append_event(kstat, event, slot->kstat.header->ks_name, pm_kstat_name_len(slot->kstat.header->ks_name));
}

const pm_kstat_event *pm_kstat_events(const pm_kstat *kstat, size_t *count, const char **names)
{
	*count = kstat->event_count;
	*names = kstat->names.data;
	return kstat->events;
}

void pm_kstat_clear_events(pm_kstat *kstat)
{
	for (uint32_t i = 0; i < kstat->event_count; i++) {
		const pm_kstat_event *event = &kstat->events[i];

		if (event->change == PM_KSTAT_ZONE_APPEARED && kstat->zones[event->row].live)
			kstat->zones[event->row].reported = 1;
	}
	kstat->event_count = 0;
	kstat->names.len = 0;
}
