"""Builds pymon._native.kstat: native/illumos, called through cffi, which lets other threads run meanwhile."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parent.parent.parent

DECLARATIONS = """
typedef struct pm_kstat pm_kstat;
typedef struct { ...; } pm_table;

typedef enum { PM_KSTAT_ZONE, PM_KSTAT_OF_ZONE, PM_KSTAT_NODE, ... } pm_kstat_rows;
typedef enum {
    PM_KSTAT_FROM_INSTANCE, PM_KSTAT_FROM_NAME, PM_KSTAT_FROM_INTERFACE, PM_KSTAT_FROM_STATISTIC, ...
} pm_kstat_label_from;
typedef enum { PM_KSTAT_ZONE_APPEARED, PM_KSTAT_ZONE_GONE, PM_KSTAT_LINK_APPEARED, ... } pm_kstat_change;

#define PM_KSTAT_ANY ...
#define PM_KSTAT_MALFORMED ...
#define PM_KSTAT_STRING ...
#define PM_KSTAT_FLOAT ...
#define PM_KSTAT_TYPE ...
#define PM_KSTAT_REASONS ...

typedef struct {
    pm_kstat_change change;
    uint32_t row;
    uint32_t link_row;
    int32_t zone_id;
    uint64_t boot_time_seconds;
    uint32_t name_offset;
    uint32_t name_len;
} pm_kstat_event;

pm_kstat *pm_kstat_new(void);
void pm_kstat_free(pm_kstat *kstat);
int pm_kstat_load(pm_kstat *kstat, const char *name, char *text, size_t size, int *symbol);
int pm_kstat_add_family(pm_kstat *kstat, pm_kstat_rows rows, const char *module, const char *class_, const char *name,
                        int instance, const char *const *statistics, uint32_t columns, pm_table *table,
                        uint32_t status);
int pm_kstat_add_label(pm_kstat *kstat, int family, const char *name, pm_kstat_label_from from, const char *statistic);
int pm_kstat_add_nothing(pm_kstat *kstat, int family, uint32_t column, uint64_t value);
int pm_kstat_open(pm_kstat *kstat);
int pm_kstat_collect(pm_kstat *kstat, const uint8_t *wanted, pm_table *status, pm_table *node_status);
int pm_kstat_collect_zone(pm_kstat *kstat, uint32_t row, pm_table *const *tables, pm_table *status);
const pm_kstat_event *pm_kstat_events(const pm_kstat *kstat, size_t *count, const char **names);
void pm_kstat_clear_events(pm_kstat *kstat);
const uint64_t *pm_kstat_failures(const pm_kstat *kstat);
uint32_t pm_kstat_zone_rows(const pm_kstat *kstat);
int64_t pm_kstat_index_ns(const pm_kstat *kstat);
"""


def sources(folder: str) -> list[str]:
    """The C files of a folder below native."""
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "native" / folder).glob("*.c"))


ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS)
ffibuilder.set_source(
    "pymon._native.kstat",
    '#include "kstat_reader.h"\n#include "kstat_collect.h"\n#include "events.h"',
    sources=sources("core") + sources("illumos"),
    include_dirs=["native/core", "native/illumos"],
)
