"""Declarations of native/core."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef extern from "buffer.h" nogil:
    ctypedef struct pm_buffer:
        char *data
        size_t len
        size_t cap

    int pm_buffer_reserve(pm_buffer *buffer, size_t extra)
    int pm_buffer_append(pm_buffer *buffer, const char *data, size_t len)
    void pm_buffer_free(pm_buffer *buffer)

cdef extern from "table.h" nogil:
    const uint32_t PM_NO_PARENT

    ctypedef struct pm_row_labels:
        uint32_t offset
        uint32_t len
        uint32_t parent

    ctypedef struct pm_table:
        uint32_t columns
        uint32_t words
        uint32_t rows
        uint32_t cap
        uint64_t *cells
        uint64_t *present
        pm_row_labels *labels
        pm_buffer arena

    int pm_table_init(pm_table *table, uint32_t columns)
    void pm_table_free(pm_table *table)
    void pm_table_clear(pm_table *table)
    int pm_table_clear_to(pm_table *table, uint32_t rows)
    int pm_table_grow(pm_table *table, uint32_t rows)
    void pm_table_unset_row(pm_table *table, uint32_t row)
    int pm_table_copy_row(pm_table *target, const pm_table *source, uint32_t row)
    int pm_table_copy(pm_table *target, const pm_table *source)
    int64_t pm_table_append(pm_table *table, uint32_t parent)
    int pm_table_label(pm_table *table, const char *name, size_t name_len, const char *value, size_t value_len)
    void pm_table_set(pm_table *table, uint32_t row, uint32_t column, uint64_t value)
    int pm_table_has(const pm_table *table, uint32_t row, uint32_t column)
    uint64_t pm_table_get(const pm_table *table, uint32_t row, uint32_t column)
    int pm_table_relabel(pm_table *table, uint32_t row, const char *block, size_t len)
    int pm_escape(pm_buffer *buffer, const char *value, size_t len)

cdef extern from "scan.h" nogil:
    ctypedef enum pm_scan_result:
        PM_OK
        PM_EMPTY
        PM_TRUNCATED
        PM_MALFORMED

    ctypedef struct pm_keys:
        uint32_t count

    int pm_keys_init(pm_keys *keys, const char *const *names, const uint32_t *columns, uint32_t count)
    void pm_keys_free(pm_keys *keys)
    pm_scan_result pm_scan_keyed(
        const pm_keys *keys, const char *data, size_t len, uint32_t field, pm_table *table, uint32_t row,
        uint32_t *set)
    pm_scan_result pm_scan_rows(
        pm_table *table, const char *data, size_t len, const char *label, size_t label_len, uint32_t skip,
        uint32_t key, uint32_t first)

cdef extern from "decimal.h" nogil:
    const size_t PM_DECIMAL_MAX

    ctypedef struct pm_scale:
        uint64_t subtract
        uint64_t multiply
        uint64_t divide
        uint64_t add
        uint8_t decimals
        uint8_t is_signed

    size_t pm_decimal(char *out, uint64_t value, const pm_scale *scale)

cdef extern from "render.h" nogil:
    const uint32_t PM_NO_COLUMN

    ctypedef struct pm_block:
        const char *data
        uint32_t len

    ctypedef struct pm_sample:
        uint32_t table
        uint32_t column
        uint32_t minus
        uint32_t plus
        uint32_t when
        pm_scale scale
        const char *prefix
        uint32_t prefix_len
        const char *bare
        uint32_t bare_len

    ctypedef struct pm_family:
        const char *header
        uint32_t header_len
        uint32_t first
        uint32_t count

    int pm_render(
        pm_buffer *out, const pm_family *families, uint32_t family_count, const pm_sample *samples,
        const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
        const unsigned char *selected, uint64_t *lines)
