/* The walk of the chain, and the index of what it holds. */
#include "internal.h"

#include <errno.h>

enum { AHEAD = 64 }; /* headers that are on their way from memory while one is looked at */

uint64_t pm_kstat_key(uint32_t family, int instance, const char *name, size_t len)
{
	return pm_lookup_hash((uint64_t)family << 32 | (uint32_t)instance, name, len);
}

void pm_kstat_pend(pm_kstat *kstat, uint32_t slot)
{
	if (!kstat->slots[slot].listed) {
		kstat->slots[slot].listed = 1;
		kstat->pending[kstat->pending_count++] = slot;
	}
}

/* `pending` has room for every slot, so that putting one there cannot fail. */
static int new_slot(pm_kstat *kstat)
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

static uint32_t family_of(const pm_kstat *kstat, const kstat_t *header)
{
	for (uint32_t f = 0; f < kstat->family_count; f++)
		if (pm_kstat_family_takes(&kstat->families[f], header))
			/* Zone 0 is the node. */
			return kstat->families[f].rows == PM_KSTAT_ZONE && header->ks_instance <= 0 ? PM_NONE : f;
	return PM_NONE;
}

static int add(pm_kstat *kstat, kstat_t *header)
{
	uint32_t f = family_of(kstat, header), slot = PM_NONE;

	if (kstat->chain_len == kstat->chain_cap) {
		uint32_t caps[3] = {kstat->chain_cap, kstat->chain_cap, kstat->chain_cap};

		if (pm_kstat_reserve(&kstat->headers, &caps[0], kstat->chain_len + 1, sizeof(*kstat->headers)) < 0 ||
		    pm_kstat_reserve(&kstat->kids, &caps[1], kstat->chain_len + 1, sizeof(*kstat->kids)) < 0 ||
		    pm_kstat_reserve(&kstat->slot_of, &caps[2], kstat->chain_len + 1, sizeof(*kstat->slot_of)) < 0)
			return -1;
		kstat->chain_cap = caps[0];
	}
	if (f != PM_NONE) {
		pm_kstat_rows rows = kstat->families[f].rows;
		uint64_t key =
			pm_kstat_key(f, header->ks_instance, header->ks_name, pm_kstat_name_len(header->ks_name));
		int made = new_slot(kstat);
		pm_kstat_slot *added;

		if (made < 0)
			return -1;
		slot = (uint32_t)made;
		added = &kstat->slots[slot];
		*added = (pm_kstat_slot){
			.kstat = {header, header->ks_kid, header->ks_type},
			.hash = key,
			.zone = PM_NONE,
			.next = PM_NONE,
			.family = (uint16_t)f,
			.listed = added->listed,
		};
		if (pm_lookup_insert(&kstat->index, key, slot) < 0) {
			added->next = kstat->free_slot;
			kstat->free_slot = slot;
			return -1;
		}
		if (f == 0 || rows == PM_KSTAT_OF_ZONE) {
			added->state = SLOT_UNREAD;
			pm_kstat_pend(kstat, slot);
		} else {
			added->state = SLOT_INDEXED;
			if (rows == PM_KSTAT_ZONE)
				pm_kstat_join(kstat, slot);
		}
	}
	kstat->headers[kstat->chain_len] = header;
	kstat->kids[kstat->chain_len] = header->ks_kid;
	kstat->slot_of[kstat->chain_len] = slot;
	kstat->chain_len++;
	return 0;
}

static void drop(pm_kstat *kstat, uint32_t position)
{
	uint32_t slot = kstat->slot_of[position];

	if (slot == PM_NONE)
		return;
	pm_lookup_remove(&kstat->index, kstat->slots[slot].hash, slot);
	pm_kstat_detach(kstat, slot);
	kstat->slots[slot].kstat.header = NULL;
	kstat->slots[slot].state = SLOT_FREE;
	kstat->slots[slot].next = kstat->free_slot;
	kstat->free_slot = slot;
}

/* Meet the headers of the last walk again, in their order; forget those that are not there. The first new header, or
 * NULL. Where the chain is in another order than that of its ids, which libkstat's never is, the rest counts as new. */
static kstat_t *meet(pm_kstat *kstat)
{
	kstat_t *header = kstat->ctl->kc_chain;
	uint32_t len = kstat->chain_len, i = 0, kept;

	while (i < len && header == kstat->headers[i] && header->ks_kid == kstat->kids[i]) {
		if (i + AHEAD < len)
			__builtin_prefetch(kstat->headers[i + AHEAD]);
		header = header->ks_next;
		i++;
	}
	for (kept = i; i < len; i++) {
		if (header != NULL && header == kstat->headers[i] && header->ks_kid == kstat->kids[i]) {
			kstat->headers[kept] = kstat->headers[i];
			kstat->kids[kept] = kstat->kids[i];
			kstat->slot_of[kept] = kstat->slot_of[i];
			kept++;
			header = header->ks_next;
		} else {
			drop(kstat, i);
		}
	}
	kstat->chain_len = kept;
	return header;
}

static int walk(pm_kstat *kstat)
{
	for (kstat_t *header = meet(kstat); header != NULL; header = header->ks_next) {
		__builtin_prefetch(header->ks_next);
		if (add(kstat, header) < 0)
			return ENOMEM;
	}
	kstat->stale = 0;
	return 0;
}

int pm_kstat_update(pm_kstat *kstat)
{
	kid_t id;
	int64_t start;
	int error = 0;

	errno = 0;
	id = kstat->library.chain_update(kstat->ctl);
	if (id == -1) {
		kstat->stale = 1;
		return errno ? errno : EIO;
	}
	start = pm_kstat_now_ns();
	if (id != 0 || kstat->stale) {
		kstat->stale = 1;
		error = walk(kstat);
	}
	if (!error)
		error = pm_kstat_resolve(kstat);
	kstat->index_ns = pm_kstat_now_ns() - start;
	return error;
}
