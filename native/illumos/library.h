/* libkstat, found at run time. */
#ifndef PYMON_KSTAT_LIBRARY_H
#define PYMON_KSTAT_LIBRARY_H

#include "kstat_abi.h"

typedef struct {
	void *handle; /* of dlopen */
	kstat_open_fn *open;
	kstat_close_fn *close;
	kstat_chain_update_fn *chain_update;
	kstat_read_fn *read;
	kstat_ioctl_fn *ioctl; /* the ioctl that the library calls; may be NULL */
} pm_kstat_library;

/* Load the library. Returns 0, or -1 with one line in `text` that says what is wrong; *symbol is then 1 if a function
 * is missing, 0 if the library is. */
int pm_kstat_library_open(pm_kstat_library *library, const char *name, char *text, size_t size, int *symbol);
void pm_kstat_library_close(pm_kstat_library *library);

#endif
