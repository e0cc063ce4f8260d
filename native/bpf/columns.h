/* The columns that the programs know: the one place where a column's name, program and value are. */
#ifndef PYMON_BPF_COLUMNS_H
#define PYMON_BPF_COLUMNS_H

#include <stdint.h>

typedef enum {
	PM_BPF_MEMORY,
	PM_BPF_EVENTS,
	PM_BPF_CPU,
	PM_BPF_CPUACCT,
	PM_BPF_CPUTIME,
	PM_BPF_PIDS,
	PM_BPF_BLKIO,
	PM_BPF_PRESSURE,
	PM_BPF_PROCESSES,
	PM_BPF_PROGRAMS,
} pm_bpf_program;

typedef struct {
	const char *name;
	const char *function;	/* of a *.bpf.c */
	const char *controller; /* of the version 1 hierarchy */
	const char *flush;	/* see pm_bpf_walk_plan */
	uint32_t values;
	uint32_t first_object, object_count; /* that have it, see pm_bpf_objects */
	int has_cpus;			     /* whether a value for each CPU follows */
} pm_bpf_program_kind;

enum { PM_BPF_OBJECTS = 4 };

/* Their files' names. */
extern const char *const pm_bpf_objects[PM_BPF_OBJECTS];

extern const pm_bpf_program_kind pm_bpf_programs[PM_BPF_PROGRAMS];

typedef enum {
	PM_BPF_PLAIN,
	PM_BPF_MICROSECONDS, /* of nanoseconds */
	PM_BPF_USER_TICKS,   /* of a divided run time, see cputime.h */
	PM_BPF_SYSTEM_TICKS,
	PM_BPF_USER_MICROSECONDS,
	PM_BPF_SYSTEM_MICROSECONDS,
	PM_BPF_OF_CPUS, /* a row for each CPU; the value is the number of CPUs, theirs come last in the record */
	PM_BPF_NOTHING, /* every column of the table, which has no rows of devices for the container */
} pm_bpf_shape;

/* What may be expected of a number that is read twice. */
typedef enum { PM_BPF_COUNTER, PM_BPF_GAUGE, PM_BPF_SETTING } pm_bpf_nature;

typedef struct {
	const char *table;
	const char *key; /* "": every column */
	pm_bpf_program program;
	uint32_t value;
	pm_bpf_shape shape;
	pm_bpf_nature nature;
} pm_bpf_column;

/* Ended by one without a table. */
extern const pm_bpf_column pm_bpf_columns[];

#endif
