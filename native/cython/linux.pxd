"""Declarations of native/linux."""

from libc.stdint cimport int64_t, uint32_t

from pymon._native.core cimport pm_keys, pm_label, pm_result, pm_table

cdef extern from "kinds.h" nogil:
    ctypedef struct pm_kind:
        const char *name
        int columns
        int least
        void *line

    const pm_kind *pm_kind_find(const char *name)
    int pm_kind_is_procs(const pm_kind *kind)

cdef extern from "filler.h" nogil:
    ctypedef struct pm_filler:
        pass

cdef extern from "plan.h" nogil:
    const uint32_t PM_NO_TABLE
    const int PM_TABLES
    const int PM_PROCESS_TABLES

    ctypedef struct pm_file_target:
        uint32_t table
        uint32_t label_count
        pm_label *labels

    ctypedef struct pm_file:
        char *name
        char *second
        const pm_kind *kind
        uint32_t root
        int slow
        int rest
        uint32_t column
        pm_keys keys
        uint32_t target_count
        pm_file_target *targets

    const uint32_t PM_PLACE_PROCESSES
    const uint32_t PM_PLACE_NETWORK

    ctypedef struct pm_plan:
        uint32_t root_count
        char **roots
        char *procfs
        char *sysfs
        uint32_t file_count
        pm_file *files
        uint32_t net_file_count
        pm_file *net_files
        char **excluded
        uint32_t table_count
        uint32_t *processes
        uint32_t budget
        uint32_t sharers
        int64_t slow_ns
        const pm_filler *filler

cdef extern from "processes.h" nogil:
    ctypedef struct pm_process_kind:
        const char *name
        uint32_t columns

    const pm_process_kind *pm_process_kinds

cdef extern from "reader.h" nogil:
    ctypedef struct pm_mailbox:
        pass

    ctypedef struct pm_ticket:
        unsigned int pending
        pm_mailbox *mailbox
        void *owner

    ctypedef struct pm_reader:
        pass

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
