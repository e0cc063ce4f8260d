#include "kstat_reader.h"

#include <errno.h>

#include "chain.h"

pm_kstat *pm_kstat_new(void)
{
	pm_kstat *kstat = calloc(1, sizeof(*kstat));

	if (kstat != NULL) {
		kstat->free_slot = kstat->free_zone = kstat->boot_time = PM_NONE;
		kstat->stale = 1;
	}
	return kstat;
}

void pm_kstat_free(pm_kstat *kstat)
{
	if (kstat == NULL)
		return;
	if (kstat->ctl != NULL)
		kstat->library.close(kstat->ctl);
	pm_kstat_library_close(&kstat->library);
	pm_kstat_reading_stop(&kstat->reading);
	for (uint32_t f = 0; f < kstat->family_count; f++)
		pm_kstat_family_free(&kstat->families[f]);
	for (uint32_t row = 0; row < kstat->zone_rows; row++)
		free(kstat->zones[row].name);
	free(kstat->families);
	pm_kstat_chain_free(&kstat->chain);
	pm_kstat_chain_free(&kstat->spare);
	free(kstat->slots);
	free(kstat->pending);
	free(kstat->zones);
	free(kstat->zone_slots);
	free(kstat->events);
	pm_lookup_free(&kstat->index);
	pm_lookup_free(&kstat->zone_ids);
	pm_lookup_free(&kstat->zone_names);
	pm_table_free(&kstat->scratch);
	pm_buffer_free(&kstat->names);
	pm_buffer_free(&kstat->labels);
	free(kstat);
}

void pm_kstat_use(pm_kstat *kstat, const pm_kstat_library *library)
{
	kstat->library = *library;
}

int pm_kstat_load(pm_kstat *kstat, const char *name, char *text, size_t size, int *symbol)
{
	return pm_kstat_library_open(&kstat->library, name, text, size, symbol);
}

int pm_kstat_add_family(pm_kstat *kstat, pm_kstat_rows rows, const char *module, const char *class, const char *name,
			int instance, const char *const *statistics, uint32_t columns, pm_table *table, uint32_t status)
{
	pm_kstat_family *families;

	if ((rows == PM_KSTAT_ZONE && name[0] == 0) || kstat->family_count == PM_KSTAT_FAMILIES)
		return -1;
	families = realloc(kstat->families, (kstat->family_count + 1) * sizeof(*families));
	if (families == NULL)
		return -1;
	kstat->families = families;
	families += kstat->family_count;
	if (pm_kstat_family_init(families, rows, module, class, name, instance, statistics, columns) < 0) {
		pm_kstat_family_free(families);
		return -1;
	}
	families->table = table;
	families->status = status;
	families->names_zone = rows == PM_KSTAT_OF_ZONE || kstat->family_count == 0;
	for (uint32_t i = 0; i < columns && kstat->family_count == 0; i++)
		if (strcmp(statistics[i], "boot_time") == 0)
			kstat->boot_time = i;
	return (int)kstat->family_count++;
}

int pm_kstat_add_label(pm_kstat *kstat, int family, const char *name, pm_kstat_label_from from, const char *statistic)
{
	return pm_kstat_family_label(&kstat->families[family], name, from, statistic);
}

int pm_kstat_add_nothing(pm_kstat *kstat, int family, uint32_t column, uint64_t value)
{
	pm_kstat_nothings *nothings = &kstat->families[family].nothings[column];

	if (nothings->count == PM_KSTAT_NOTHINGS)
		return -1;
	nothings->values[nothings->count++] = value;
	return 0;
}

int pm_kstat_open(pm_kstat *kstat)
{
	uint32_t columns = 0;

	for (uint32_t f = 0; f < kstat->family_count; f++) {
		if (pm_kstat_family_finish(&kstat->families[f]) < 0)
			return ENOMEM;
		if (kstat->families[f].columns > columns)
			columns = kstat->families[f].columns;
	}
	pm_table_init(&kstat->scratch, columns);
	if (pm_table_append(&kstat->scratch, PM_NO_PARENT) < 0)
		return ENOMEM;
	errno = 0;
	kstat->ctl = kstat->library.open();
	if (kstat->ctl == NULL)
		return errno ? errno : EIO;
	pm_kstat_reading_start(&kstat->reading, &kstat->library, kstat->ctl);
	pm_kstat_look_again(kstat);
	return 0;
}

const uint64_t *pm_kstat_failures(const pm_kstat *kstat)
{
	return kstat->failures;
}

uint32_t pm_kstat_zone_rows(const pm_kstat *kstat)
{
	return kstat->zone_rows;
}

int64_t pm_kstat_index_ns(const pm_kstat *kstat)
{
	return kstat->index_ns;
}
