/* The place of a source that fills columns in bulk, such as a BPF program that walks all control groups: it is called
 * once in each collection of all containers, before files are read. Files fill the rest. */
#ifndef PYMON_FILLER_H
#define PYMON_FILLER_H

#include "result.h"
#include "table.h"

/* What there is to fill. `rows` rows have been made in each table whose rows are containers; tables of devices and the
 * like are empty, and rows with the parent `row` are to be appended. */
typedef struct {
	pm_table *const *tables; /* in the order of the reader's layout; NULL: not wanted */
	uint32_t rows;
	const char *const *paths; /* of each row's group, relative to the hierarchies' roots; NULL: no container */
	int64_t deadline_ns;	  /* on the clock of pm_monotonic_ns: return by then */
	uint64_t *failures;	  /* count here by reason what could not be filled */
	uint8_t *const *columns;  /* of each table a flag for each column: set those that are filled */
	uint8_t *filled;	  /* a flag for each row: set those for which they are */
	uint64_t *namespaces;	  /* of each row: the inode of the network namespace that all its processes are in */
} pm_fill;

/* A file is not read for a row that is filled when all columns that it would set are filled. A cell that is left absent
 * in a filled column and row means that there is no such number: files are not asked. The columns of a table that rows
 * are appended to are filled by one source: all of them or none. */
typedef struct {
	void (*fill)(void *state, const pm_fill *fill);
	void (*end)(void *state); /* the reader ends; called in its thread, which has descriptors of its own. NULL:
				     nothing */
	void *state;
} pm_filler;

#endif
