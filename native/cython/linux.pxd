"""Declarations of native/linux."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pymon._native.core cimport pm_keys, pm_table

cdef extern from "plan.h" nogil:
    const uint32_t PM_NO_TABLE

    ctypedef enum pm_file_kind:
        PM_FILE_VALUE
        PM_FILE_LIMIT
        PM_FILE_PAIR
        PM_FILE_KEYED
        PM_FILE_PRESSURE
        PM_FILE_IO
        PM_FILE_BLKIO
        PM_FILE_PERCPU
        PM_FILE_NUMA
        PM_FILE_PROCS

    ctypedef struct pm_file:
        char *name
        uint32_t root
        pm_file_kind kind
        int slow
        uint32_t table
        uint32_t column
        pm_keys keys

    ctypedef struct pm_net_plan:
        uint32_t network
        uint32_t sockstat
        uint32_t tcp
        uint32_t tcp6
        uint32_t udp
        uint32_t udp6
        uint32_t advtcp
        pm_keys sockstat_keys
        pm_keys advtcp_keys

    ctypedef struct pm_process_plan:
        uint32_t sched
        uint32_t descriptors
        uint32_t ulimits

    ctypedef struct pm_plan:
        uint32_t root_count
        char **roots
        char *procfs
        char *sysfs
        uint32_t file_count
        pm_file *files
        uint32_t table_count
        uint32_t io_numbered
        pm_net_plan net
        pm_process_plan processes
        uint32_t budget
        uint32_t sharers
        int64_t slow_ns

cdef extern from "reader.h" nogil:
    ctypedef int pm_reason
    const int PM_REASON_COUNT

    ctypedef struct pm_mailbox:
        pass

    ctypedef struct pm_ticket:
        unsigned int pending
        pm_mailbox *mailbox
        void *owner

    ctypedef struct pm_result:
        int done
        int64_t started_ns
        int64_t finished_ns
        uint64_t failures[32]

    ctypedef struct pm_reader:
        pass

    const char *pm_reason_name(pm_reason reason)
    pm_mailbox *pm_mailbox_new()
    void pm_mailbox_free(pm_mailbox *mailbox)
    int pm_mailbox_event(const pm_mailbox *mailbox)
    pm_ticket *pm_mailbox_take(pm_mailbox *mailbox)
    pm_reader *pm_reader_start(pm_plan *plan, pm_mailbox *mailbox, int *root)
    void pm_reader_stop(pm_reader *reader)
    int pm_reader_add(pm_reader *reader, uint32_t row, const char *path, int64_t start_ns)
    int pm_reader_remove(pm_reader *reader, uint32_t row)
    int pm_reader_refresh(pm_reader *reader, uint32_t row)
    int pm_reader_collect(
        pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t rows, int64_t deadline_ns)
    int pm_reader_collect_row(
        pm_reader *reader, pm_ticket *ticket, pm_result *result, pm_table **tables, uint32_t row, int64_t deadline_ns,
        int wake)
    void pm_reader_wake(pm_reader *reader)
    uint32_t pm_reader_open_descriptors(const pm_reader *reader)
    int pm_reader_shares_descriptors(const pm_reader *reader)
    int64_t pm_monotonic_ns()
