/* The numbers of memory.stat in the kernel's order (mm/memcontrol.c: memcg_node_stat_items, memcg_stat_items and
 * memcg_vm_event_stat). A kernel has those of them that its enums have; its arrays hold the numbers in this order. So
 * the place of a number follows from the names, and the length of the array says whether the list is the kernel's. */
#ifndef PYMON_BPF_ITEMS_H
#define PYMON_BPF_ITEMS_H

#define PM_NODE_ITEMS(X)                                                                                               \
	X(NR_INACTIVE_ANON)                                                                                            \
	X(NR_ACTIVE_ANON)                                                                                              \
	X(NR_INACTIVE_FILE)                                                                                            \
	X(NR_ACTIVE_FILE)                                                                                              \
	X(NR_UNEVICTABLE)                                                                                              \
	X(NR_SLAB_RECLAIMABLE_B)                                                                                       \
	X(NR_SLAB_UNRECLAIMABLE_B)                                                                                     \
	X(WORKINGSET_REFAULT_ANON)                                                                                     \
	X(WORKINGSET_REFAULT_FILE)                                                                                     \
	X(WORKINGSET_ACTIVATE_ANON)                                                                                    \
	X(WORKINGSET_ACTIVATE_FILE)                                                                                    \
	X(WORKINGSET_RESTORE_ANON)                                                                                     \
	X(WORKINGSET_RESTORE_FILE)                                                                                     \
	X(WORKINGSET_NODERECLAIM)                                                                                      \
	X(NR_ANON_MAPPED)                                                                                              \
	X(NR_FILE_MAPPED)                                                                                              \
	X(NR_FILE_PAGES)                                                                                               \
	X(NR_FILE_DIRTY)                                                                                               \
	X(NR_WRITEBACK)                                                                                                \
	X(NR_SHMEM)                                                                                                    \
	X(NR_SHMEM_THPS)                                                                                               \
	X(NR_FILE_THPS)                                                                                                \
	X(NR_ANON_THPS)                                                                                                \
	X(NR_KERNEL_STACK_KB)                                                                                          \
	X(NR_PAGETABLE)                                                                                                \
	X(NR_SECONDARY_PAGETABLE)                                                                                      \
	X(NR_SWAPCACHE)                                                                                                \
	X(PGPROMOTE_SUCCESS)                                                                                           \
	X(PGDEMOTE_KSWAPD)                                                                                             \
	X(PGDEMOTE_DIRECT)                                                                                             \
	X(PGDEMOTE_KHUGEPAGED)                                                                                         \
	X(PGDEMOTE_PROACTIVE)                                                                                          \
	X(NR_HUGETLB)

#define PM_MEMCG_ITEMS(X)                                                                                              \
	X(MEMCG_SWAP)                                                                                                  \
	X(MEMCG_SOCK)                                                                                                  \
	X(MEMCG_PERCPU_B)                                                                                              \
	X(MEMCG_VMALLOC)                                                                                               \
	X(MEMCG_KMEM)                                                                                                  \
	X(MEMCG_ZSWAP_B)                                                                                               \
	X(MEMCG_ZSWAPPED)

/* FIRST: only of kernels with version 1. LATER: not yet in the list of kernels whose enum has them already. */
#define PM_EVENT_ITEMS(X, FIRST, LATER)                                                                                \
	FIRST(PGPGIN)                                                                                                  \
	FIRST(PGPGOUT)                                                                                                 \
	LATER(PSWPIN)                                                                                                  \
	LATER(PSWPOUT)                                                                                                 \
	X(PGSCAN_KSWAPD)                                                                                               \
	X(PGSCAN_DIRECT)                                                                                               \
	X(PGSCAN_KHUGEPAGED)                                                                                           \
	X(PGSCAN_PROACTIVE)                                                                                            \
	X(PGSTEAL_KSWAPD)                                                                                              \
	X(PGSTEAL_DIRECT)                                                                                              \
	X(PGSTEAL_KHUGEPAGED)                                                                                          \
	X(PGSTEAL_PROACTIVE)                                                                                           \
	X(PGFAULT)                                                                                                     \
	X(PGMAJFAULT)                                                                                                  \
	X(PGREFILL)                                                                                                    \
	X(PGACTIVATE)                                                                                                  \
	X(PGDEACTIVATE)                                                                                                \
	X(PGLAZYFREE)                                                                                                  \
	X(PGLAZYFREED)                                                                                                 \
	X(SWPIN_ZERO)                                                                                                  \
	X(SWPOUT_ZERO)                                                                                                 \
	X(ZSWPIN)                                                                                                      \
	X(ZSWPOUT)                                                                                                     \
	X(ZSWPWB)                                                                                                      \
	X(THP_FAULT_ALLOC)                                                                                             \
	X(THP_COLLAPSE_ALLOC)                                                                                          \
	LATER(THP_SWPOUT)                                                                                              \
	LATER(THP_SWPOUT_FALLBACK)                                                                                     \
	LATER(NUMA_PAGE_MIGRATE)                                                                                       \
	LATER(NUMA_PTE_UPDATES)                                                                                        \
	LATER(NUMA_HINT_FAULTS)

/* MEMCG_NR_STAT is the length of the array of kernels that do not number the items anew. */
#define PM_ENUMERATOR(name) name,
enum node_stat_item { PM_NODE_ITEMS(PM_ENUMERATOR) };
enum memcg_stat_item { PM_MEMCG_ITEMS(PM_ENUMERATOR) MEMCG_NR_STAT };
enum vm_event_item { PM_EVENT_ITEMS(PM_ENUMERATOR, PM_ENUMERATOR, PM_ENUMERATOR) };

#endif
