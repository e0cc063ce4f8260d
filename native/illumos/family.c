#include "family.h"

#include <stdio.h>
#include <stdlib.h>

static char *copy_text(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = malloc(size);

	if (copy != NULL)
		memcpy(copy, text, size);
	return copy;
}

int pm_kstat_family_init(pm_kstat_family *family, pm_kstat_rows rows, const char *module, const char *class,
			 const char *name, int instance, const char *const *statistics, uint32_t columns)
{
	memset(family, 0, sizeof(*family));
	family->rows = rows;
	family->instance = instance;
	family->columns = columns;
	snprintf(family->module, sizeof(family->module), "%s", module);
	snprintf(family->class, sizeof(family->class), "%s", class);
	family->name = copy_text(name);
	family->statistics = calloc(columns + 1, sizeof(*family->statistics));
	family->nothings = calloc(columns + 1, sizeof(*family->nothings));
	if (family->name == NULL || family->statistics == NULL || family->nothings == NULL)
		return -1;
	for (uint32_t i = 0; i < columns; i++) {
		family->statistics[i] = copy_text(statistics[i]);
		if (family->statistics[i] == NULL)
			return -1;
	}
	return 0;
}

int pm_kstat_family_label(pm_kstat_family *family, const char *name, pm_kstat_label_from from, const char *statistic)
{
	pm_kstat_label *label = &family->labels[family->label_count];

	if (family->label_count == PM_KSTAT_LABELS)
		return -1;
	family->label_count++;
	label->from = from;
	label->name = copy_text(name);
	label->statistic = copy_text(statistic);
	return label->name && label->statistic ? 0 : -1;
}

/* The target of a record: a column; after the columns, `zonename`; after that, the text of a label. */
int pm_kstat_family_finish(pm_kstat_family *family)
{
	uint32_t count = family->columns + 1 + family->label_count;
	const char **names = calloc(count, sizeof(*names));
	uint32_t *targets = calloc(count, sizeof(*targets));
	int result = -1;

	family->wanted = calloc(count, sizeof(*family->wanted));
	if (names != NULL && targets != NULL && family->wanted != NULL) {
		for (uint32_t i = 0; i < count; i++) {
			targets[i] = i;
			if (i < family->columns)
				names[i] = family->statistics[i];
			else if (i == family->columns)
				names[i] = "zonename";
			else
				names[i] = family->labels[i - family->columns - 1].statistic;
		}
		result = pm_keys_init(&family->keys, names, targets, count);
	}
	free(names);
	free(targets);
	return result;
}

void pm_kstat_family_free(pm_kstat_family *family)
{
	if (family->statistics != NULL)
		for (uint32_t i = 0; i < family->columns; i++)
			free(family->statistics[i]);
	for (uint32_t i = 0; i < family->label_count; i++) {
		free(family->labels[i].name);
		free(family->labels[i].statistic);
	}
	free(family->name);
	free(family->statistics);
	free(family->nothings);
	free(family->places);
	free(family->wanted);
	free(family->free_rows);
	pm_keys_free(&family->keys);
	memset(family, 0, sizeof(*family));
}

size_t pm_kstat_family_name(const pm_kstat_family *family, int instance, pm_kstat_text zone, size_t cut,
			    char name[KSTAT_STRLEN + 1])
{
	const char *place = strchr(family->name, '{');
	char number[16];
	size_t len = 0;

	if (place == NULL) {
		len = (size_t)snprintf(name, KSTAT_STRLEN + 1, "%s", family->name);
		return len < cut ? len : cut;
	}
	if (strncmp(place, "{instance}", 10) == 0) {
		zone.text = number;
		zone.len = (uint32_t)snprintf(number, sizeof(number), "%d", instance);
	}
	for (const char *p = family->name; p < place && len < cut; p++)
		name[len++] = *p;
	for (uint32_t i = 0; i < zone.len && len < cut; i++)
		name[len++] = zone.text[i];
	for (const char *p = strchr(place, '}') + 1; *p && len < cut; p++)
		name[len++] = *p;
	name[len] = 0;
	return len;
}

static int is_text(const char *field, const char *text)
{
	size_t len = pm_kstat_name_len(field);

	return strlen(text) == len && memcmp(field, text, len) == 0;
}

int pm_kstat_family_takes(const pm_kstat_family *family, const kstat_t *kstat)
{
	char name[KSTAT_STRLEN + 1];

	if (!is_text(kstat->ks_module, family->module) || !is_text(kstat->ks_class, family->class) ||
	    (family->instance != PM_KSTAT_ANY && kstat->ks_instance != family->instance))
		return 0;
	if (family->name[0] == 0 || strstr(family->name, "{zone}") != NULL)
		return 1;
	pm_kstat_family_name(family, kstat->ks_instance, (pm_kstat_text){NULL, 0}, KSTAT_STRLEN, name);
	return is_text(kstat->ks_name, name);
}
