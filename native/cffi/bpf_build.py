"""Builds pymon._native.bpf: native/bpf, called through cffi. libbpf is opened at run time."""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).parent.parent.parent

DECLARATIONS = """
typedef struct pm_bpf_bulk pm_bpf_bulk;
typedef struct { ...; } pm_table;
typedef struct { ...; } pm_libbpf;
typedef struct { ...; } pm_bpf_walker;
typedef struct { ...; } pm_filler;
typedef struct { const void *data; size_t size; } pm_bpf_object;

#define PM_BPF_OBJECTS ...

typedef enum { PM_BPF_PROGRAMS, ... } pm_bpf_program;
typedef enum { PM_BPF_REASONS, ... } pm_bpf_reason;
typedef enum { PM_BPF_PLAIN, PM_BPF_OF_CPUS, PM_BPF_NOTHING, ... } pm_bpf_shape;
typedef enum { PM_BPF_COUNTER, PM_BPF_GAUGE, PM_BPF_SETTING, ... } pm_bpf_nature;

typedef struct {
    const char *name;
    const char *controller;
    ...;
} pm_bpf_program_kind;

typedef struct {
    const char *table;
    const char *key;
    pm_bpf_program program;
    pm_bpf_shape shape;
    pm_bpf_nature nature;
    ...;
} pm_bpf_column;

extern const char *const pm_bpf_objects[];
extern const pm_bpf_program_kind pm_bpf_programs[];
extern const pm_bpf_column pm_bpf_columns[];

int pm_bpf_is_cgroup(const char *path);
int pm_libbpf_load(pm_libbpf *library, char *reason, size_t size);

#define PM_LATENCY_GROUPS ...
#define PM_LATENCY_LEVELS ...
#define PM_LATENCY_NOBODY ...
#define PM_LATENCY_BUCKETS ...
#define PM_LATENCY_FIRST ...
#define PM_LATENCY_STEP ...
#define PM_LATENCY_COLUMNS ...
#define PM_LATENCY_IO_COLUMNS ...

typedef struct pm_latency pm_latency;
typedef struct {
    const char *tasks;
    const char *requests;
    int by_cpu;
    int by_blkio;
    const char *sysfs;
} pm_latency_place;
"""

FUNCTIONS = "\n".join(
    declaration
    for header in ("bulk.h", "latency.h")
    for declaration in re.findall(r"^[a-z][^;{}]*\);$", (ROOT / "native/bpf" / header).read_text(), re.MULTILINE)
)
"""The declarations of all functions in these headers."""

ffibuilder = FFI()
ffibuilder.cdef(DECLARATIONS + FUNCTIONS)
ffibuilder.set_source(
    "pymon._native.bpf",
    '#include "bulk.h"\n#include "latency.h"',
    sources=[
        *sorted(
            str(path.relative_to(ROOT))
            for path in (ROOT / "native/bpf").glob("*.c")
            if not path.name.endswith(".bpf.c")
        ),
        *("native/core/buffer.c", "native/core/table.c", "native/linux/devices.c", "native/linux/kfile.c"),
    ],
    include_dirs=["native/core", "native/linux", "native/bpf"],
)
