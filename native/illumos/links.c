#include "links.h"

#include "events.h"
#include "labels.h"
#include "slots.h"

void pm_kstat_release_link(pm_kstat *kstat, pm_kstat_slot *slot)
{
	pm_kstat_family *family = &kstat->families[slot->family];

	pm_table_unset_row(family->table, slot->row);
	family->table->labels[slot->row].parent = PM_NO_PARENT;
	pm_table_relabel(family->table, slot->row, "", 0); /* cannot fail without labels */
	family->free_rows[family->free_count++] = slot->row;
	slot->zone = PM_NONE;
}

void pm_kstat_unlink_link(pm_kstat *kstat, uint32_t number)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	uint32_t *at = &kstat->zones[slot->zone].first_link;

	while (*at != number)
		at = &kstat->slots[*at].next;
	*at = slot->next;
	pm_kstat_release_link(kstat, slot);
}

/* Return whether another link of the zone has the same label. */
static int is_taken(const pm_kstat *kstat, uint32_t row, const pm_kstat_slot *slot)
{
	for (uint32_t i = kstat->zones[row].first_link; i != PM_NONE; i = kstat->slots[i].next)
		if (kstat->slots[i].family == slot->family &&
		    pm_kstat_same_interface(slot->kstat.header, kstat->slots[i].kstat.header, kstat->zones[row].id))
			return 1;
	return 0;
}

int pm_kstat_attach_link(pm_kstat *kstat, uint32_t number, uint32_t row, const pm_kstat_texts *texts)
{
	pm_kstat_slot *slot = &kstat->slots[number];
	pm_kstat_family *family = &kstat->families[slot->family];
	pm_kstat_zone *zone = &kstat->zones[row];
	uint32_t link_row;

	/* Reserve memory for every row, so that freeing a row cannot fail. */
	if (pm_kstat_events_reserve(kstat, 1, KSTAT_STRLEN) < 0 ||
	    pm_kstat_reserve(&family->free_rows, &family->free_cap, family->table->rows + 1,
			     sizeof(*family->free_rows)) < 0 ||
	    pm_kstat_label_block(kstat, family, slot->kstat.header, texts, zone->id, is_taken(kstat, row, slot)) < 0)
		return -1;
	if (family->free_count == 0) {
		int64_t made = pm_table_append(family->table, PM_NO_PARENT);

		if (made < 0)
			return -1;
		family->free_rows[family->free_count++] = (uint32_t)made;
	}
	link_row = family->free_rows[family->free_count - 1];
	if (pm_table_relabel(family->table, link_row, kstat->labels.data, kstat->labels.len) < 0)
		return -1;
	family->free_count--;
	family->table->labels[link_row].parent = row;
	slot->row = link_row;
	slot->zone = row;
	slot->next = zone->first_link;
	zone->first_link = number;
	slot->state = SLOT_ATTACHED;
	pm_kstat_event_link(kstat, slot);
	return 0;
}
