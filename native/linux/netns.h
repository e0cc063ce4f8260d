/* The network namespaces of containers, and the files that are read there. */
#ifndef PYMON_NETNS_H
#define PYMON_NETNS_H

#include "context.h"

/* Inode of a network namespace, or 0 with errno set. */
uint64_t pm_netns_inode(int dir, const char *path);

/* Find the namespace of a container, whose process list is in context->buffer and begins with `pid`. */
void pm_netns_find(pm_context *context, pm_entry *entry, int pid);
/* The same, from the process list on, where the namespace was never looked for or may have changed since. */
void pm_netns_look(pm_context *context, pm_entry *entry);

/* Decide which of the containers that share a namespace reports it: the one that started first. 0, or -1 when memory
 * is out. */
int pm_netns_share(pm_context *context);
/* The same for one container. */
void pm_netns_share_one(pm_context *context, pm_entry *entry);

/* Whether what is known of a container's namespace still holds, by what the filler says of row `row`. */
int pm_netns_is_as_before(const pm_context *context, const pm_entry *entry, uint32_t row);

/* Whether any table of namespaces is wanted. */
int pm_netns_is_wanted(const pm_plan *plan, pm_table *const *tables);
/* Read the files of the namespace, where the container is the one that reports it. */
void pm_netns_collect(pm_context *context, pm_entry *entry, pm_table *const *tables, uint32_t row);

#endif
