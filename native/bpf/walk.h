/* A walk over the cgroups of a hierarchy by a program of cgroup.bpf.c. */
#ifndef PYMON_BPF_WALK_H
#define PYMON_BPF_WALK_H

#include "libbpf.h"

/* The content of a file *.bpf.o. */
typedef struct {
	const void *data;
	size_t size;
} pm_bpf_object;

/* What a walk is made of. The strings and the objects stay the caller's, and stay. */
typedef struct {
	const pm_libbpf *library;
	const pm_bpf_object *objects; /* that have the program: the first that the kernel takes */
	uint32_t object_count;
	const char *program;
	const char *root;  /* directory of the first cgroup */
	const char *flush; /* file of the root whose reading flushes what the kernel counts, or NULL */
	uint32_t values;   /* of a record */
	uint32_t cpus;	   /* that have a value each behind these */
} pm_bpf_walk_plan;

/* Records of one run, good until the next. */
typedef struct {
	const char *first;
	size_t size; /* of a record: an id, then values; 64 bits each */
	uint32_t count;
	uint32_t dropped; /* cgroups for which there was no room */
} pm_bpf_records;

typedef struct pm_bpf_walk pm_bpf_walk;

/* What runs walks: the kernel, or a test. */
typedef struct {
	/* Room for `capacity` cgroups. NULL with errno; what libbpf and the kernel say of it is in `log`. Descriptors
	 * are those of the calling thread, which alone may run and close the walk. errno is EPROTO where the object is
	 * of another version. */
	pm_bpf_walk *(*open)(const pm_bpf_walk_plan *plan, uint32_t capacity, char *log, size_t log_size);
	/* 0, or -errno: nothing is known then; -ECANCELED where the walk ended before its end. */
	int (*run)(pm_bpf_walk *walk, pm_bpf_records *records);
	void (*close)(pm_bpf_walk *walk);
} pm_bpf_walker;

extern const pm_bpf_walker pm_bpf_kernel;

/* Whether a directory is of a cgroup file system, of version 1 or 2. */
int pm_bpf_is_cgroup(const char *path);

#endif
