/* Scanners of the files of a control group and of a network namespace. All have the type pm_scanner, for the table of
 * file kinds. */
#ifndef PYMON_SCAN_GROUP_H
#define PYMON_SCAN_GROUP_H

#include "scan.h"

enum { PM_LABELS = 3, PM_TARGETS = 2 };

/* Where the value of a label of an added row comes from. */
typedef enum {
	PM_LABEL_KEY,	 /* the key of the line */
	PM_LABEL_SCOPE,	 /* `hierarchy` if the key begins with `hierarchical_`, which is removed, else `container` */
	PM_LABEL_DEVICE, /* the name of the block device whose number is the key */
	PM_LABEL_MAJOR,
	PM_LABEL_MINOR,
	PM_LABEL_NODE, /* the subkey without its `N` */
	PM_LABEL_SUBKEY,
	PM_LABEL_SOURCES,
} pm_label_source;

/* Return the name of a source in the plan: `key`, `scope` and so on. */
const char *pm_label_source_name(pm_label_source source);

typedef struct {
	const char *name;
	pm_label_source source;
} pm_label;

/* A table that a file fills. Without labels, values are stored in the container's row. With labels, a row is added for
 * each combination of label values. The container's rows are at the end of the table, from `first`. */
typedef struct {
	pm_table *table; /* NULL if it is not wanted */
	uint32_t label_count;
	const pm_label *labels;
	uint32_t first;
} pm_target;

/* Returns the name of a block device, NULL if out of memory. */
typedef struct {
	const char *(*find)(void *state, unsigned major, unsigned minor);
	void *state;
} pm_device_names;

/* Says whether an interface is left out; `find` NULL: none is. */
typedef struct {
	int (*find)(const void *state, const char *name, size_t len);
	const void *state;
} pm_interface_filter;

/* The destination of a scan. Added rows have the parent `row`. */
typedef struct {
	uint32_t row;
	uint32_t column;     /* the first column, for scanners without keys */
	const pm_keys *keys; /* for scanners with keys */
	uint32_t target_count;
	pm_target targets[PM_TARGETS]; /* only pm_scan_nested fills more than one */
	int rest;		       /* fill only cells that are not set; of pm_scan_nested */
	pm_interface_filter interfaces;
	pm_device_names devices;
	pm_buffer *scratch;
} pm_sink;

typedef pm_scan_result (*pm_scanner)(const pm_sink *sink, const char *data, size_t len);

/* A flat keyed file: lines `key value`. */
pm_scan_result pm_scan_flat(const pm_sink *sink, const char *data, size_t len);

/* A nested keyed file (Documentation/admin-guide/cgroup-v2.rst): lines `key subkey=value subkey=value ...`. In place of
 * the equals sign there may be a blank (blkio.*, sockstat). A colon after the key is dropped, and so is a value of the
 * key itself (`total=3 N0=3`). The column is named by what the labels do not contain: `key:subkey` without labels, the
 * subkey if the labels come from the key, else the key. Names that are not keys of the sink are skipped, as is the
 * value `max`. If the key is the number of a block device, lines `Total ...` and `(unknown) ...` are skipped, as are
 * devices that precede another one in a line or are at the end without a newline: `7:1 7:0 rbytes=1`. */
pm_scan_result pm_scan_nested(const pm_sink *sink, const char *data, size_t len);

/* Lines `key value` of keys that are not known beforehand (misc.current, dmem.current): a row is added for each, and
 * the value is stored in the sink's column. A `.max` at the end of the key is dropped (misc.events). Lines whose value
 * is `max` are skipped. A file without lines is none that is empty: the machine has nothing to list. */
pm_scan_result pm_scan_listed(const pm_sink *sink, const char *data, size_t len);

/* cpuacct.usage_percpu: nanoseconds of each possible CPU on one line (kernel/sched/cpuacct.c). A row with the label
 * `cpu` for each that has run the group, as in cAdvisor: a kernel built for 8,192 CPUs would have that many. */
pm_scan_result pm_scan_percpu(const pm_sink *sink, const char *data, size_t len);

/* net/dev: two lines of heading, then `  eth0: 1 2 3 ...` (net/core/net-procfs.c). A row with the label `interface` for
 * each but `lo` and the sink's excluded ones; the numbers fill the table's columns. */
pm_scan_result pm_scan_interfaces(const pm_sink *sink, const char *data, size_t len);

/* net/netstat and net/snmp: pairs of lines, `Tcp: MaxConn InSegs` and `Tcp: -1 2` (net/ipv4/proc.c); keys are
 * `Tcp:MaxConn`. */
pm_scan_result pm_scan_statistics(const pm_sink *sink, const char *data, size_t len);

/* net/tcp and net/tcp6: a heading, then a line for each socket (net/ipv4/tcp_ipv4.c). Column i counts those in state
 * 1 + i. */
pm_scan_result pm_scan_tcp(const pm_sink *sink, const char *data, size_t len);

/* net/udp and net/udp6 (net/ipv4/udp.c): sockets that are bound and not connected, datagrams dropped, bytes in the
 * receive queues, bytes in the send queues. */
pm_scan_result pm_scan_udp(const pm_sink *sink, const char *data, size_t len);

#endif
