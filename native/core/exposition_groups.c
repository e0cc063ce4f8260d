#include "exposition_groups.h"

#include "exposition_text.h"

int pm_exposition_groups_clear(pm_exposition_groups *groups, uint32_t samples)
{
	size_t slots = 16;

	while (slots < 2 * (size_t)samples)
		slots *= 2;
	free(groups->slots);
	groups->slots = calloc(slots, sizeof(*groups->slots));
	groups->mask = slots - 1;
	return groups->slots ? 0 : -1;
}

int pm_exposition_groups_add(pm_exposition_groups *groups, uint64_t hash)
{
	size_t slot;

	for (slot = hash & groups->mask; groups->slots[slot]; slot = (slot + 1) & groups->mask)
		if (groups->slots[slot] == hash)
			return 0;
	groups->slots[slot] = hash;
	return 1;
}

uint64_t pm_exposition_label_hash(const pm_exposition *reader, const pm_exposition_label *label)
{
	uint64_t key[2] = {reader->key[0] ^ pm_hash(reader->key, label->name, label->name_len), reader->key[1]};

	return label->value_len ? pm_hash(key, label->value, label->value_len) : 0;
}

int pm_exposition_is_bound(pm_family_type kind, pm_suffix suffix, const pm_exposition_label *label)
{
	return kind == PM_HISTOGRAM ? suffix == PM_BUCKET && pm_is_same(label->name, label->name_len, "le", 2)
				    : kind == PM_SUMMARY && suffix == PM_BARE &&
					      pm_is_same(label->name, label->name_len, "quantile", 8);
}

uint32_t *pm_exposition_by_family(const pm_exposition *reader)
{
	uint32_t *next = calloc((size_t)reader->family_count + 1, sizeof(*next)), before = 0;
	uint32_t *order = malloc(((size_t)reader->sample_count + 1) * sizeof(*order));

	if (next == NULL || order == NULL) {
		free(next);
		free(order);
		return NULL;
	}
	for (uint32_t i = 0; i < reader->family_count; i++) {
		next[i] = before;
		before += reader->families[i].samples;
	}
	for (uint32_t i = 0; i < reader->sample_count; i++)
		order[next[reader->samples[i].family]++] = i;
	free(next);
	return order;
}

int pm_exposition_real(pm_buffer *scratch, const char *data, size_t len, double *value)
{
	scratch->len = 0;
	if (pm_buffer_append(scratch, data, len) < 0 || pm_buffer_append(scratch, "", 1) < 0)
		return -1;
	*value = strtod(scratch->data, NULL);
	return 0;
}
