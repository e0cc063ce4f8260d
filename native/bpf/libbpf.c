#include "libbpf.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libbpf gives its function no argument of ours, and calls it in the thread that called libbpf. */
static _Thread_local struct {
	char *text;
	size_t size;
} log_of_thread;

static int print(int level, const char *format, va_list arguments)
{
	enum { DEBUG = 2 };
	size_t used, len, room = log_of_thread.size - 1;
	char *said, *end;

	if (level >= DEBUG || log_of_thread.text == NULL || vasprintf(&said, format, arguments) < 0)
		return 0;
	len = strlen(said);
	end = said;
	if (len > room) {
		end += len - room;
		len = room;
	}
	used = strlen(log_of_thread.text);
	if (used + len > room) {
		memmove(log_of_thread.text, log_of_thread.text + used + len - room, room - len);
		used = room - len;
	}
	memcpy(log_of_thread.text + used, end, len + 1);
	free(said);
	return 0;
}

void pm_libbpf_log(char *log, size_t size)
{
	if (log)
		log[0] = 0;
	log_of_thread.text = log;
	log_of_thread.size = size;
}

int pm_libbpf_load(pm_libbpf *library, char *reason, size_t size)
{
	static const char name[] = "libbpf.so.1";
	const struct {
		const char *name;
		void *function;
	} functions[] = {
		{"libbpf_set_print", &library->set_print},
		{"bpf_object__open_mem", &library->object_open},
		{"bpf_object__next_program", &library->next_program},
		{"bpf_object__find_map_by_name", &library->find_map},
		{"bpf_program__name", &library->program_name},
		{"bpf_program__set_autoload", &library->set_autoload},
		{"bpf_program__fd", &library->program_fd},
		{"bpf_map__set_max_entries", &library->set_max_entries},
		{"bpf_map__set_value_size", &library->set_value_size},
		{"bpf_map__max_entries", &library->max_entries},
		{"bpf_map__initial_value", &library->initial_value},
		{"bpf_map__fd", &library->map_fd},
		{"bpf_object__load", &library->object_load},
		{"bpf_object__close", &library->object_close},
	};
	void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);

	if (handle == NULL) {
		snprintf(reason, size, "%s", dlerror());
		return -1;
	}
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *symbol = dlsym(handle, functions[i].name);

		if (symbol == NULL) {
			snprintf(reason, size, "%s has no %s", name, functions[i].name);
			return -1;
		}
		memcpy(functions[i].function, &symbol, sizeof(symbol));
	}
	library->set_print(print);
	return 0;
}

void pm_libbpf_close(const pm_libbpf *library, struct bpf_object *object)
{
	library->object_close(object);
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

int pm_bpf_call(int command, void *attributes, size_t size)
{
	return (int)syscall(SYS_bpf, command, attributes, size);
}
