#include "labels.h"

#include <stdio.h>

static int is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Return the name of a link inside its zone. In the global zone, the kernel adds the prefix `z<zone id>_`. */
static pm_kstat_text link_of(const kstat_t *header, int zone_id)
{
	pm_kstat_text link = {header->ks_name, (uint32_t)pm_kstat_name_len(header->ks_name)};
	char prefix[16];
	uint32_t len = (uint32_t)snprintf(prefix, sizeof(prefix), "z%d_", zone_id);

	if (link.len > len && memcmp(link.text, prefix, len) == 0) {
		link.text += len;
		link.len -= len;
	}
	return link;
}

/* As in cmon-agent, the part before the first digit is replaced by vnic: net0, eth0 and my_net0 become vnic0. */
static uint32_t interface_of(const kstat_t *header, int zone_id, int plain, char interface[2 * KSTAT_STRLEN])
{
	pm_kstat_text link = link_of(header, zone_id);
	uint32_t stem = 0;

	while (stem < link.len && !is_digit(link.text[stem]))
		stem++;
	if (plain || stem == 0 || stem == link.len)
		return (uint32_t)snprintf(interface, 2 * KSTAT_STRLEN, "%.*s", (int)link.len, link.text);
	return (uint32_t)snprintf(interface, 2 * KSTAT_STRLEN, "vnic%.*s", (int)(link.len - stem), link.text + stem);
}

int pm_kstat_same_interface(const kstat_t *one, const kstat_t *other, int zone_id)
{
	char interfaces[2][2 * KSTAT_STRLEN];
	uint32_t len = interface_of(one, zone_id, 0, interfaces[0]);

	return len == interface_of(other, zone_id, 0, interfaces[1]) && memcmp(interfaces[0], interfaces[1], len) == 0;
}

int pm_kstat_label_block(pm_kstat *kstat, const pm_kstat_family *family, const kstat_t *header,
			 const pm_kstat_texts *texts, int zone_id, int plain)
{
	kstat->labels.len = 0;
	for (uint32_t i = 0; i < family->label_count; i++) {
		const pm_kstat_label *label = &family->labels[i];
		char own[2 * KSTAT_STRLEN];
		pm_kstat_text value = {own, 0};

		switch (label->from) {
		case PM_KSTAT_FROM_INSTANCE:
			value.len = (uint32_t)snprintf(own, sizeof(own), "%d", header->ks_instance);
			break;
		case PM_KSTAT_FROM_NAME:
			value = (pm_kstat_text){header->ks_name, (uint32_t)pm_kstat_name_len(header->ks_name)};
			break;
		case PM_KSTAT_FROM_INTERFACE:
			value.len = interface_of(header, zone_id, plain, own);
			break;
		case PM_KSTAT_FROM_STATISTIC:
			value = texts->labels[i];
			break;
		}
		if (pm_label_append(&kstat->labels, label->name, strlen(label->name), value.text, value.len) < 0)
			return -1;
	}
	return 0;
}
