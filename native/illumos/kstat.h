/* The zones of a system and their statistics, from the kstat chain in bulk. For one thread at a time.
 *
 * The chain is walked once for every change of it. Kstats of the families that are asked for are kept in an index by
 * (module, class, instance, name), each with the row it fills, so that a collection is a loop over reads. The library
 * frees headers of kstats that went and says not which: between an update and the walk that follows it, no header that
 * the walk has not met again is looked at. */
#ifndef PYMON_KSTAT_H
#define PYMON_KSTAT_H

#include "family.h"

typedef struct pm_kstat pm_kstat;

enum { PM_KSTAT_FAMILIES = 64 };

typedef enum {
	PM_KSTAT_ZONE_APPEARED,
	PM_KSTAT_ZONE_GONE,
	PM_KSTAT_LINK_APPEARED, /* a kstat of PM_KSTAT_OF_ZONE */
} pm_kstat_change;

typedef struct {
	pm_kstat_change change;
	uint32_t row;	   /* of the zone */
	uint32_t link_row; /* PM_KSTAT_LINK_APPEARED: of the table of its family */
	int32_t zone_id;
	uint64_t boot_time_seconds; /* 0 not known */
	uint32_t name_offset;	    /* into the names of the events: of the zone, or of the kstat */
	uint32_t name_len;
} pm_kstat_event;

/* NULL when memory is out. */
pm_kstat *pm_kstat_new(void);
void pm_kstat_free(pm_kstat *kstat);

/* Take these functions for the library's. */
void pm_kstat_use(pm_kstat *kstat, const pm_kstat_library *library);
/* Find the library; as pm_kstat_library_open. */
int pm_kstat_load(pm_kstat *kstat, const char *name, char *text, size_t size, int *symbol);

/* A family that fills `table`, which lives as long as the reader; `status` is the first of three columns, of the status
 * table of zones or of the node: available, cached, timer_ns. Its number, or -1: no memory, or a family of zones whose
 * kstats can have any name. The first one is that of class zone_misc, which makes zones known. */
int pm_kstat_add_family(pm_kstat *kstat, pm_kstat_rows rows, const char *module, const char *class, const char *name,
			int instance, const char *const *statistics, uint32_t columns, pm_table *table,
			uint32_t status);
/* 0, or -1: no memory, or more than PM_KSTAT_LABELS, PM_KSTAT_NOTHINGS. */
int pm_kstat_add_label(pm_kstat *kstat, int family, const char *name, pm_kstat_label_from from, const char *statistic);
int pm_kstat_add_nothing(pm_kstat *kstat, int family, uint32_t column, uint64_t value);

/* Open the chain, with all families known. 0 or an errno. */
int pm_kstat_open(pm_kstat *kstat);

/* Bring the chain and the index up to date, then read the kstats of the families f with wanted[f], once each, into
 * their tables; the other tables are emptied. 0 or an errno: nothing was read. */
int pm_kstat_collect(pm_kstat *kstat, const uint8_t *wanted, pm_table *status, pm_table *node_status);

/* The same for one zone, into tables of its own, by family; NULL is not wanted. 1, 0 when the zone that was last
 * reported to have this row has gone, or -errno. */
int pm_kstat_collect_zone(pm_kstat *kstat, uint32_t row, pm_table *const *tables, pm_table *status);

/* What changed since the events were cleared, in order. */
const pm_kstat_event *pm_kstat_events(const pm_kstat *kstat, size_t *count, const char **names);
void pm_kstat_clear_events(pm_kstat *kstat);

/* How often each reason, an errno or PM_KSTAT_…, made something absent in the last collection. */
const uint64_t *pm_kstat_failures(const pm_kstat *kstat);
/* Rows that tables of zones have. */
uint32_t pm_kstat_zone_rows(const pm_kstat *kstat);
/* Time that the index took at the last update: the walk, and reading who owns what came. */
int64_t pm_kstat_index_ns(const pm_kstat *kstat);

#endif
