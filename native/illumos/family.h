/* Families of kstats: what is looked for, which statistics become which columns, and the way from data to cells. */
#ifndef PYMON_KSTAT_FAMILY_H
#define PYMON_KSTAT_FAMILY_H

#include "read.h"
#include "scan.h"
#include "table.h"

typedef enum {
	PM_KSTAT_ZONE,	  /* one of the zone whose id is the instance: its row is that of the zone */
	PM_KSTAT_OF_ZONE, /* one of several of the zone that it names: a row of its own */
	PM_KSTAT_NODE,	  /* one of the node's: a row of its own */
} pm_kstat_rows;

typedef enum {
	PM_KSTAT_FROM_INSTANCE,
	PM_KSTAT_FROM_NAME,
	PM_KSTAT_FROM_INTERFACE,
	PM_KSTAT_FROM_STATISTIC,
} pm_kstat_label_from;

enum { PM_KSTAT_ANY = -1, PM_KSTAT_LABELS = 4, PM_KSTAT_NOTHINGS = 4 };

typedef struct {
	const char *text;
	uint32_t len;
} pm_kstat_text;

typedef struct {
	char *name;
	char *statistic; /* PM_KSTAT_FROM_STATISTIC */
	pm_kstat_label_from from;
} pm_kstat_label;

/* Values of a statistic that stand for "there is none". */
typedef struct {
	uint32_t count;
	uint64_t values[PM_KSTAT_NOTHINGS];
} pm_kstat_nothings;

enum { PM_KSTAT_KEY_BYTES = offsetof(kstat_named_t, value) }; /* name and type */

/* Where the statistics were the last time. The kernel lays all kstats of a kind out alike, so that a comparison of the
 * 32 bytes of name and type tells what a record is; one that differs is looked up and remembered. */
typedef struct {
	char key[PM_KSTAT_KEY_BYTES];
	int32_t target;
} pm_kstat_place;

typedef struct {
	char key[PM_KSTAT_KEY_BYTES];
	uint32_t record;
	uint32_t target : 31;
	uint32_t plain : 1; /* 64 bits that the cell takes as they are */
} pm_kstat_wanted;

typedef struct {
	pm_kstat_rows rows;
	char module[KSTAT_STRLEN + 1];
	char class[KSTAT_STRLEN + 1];
	char *name; /* "" any, with `{zone}` or `{instance}` in it */
	int instance;
	uint32_t columns;
	char **statistics;
	pm_kstat_nothings *nothings;
	pm_kstat_label labels[PM_KSTAT_LABELS];
	uint32_t label_count;
	pm_keys keys;
	pm_kstat_place *places;
	uint32_t place_count;
	uint32_t place_cap;
	int names_zone;		 /* `zonename` is wanted, too */
	pm_kstat_wanted *wanted; /* all that is wanted, when every one of them has been seen */
	uint32_t wanted_count;
	uint32_t wanted_records;  /* how many records there were with it; 0 not known */
	uint32_t settled_records; /* of this many it is known whether everything was there */
	uint32_t status;	  /* of its collector: columns available, cached, timer_ns from here on */
	pm_table *table;
	uint32_t *free_rows; /* PM_KSTAT_OF_ZONE: of the table */
	uint32_t free_count;
	uint32_t free_cap;
} pm_kstat_family;

/* Texts of a kstat, in its data. No text, or one that cannot be had: NULL. */
typedef struct {
	pm_kstat_text zone;
	pm_kstat_text labels[PM_KSTAT_LABELS];
} pm_kstat_texts;

/* 0 or -1 (out of memory). `statistics` are copied. */
int pm_kstat_family_init(pm_kstat_family *family, pm_kstat_rows rows, const char *module, const char *class,
			 const char *name, int instance, const char *const *statistics, uint32_t columns);
int pm_kstat_family_label(pm_kstat_family *family, const char *name, pm_kstat_label_from from, const char *statistic);
/* The columns and labels are known now. 0 or -1. */
int pm_kstat_family_finish(pm_kstat_family *family);
void pm_kstat_family_free(pm_kstat_family *family);

/* Whether module, class, instance and the part of the name that does not depend on a zone are those of the family. */
int pm_kstat_family_takes(const pm_kstat_family *family, const kstat_t *kstat);

/* The name that the family's kstat of a zone has, cut to `cut` bytes; its length. */
size_t pm_kstat_family_name(const pm_kstat_family *family, int instance, pm_kstat_text zone, size_t cut,
			    char name[KSTAT_STRLEN + 1]);

/* Set the cells of `row` from what was read, and point `texts` into it. 0, or the reason why nothing was set.
 * What makes one cell absent is counted in `failures`. */
int pm_kstat_family_set(pm_kstat_family *family, const pm_kstat_data *data, pm_table *table, uint32_t row,
			pm_kstat_texts *texts, uint64_t *failures);

static inline size_t pm_kstat_name_len(const char *name)
{
	const char *end = memchr(name, 0, KSTAT_STRLEN);

	return end ? (size_t)(end - name) : KSTAT_STRLEN;
}

#endif
