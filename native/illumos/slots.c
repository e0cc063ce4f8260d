#include "slots.h"

int pm_kstat_reserve(void *array, uint32_t *cap, uint32_t count, size_t size)
{
	uint64_t wanted = *cap ? *cap : 64;
	void *memory;

	if (count <= *cap)
		return 0;
	while (wanted < count)
		wanted *= 2;
	if (wanted >= PM_NONE)
		return -1;
	memcpy(&memory, array, sizeof(memory));
	memory = realloc(memory, wanted * size);
	if (memory == NULL)
		return -1;
	memcpy(array, &memory, sizeof(memory));
	*cap = (uint32_t)wanted;
	return 0;
}

uint64_t pm_kstat_key(uint32_t family, int instance, const char *name, size_t len)
{
	return pm_lookup_hash((uint64_t)family << 32 | (uint32_t)instance, name, len);
}

/* This cannot fail: memory in `pending` is reserved for every slot. */
void pm_kstat_pend(pm_kstat *kstat, uint32_t slot)
{
	if (!kstat->slots[slot].listed) {
		kstat->slots[slot].listed = 1;
		kstat->pending[kstat->pending_count++] = slot;
	}
}

int pm_kstat_slot_new(pm_kstat *kstat)
{
	uint32_t slot = kstat->free_slot;

	if (slot != PM_NONE) {
		kstat->free_slot = kstat->slots[slot].next;
		return (int)slot;
	}
	if (pm_kstat_reserve(&kstat->slots, &kstat->slot_cap, kstat->slot_count + 1, sizeof(*kstat->slots)) < 0 ||
	    pm_kstat_reserve(&kstat->pending, &kstat->pending_cap, kstat->slot_cap, sizeof(*kstat->pending)) < 0)
		return -1;
	kstat->slots[kstat->slot_count] = (pm_kstat_slot){0};
	return (int)kstat->slot_count++;
}

void pm_kstat_slot_free(pm_kstat *kstat, uint32_t slot)
{
	kstat->slots[slot].state = SLOT_FREE;
	kstat->slots[slot].next = kstat->free_slot;
	kstat->free_slot = slot;
}
