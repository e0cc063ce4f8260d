/* When memory that readers may still see can be freed. One thread at a time writes; readers never wait.
 *
 * A reader enters before it follows pointers and exits when it holds none. What the writer has unlinked it retires; it
 * is freed when every reader that had entered before has exited. */
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
	_Atomic uint64_t seen[PM_EPOCH_READERS]; /* 0: outside */
	uint64_t joined;			 /* a bit for each reader's place */
	pm_retired *retired;			 /* oldest first */
	size_t count, cap;
} pm_epoch;

void pm_epoch_init(pm_epoch *epoch);
/* Free what is retired. No reader may be left. */
void pm_epoch_free(pm_epoch *epoch);

/* A place for a reader, or -1 when all are taken; both by the writing thread. */
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

/* Free memory (of malloc) once no reader can see it. */
void pm_epoch_retire(pm_epoch *epoch, void *memory);
/* Free what can be freed by now. */
void pm_epoch_reclaim(pm_epoch *epoch);

#endif
