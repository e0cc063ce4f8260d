/* The functions of libbpf that are used, found at run time: it is there wherever iproute2 is, its headers are not. */
#ifndef PYMON_BPF_LIBBPF_H
#define PYMON_BPF_LIBBPF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_object;
struct bpf_program;
struct bpf_map;

typedef struct {
	int (*(*set_print)(int (*print)(int level, const char *format, va_list arguments)))(int, const char *, va_list);
	struct bpf_object *(*object_open)(const void *data, size_t size, const void *options);
	struct bpf_program *(*next_program)(const struct bpf_object *object, struct bpf_program *program);
	struct bpf_map *(*find_map)(const struct bpf_object *object, const char *name);
	const char *(*program_name)(const struct bpf_program *program);
	int (*set_autoload)(struct bpf_program *program, bool autoload);
	int (*program_fd)(const struct bpf_program *program);
	int (*set_max_entries)(struct bpf_map *map, uint32_t entries);
	int (*set_value_size)(struct bpf_map *map, uint32_t size);
	uint32_t (*max_entries)(const struct bpf_map *map);
	void *(*initial_value)(struct bpf_map *map, size_t *size);
	int (*map_fd)(const struct bpf_map *map);
	int (*object_load)(struct bpf_object *object);
	void (*object_close)(struct bpf_object *object);
} pm_libbpf;

/* 0; or -1, with the reason in `reason`, one line. The library stays loaded. */
int pm_libbpf_load(pm_libbpf *library, char *reason, size_t size);

/* The last that libbpf says in this thread from now on is kept in `log`, which has `size` bytes; NULL: it is dropped.
 */
void pm_libbpf_log(char *log, size_t size);

/* Closes an object of which links hold the programs, and gives back the memory in which libbpf has read the kernel's
 * types, several MiB. */
void pm_libbpf_close(const pm_libbpf *library, struct bpf_object *object);

/* bpf(2), which the C library has no function for. `attributes`: a union bpf_attr. Returns -1 with errno on failure. */
int pm_bpf_call(int command, void *attributes, size_t size);

#endif
