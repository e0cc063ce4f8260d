/* Families of kstats: how they are recognised, and which of their statistics fill which columns. */
#ifndef PYMON_KSTAT_FAMILY_H
#define PYMON_KSTAT_FAMILY_H

#include "read.h"
#include "scan.h"
#include "table.h"

typedef enum {
	PM_KSTAT_ZONE,	  /* a zone has one; the instance is the zone's id, the row is the zone's */
	PM_KSTAT_OF_ZONE, /* a zone has several; they name the zone and have rows of their own */
	PM_KSTAT_NODE,	  /* of the node; each has a row of its own */
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

/* Values of a statistic that mean that there is no value, such as a limit that is not set. */
typedef struct {
	uint32_t count;
	uint64_t values[PM_KSTAT_NOTHINGS];
} pm_kstat_nothings;

enum { PM_KSTAT_KEY_BYTES = offsetof(kstat_named_t, value) }; /* name and type */

/* A cache of where each statistic was in the last kstat. All kstats of a kind have the same layout, so one comparison
 * of the 32 bytes of name and type identifies a record. A record that differs is looked up and replaces the entry. */
typedef struct {
	char key[PM_KSTAT_KEY_BYTES];
	int32_t target;
} pm_kstat_place;

typedef struct {
	char key[PM_KSTAT_KEY_BYTES];
	uint32_t record;
	uint32_t target : 31;
	uint32_t plain : 1; /* a 64-bit integer that is copied to the cell unchanged */
} pm_kstat_wanted;

typedef struct {
	pm_kstat_rows rows;
	char module[KSTAT_STRLEN + 1];
	char class[KSTAT_STRLEN + 1];
	char *name; /* may contain `{zone}` or `{instance}`; "" matches every name */
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
	int names_zone;		 /* the statistic `zonename` is read as well */
	pm_kstat_wanted *wanted; /* the wanted records, once all of them have been seen in one kstat */
	uint32_t wanted_count;
	uint32_t wanted_records;  /* number of records in that kstat; 0 if there was none */
	uint32_t settled_records; /* number of records of the last kstat that was checked for all of them */
	uint32_t status;	  /* the first status column of its collector: available, cached, timer_ns */
	pm_table *table;
	uint32_t *free_rows; /* PM_KSTAT_OF_ZONE: unused rows of the table */
	uint32_t free_count;
	uint32_t free_cap;
} pm_kstat_family;

/* Text statistics of a kstat; they point into its data. NULL if absent or invalid. */
typedef struct {
	pm_kstat_text zone;
	pm_kstat_text labels[PM_KSTAT_LABELS];
} pm_kstat_texts;

/* Returns 0, or -1 if out of memory. `statistics` are copied. */
int pm_kstat_family_init(pm_kstat_family *family, pm_kstat_rows rows, const char *module, const char *class,
			 const char *name, int instance, const char *const *statistics, uint32_t columns);
int pm_kstat_family_label(pm_kstat_family *family, const char *name, pm_kstat_label_from from, const char *statistic);
/* Complete the family after its last label. Returns 0, or -1 if out of memory. */
int pm_kstat_family_finish(pm_kstat_family *family);
void pm_kstat_family_free(pm_kstat_family *family);

/* Return whether a kstat has the module, class and instance of the family, and its name as far as it does not depend on
 * the zone. */
int pm_kstat_family_takes(const pm_kstat_family *family, const kstat_t *kstat);

/* Write the name of the family's kstat for a zone, at most `cut` bytes of it. Returns its length. */
size_t pm_kstat_family_name(const pm_kstat_family *family, int instance, pm_kstat_text zone, size_t cut,
			    char name[KSTAT_STRLEN + 1]);

static inline size_t pm_kstat_name_len(const char *name)
{
	const char *end = memchr(name, 0, KSTAT_STRLEN);

	return end ? (size_t)(end - name) : KSTAT_STRLEN;
}

#endif
