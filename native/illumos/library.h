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
	kstat_ioctl_fn *ioctl; /* as the library itself would call it; may be NULL */
} pm_kstat_library;

/* Open the library of this name. 0, or -1 and in `text` one line that names the library and what is wrong with it;
 * *symbol then says whether it is the library (0) or a function of it (1) that is missing. */
int pm_kstat_library_open(pm_kstat_library *library, const char *name, char *text, size_t size, int *symbol);
void pm_kstat_library_close(pm_kstat_library *library);

#endif
