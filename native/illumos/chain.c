#include "chain.h"

#include <errno.h>

#include "clock.h"
#include "slots.h"
#include "zones.h"

enum {
	AHEAD = 64, /* number of headers that are prefetched */
	AGAIN_NS = 1000 * 1000 * 1000,
	NO_ID = -1, /* no chain has this id */
};

#define NEW (PM_NONE - 1) /* in place of a slot: the kstat has not been indexed yet */

static uint32_t family_of(const pm_kstat *kstat, const kstat_t *header)
{
	for (uint32_t f = 0; f < kstat->family_count; f++)
		if (pm_kstat_family_takes(&kstat->families[f], header))
			/* Zone 0 is the node. */
			return kstat->families[f].rows == PM_KSTAT_ZONE && header->ks_instance <= 0 ? PM_NONE : f;
	return PM_NONE;
}

/* Index a kstat if it belongs to a family. Returns its slot, PM_NONE, or NEW if out of memory. */
static uint32_t add(pm_kstat *kstat, kstat_t *header)
{
	uint32_t f = family_of(kstat, header), slot;
	pm_kstat_slot *added;
	uint64_t key;
	int made;

	if (f == PM_NONE)
		return PM_NONE;
	made = pm_kstat_slot_new(kstat);
	if (made < 0)
		return NEW;
	slot = (uint32_t)made;
	added = &kstat->slots[slot];
	key = pm_kstat_key(f, header->ks_instance, header->ks_name, pm_kstat_name_len(header->ks_name));
	*added = (pm_kstat_slot){
		.kstat = {header, header->ks_kid, header->ks_type},
		.hash = key,
		.zone = PM_NONE,
		.next = PM_NONE,
		.family = (uint16_t)f,
		.listed = added->listed,
	};
	if (pm_lookup_insert(&kstat->index, key, slot) < 0) {
		pm_kstat_slot_free(kstat, slot);
		return NEW;
	}
	if (f == 0 || kstat->families[f].rows == PM_KSTAT_OF_ZONE) {
		added->state = SLOT_UNREAD;
		pm_kstat_pend(kstat, slot);
	} else {
		added->state = SLOT_INDEXED;
		if (kstat->families[f].rows == PM_KSTAT_ZONE)
			pm_kstat_join(kstat, slot);
	}
	return slot;
}

static void drop(pm_kstat *kstat, uint32_t slot)
{
	if (slot == PM_NONE || slot == NEW)
		return;
	pm_lookup_remove(&kstat->index, kstat->slots[slot].hash, slot);
	pm_kstat_detach(kstat, slot);
	kstat->slots[slot].kstat.header = NULL;
	pm_kstat_slot_free(kstat, slot);
}

static int reserve(pm_kstat_chain *chain, uint32_t len)
{
	uint32_t caps[3] = {chain->cap, chain->cap, chain->cap};

	if (pm_kstat_reserve(&chain->headers, &caps[0], len, sizeof(*chain->headers)) < 0 ||
	    pm_kstat_reserve(&chain->kids, &caps[1], len, sizeof(*chain->kids)) < 0 ||
	    pm_kstat_reserve(&chain->slots, &caps[2], len, sizeof(*chain->slots)) < 0)
		return -1;
	chain->cap = caps[0];
	return 0;
}

static int append(pm_kstat_chain *chain, kstat_t *header, uint32_t slot)
{
	if (chain->len == chain->cap && reserve(chain, chain->len + 1) < 0)
		return -1;
	chain->headers[chain->len] = header;
	chain->kids[chain->len] = header->ks_kid;
	chain->slots[chain->len] = slot;
	chain->len++;
	return 0;
}

void pm_kstat_chain_free(pm_kstat_chain *chain)
{
	free(chain->headers);
	free(chain->kids);
	free(chain->slots);
	memset(chain, 0, sizeof(*chain));
}

/* Update the header of a kstat, which the library may have moved. */
static void keep(pm_kstat *kstat, uint32_t position, kstat_t *header)
{
	uint32_t slot = kstat->chain.slots[position];

	if (header == kstat->chain.headers[position] || slot == PM_NONE || slot == NEW)
		return;
	kstat->slots[slot].kstat.header = header;
	kstat->slots[slot].kstat.type = header->ks_type;
}

/* Merge the chain of the last walk with that of the library into `spare`. Both are sorted by id. Kstats that have gone
 * are removed, and new ones are marked NEW. If a library's chain were not sorted, kstats might be removed and added
 * again. Returns 0, or -1 if out of memory; then `spare` has the first part of the chain, and the rest was removed. */
static int merge(pm_kstat *kstat)
{
	const pm_kstat_chain *old = &kstat->chain;
	uint32_t i = 0;
	int result = 0;

	kstat->spare.len = 0;
	for (kstat_t *header = kstat->ctl->kc_chain; header != NULL && !result; header = header->ks_next) {
		uint32_t slot = NEW;

		if (i + AHEAD < old->len)
			__builtin_prefetch(old->headers[i + AHEAD]);
		__builtin_prefetch(header->ks_next);
		while (i < old->len && old->kids[i] < header->ks_kid)
			drop(kstat, old->slots[i++]);
		if (i < old->len && old->kids[i] == header->ks_kid) {
			keep(kstat, i, header);
			slot = old->slots[i];
		}
		result = append(&kstat->spare, header, slot);
		if (slot != NEW && !result)
			i++;
	}
	while (i < old->len)
		drop(kstat, old->slots[i++]);
	return result;
}

/* Remove old kstats before adding new ones, because both may be of the same zone. */
static int walk(pm_kstat *kstat)
{
	int result = merge(kstat);
	pm_kstat_chain walked = kstat->spare;

	kstat->spare = kstat->chain;
	kstat->chain = walked;
	for (uint32_t i = 0; i < walked.len && !result; i++) {
		if (walked.slots[i] == NEW)
			walked.slots[i] = add(kstat, walked.headers[i]);
		if (walked.slots[i] == NEW)
			result = -1;
	}
	/* A walk without new kstats needs no memory. */
	if (result || reserve(&kstat->spare, walked.len) < 0)
		return ENOMEM;
	kstat->stale = 0;
	return 0;
}

void pm_kstat_look_again(pm_kstat *kstat)
{
	kstat->again_ns = pm_monotonic_ns() + AGAIN_NS;
}

/* The kernel changes the id of the chain when a kstat is created, but the chain contains the kstat only when it is
 * valid, and that does not change the id. So the chain is updated once more, for which the library must see another id.
 */
static kid_t update_chain(pm_kstat *kstat)
{
	kid_t known = kstat->ctl->kc_chain_id, id;

	if (kstat->again_ns != 0 && pm_monotonic_ns() >= kstat->again_ns) {
		kstat->again_ns = 0;
		kstat->ctl->kc_chain_id = NO_ID;
	}
	id = kstat->library.chain_update(kstat->ctl);
	if (id != 0 && id != -1 && id != known)
		pm_kstat_look_again(kstat);
	return id;
}

int pm_kstat_update(pm_kstat *kstat)
{
	kid_t id;
	int64_t start;
	int error = 0;

	errno = 0;
	id = update_chain(kstat);
	if (id == -1) {
		kstat->stale = 1;
		return errno ? errno : EIO;
	}
	start = pm_monotonic_ns();
	if (id != 0 || kstat->stale) {
		kstat->stale = 1;
		error = walk(kstat);
	}
	if (!error)
		error = pm_kstat_resolve(kstat);
	kstat->index_ns = pm_monotonic_ns() - start;
	return error;
}
