#include "kinds.h"

const pm_kind pm_kinds[] = {
	{.name = "value", .columns = 1, .line = pm_scan_amount},
	{.name = "limit", .columns = 1, .line = pm_scan_limit},
	{.name = "cpus", .columns = 1, .line = pm_scan_cpu_list},
	{.name = "pair", .columns = 2, .line = pm_scan_pair},
	{.name = "least limit", .columns = 1, .least = 1, .line = pm_scan_limit},
	{.name = "least cores", .columns = 1, .least = 1, .line = pm_scan_cores},
	{.name = "flat", .scan = pm_scan_flat},
	{.name = "nested", .scan = pm_scan_nested},
	{.name = "listed", .columns = 1, .scan = pm_scan_listed},
	{.name = "percpu", .columns = 1, .adds_rows = 1, .scan = pm_scan_percpu},
	{.name = "procs", .columns = 1},
	{.name = "interfaces", .columns = PM_COLUMNS_ALL, .adds_rows = 1, .scan = pm_scan_interfaces},
	{.name = "statistics", .scan = pm_scan_statistics},
	{.name = "tcp", .columns = PM_COLUMNS_ALL, .scan = pm_scan_tcp},
	{.name = "udp", .columns = 4, .scan = pm_scan_udp},
	{.name = NULL},
};

const pm_kind *pm_kind_find(const char *name)
{
	for (const pm_kind *kind = pm_kinds; kind->name; kind++)
		if (strcmp(kind->name, name) == 0)
			return kind;
	return NULL;
}
