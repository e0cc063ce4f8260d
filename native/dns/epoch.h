/* Epoch-based memory reclamation. One thread at a time writes; readers never wait.
 *
 * A reader enters before it follows pointers and exits when it holds none. The writer unlinks memory and then retires
 * it. Retired memory is freed when every reader that had entered before has exited. */
#ifndef PYMON_EPOCH_H
#define PYMON_EPOCH_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { PM_EPOCH_READERS = 64 };

typedef struct {
	void *memory;
	uint64_t when;
} pm_retired;

typedef struct {
	_Atomic uint64_t now;
	_Atomic uint64_t seen[PM_EPOCH_READERS]; /* epoch in which each reader entered; 0: not inside */
	uint64_t joined;			 /* bitmap of the reader slots in use */
	pm_retired *retired;			 /* oldest first */
	size_t count, cap;
} pm_epoch;

void pm_epoch_init(pm_epoch *epoch);
/* Free all retired memory. All readers must have left. */
void pm_epoch_free(pm_epoch *epoch);

/* Allocate a reader slot. Returns -1 if all are in use. Join and leave are called by the writer. */
int pm_epoch_join(pm_epoch *epoch);
void pm_epoch_leave(pm_epoch *epoch, int reader);

static inline void pm_epoch_enter(pm_epoch *epoch, int reader)
{
	atomic_store(&epoch->seen[reader], atomic_load(&epoch->now));
	atomic_thread_fence(memory_order_seq_cst);
}

static inline void pm_epoch_exit(pm_epoch *epoch, int reader)
{
	atomic_store_explicit(&epoch->seen[reader], 0, memory_order_release);
}

/* Free memory of malloc() as soon as no reader can see it. */
void pm_epoch_retire(pm_epoch *epoch, void *memory);
/* Free the retired memory that no reader can see any more. */
void pm_epoch_reclaim(pm_epoch *epoch);

#endif
