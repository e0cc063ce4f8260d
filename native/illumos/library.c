#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ISO C does not define the conversion of an object pointer to a function pointer; POSIX does. */
static int look_up(void *handle, const char *name, void *function)
{
	void *symbol = dlsym(handle, name);

	memcpy(function, &symbol, sizeof(symbol));
	return symbol != NULL;
}

int pm_kstat_library_open(pm_kstat_library *library, const char *name, char *text, size_t size, int *symbol)
{
	/* kstat_data_lookup is not called, because it reads past a name without NUL. A library without it is not
	 * libkstat. */
	kstat_data_lookup_fn *data_lookup = NULL;
	const struct {
		const char *name;
		void *function;
	} functions[] = {
		{"kstat_open", &library->open},
		{"kstat_close", &library->close},
		{"kstat_chain_update", &library->chain_update},
		{"kstat_read", &library->read},
		{"kstat_data_lookup", &data_lookup},
	};

	memset(library, 0, sizeof(*library));
	*symbol = 0;
	library->handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	if (library->handle == NULL) {
		const char *reason = dlerror();

		snprintf(text, size, "%s: cannot be opened as the kstat library: %s", name,
			 reason ? reason : "no reason given");
		return -1;
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		if (!look_up(library->handle, functions[i].name, functions[i].function)) {
			snprintf(text, size, "%s: has no function %s, which libkstat has", name, functions[i].name);
			*symbol = 1;
			pm_kstat_library_close(library);
			return -1;
		}
	}
	look_up(library->handle, "ioctl", &library->ioctl);
	return 0;
}

void pm_kstat_library_close(pm_kstat_library *library)
{
	if (library->handle != NULL)
		dlclose(library->handle);
	memset(library, 0, sizeof(*library));
}
