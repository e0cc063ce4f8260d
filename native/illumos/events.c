/* What changed, for those who use the reader. */
#include "internal.h"

int pm_kstat_tell(pm_kstat *kstat, pm_kstat_event event, const char *name, size_t len)
{
	if (kstat->event_count == kstat->event_cap) {
		size_t cap = kstat->event_cap ? 2 * kstat->event_cap : 64;
		pm_kstat_event *events = realloc(kstat->events, cap * sizeof(*events));

		if (events == NULL)
			return -1;
		kstat->events = events;
		kstat->event_cap = cap;
	}
	event.name_offset = (uint32_t)kstat->names.len;
	event.name_len = (uint32_t)len;
	if (pm_buffer_append(&kstat->names, name, len) < 0)
		return -1;
	kstat->events[kstat->event_count++] = event;
	return 0;
}

int pm_kstat_tell_zone(pm_kstat *kstat, uint32_t row)
{
	const pm_kstat_zone *zone = &kstat->zones[row];
	pm_kstat_event event = {
		.change = PM_KSTAT_ZONE_APPEARED,
		.row = row,
		.zone_id = zone->id,
		.boot_time_seconds = zone->boot_time_seconds,
	};

	return pm_kstat_tell(kstat, event, zone->name, zone->name_len);
}

int pm_kstat_tell_link(pm_kstat *kstat, const pm_kstat_slot *slot)
{
	pm_kstat_event event = {.change = PM_KSTAT_LINK_APPEARED, .row = slot->zone, .link_row = slot->row};

	return pm_kstat_tell(kstat, event, slot->kstat.header->ks_name, pm_kstat_name_len(slot->kstat.header->ks_name));
}

const pm_kstat_event *pm_kstat_events(const pm_kstat *kstat, size_t *count, const char **names)
{
	*count = kstat->event_count;
	*names = kstat->names.data;
	return kstat->events;
}

void pm_kstat_clear_events(pm_kstat *kstat)
{
	for (size_t i = 0; i < kstat->event_count; i++) {
		const pm_kstat_event *event = &kstat->events[i];

		if (event->change == PM_KSTAT_ZONE_APPEARED && kstat->zones[event->row].live)
			kstat->zones[event->row].reported = 1;
	}
	kstat->event_count = 0;
	kstat->names.len = 0;
}
