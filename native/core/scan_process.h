/* Scanners of process lists and of the files of one process. */
#ifndef PYMON_SCAN_PROCESS_H
#define PYMON_SCAN_PROCESS_H

#include "scan.h"

enum { PM_SCHED_VALUES = 3 };

/* cgroup.procs: a pid in each line, 0 for a process of a pid namespace that is not below this one. Adds the number of
 * lines to *count. If *first is 0, it is set to the first pid that is not 0. If `pids` is not NULL, every pid is
 * appended to it as an int. A last line without a newline is ignored. Returns PM_OK or PM_NO_MEMORY. */
pm_scan_result pm_scan_pids(const char *data, size_t len, uint64_t *count, int *first, pm_buffer *pids);

/* schedstat: `1 2 3`, nanoseconds run, nanoseconds runnable, times run (fs/proc/base.c). */
pm_scan_result pm_scan_schedstat(const char *data, size_t len, uint64_t values[PM_SCHED_VALUES]);

/* stat: `12 (name) S 1 12 ...`, the state in *state, and field 20, the number of threads (fs/proc/array.c). The name
 * may contain anything. */
pm_scan_result pm_scan_stat(const char *data, size_t len, char *state, uint64_t *threads);

/* limits: a heading, then `Max open files            1024                 4096                 files`, the soft limit
 * first (fs/proc/base.c). For `unlimited` no value is set. */
pm_scan_result pm_scan_open_files_limit(const char *data, size_t len, pm_values *out);

#endif
