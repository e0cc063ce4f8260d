"""Declarations of native/core."""

from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

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
    int pm_table_drop_repeated(pm_table *table, uint32_t first)
    int pm_table_label(pm_table *table, const char *name, size_t name_len, const char *value, size_t value_len)
    void pm_table_set(pm_table *table, uint32_t row, uint32_t column, uint64_t value)
    int pm_table_has(const pm_table *table, uint32_t row, uint32_t column)
    uint64_t pm_table_get(const pm_table *table, uint32_t row, uint32_t column)
    int pm_table_relabel(pm_table *table, uint32_t row, const char *block, size_t len)
    int pm_escape(pm_buffer *buffer, const char *value, size_t len)
    int pm_label_append(pm_buffer *buffer, const char *name, size_t name_len, const char *value, size_t value_len)

cdef extern from "keys.h" nogil:
    ctypedef struct pm_keys:
        uint32_t count
        uint8_t *amounts

    int pm_keys_init(pm_keys *keys, const char *const *names, const uint32_t *columns, uint32_t count)
    void pm_keys_free(pm_keys *keys)

cdef extern from "scan.h" nogil:
    ctypedef enum pm_scan_result:
        PM_OK
        PM_EMPTY
        PM_TRUNCATED
        PM_MALFORMED
        PM_NO_MEMORY

    pm_scan_result pm_scan_keyed(
        const pm_keys *keys, const char *data, size_t len, uint32_t field, pm_table *table, uint32_t row,
        uint32_t *set)
    pm_scan_result pm_scan_rows(
        pm_table *table, const char *data, size_t len, const char *label, size_t label_len, uint32_t skip,
        uint32_t key, uint32_t first)

cdef extern from "scan_group.h" nogil:
    const uint32_t PM_LABELS
    const uint32_t PM_TARGETS

    ctypedef int pm_label_source
    const int PM_LABEL_SOURCES

    ctypedef struct pm_label:
        const char *name
        pm_label_source source

    const char *pm_label_source_name(pm_label_source source)

cdef extern from "result.h" nogil:
    ctypedef int pm_reason
    const int PM_REASON_COUNT

    ctypedef struct pm_result:
        int done
        int64_t started_ns
        int64_t finished_ns
        uint64_t failures[32]
        uint32_t of_place[34][32]

    const char *pm_reason_name(pm_reason reason)

cdef extern from "clock.h" nogil:
    int64_t pm_monotonic_ns()

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
        bint by_row

    int pm_render(
        pm_buffer *out, const pm_family *families, uint32_t family_count, const pm_sample *samples,
        const pm_table *const *tables, const pm_block *parents, uint32_t parent_count,
        const unsigned char *selected, uint64_t *lines)

cdef extern from "render_catalogue.h" nogil:
    const uint32_t PM_NATIVE_BUCKETS

    ctypedef struct pm_proto_sample:
        const char *labels
        uint32_t labels_len
        uint8_t part
        uint8_t created
        double bound
        const char *composite
        uint32_t composite_len

    ctypedef struct pm_proto_family:
        const char *head
        uint32_t head_len
        uint8_t type
        uint8_t is_native
        int8_t schema
        int32_t first

    ctypedef struct pm_proto_catalogue:
        const pm_family *families
        const pm_proto_family *proto_families
        uint32_t family_count
        const pm_sample *samples
        const pm_proto_sample *proto_samples
        uint32_t table_count
        uint32_t created_table
        uint32_t created_column

cdef extern from "render_openmetrics2.h" nogil:
    int pm_render_openmetrics2(
        pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables, const pm_block *parents,
        uint32_t parent_count, const unsigned char *selected, uint64_t *lines)

cdef extern from "render_protobuf.h" nogil:
    int pm_render_protobuf(
        pm_buffer *out, const pm_proto_catalogue *catalogue, const pm_table *const *tables, const pm_block *parents,
        uint32_t parent_count, const unsigned char *selected, uint64_t *lines)

cdef extern from "peaks.h" nogil:
    ctypedef struct pm_peaks:
        pass

    pm_peaks *pm_peaks_new(uint32_t series)
    void pm_peaks_free(pm_peaks *peaks)
    void pm_peaks_forget(pm_peaks *peaks, uint32_t row)
    int pm_peaks_take(
        pm_peaks *peaks, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows, int64_t now_ns,
        double scale)
    void pm_peaks_write(
        const pm_peaks *peaks, uint32_t series, uint32_t seconds, int64_t now_ns, pm_table *table, uint32_t column)

cdef extern from "loads.h" nogil:
    ctypedef struct pm_loads:
        pass

    pm_loads *pm_loads_new(uint32_t series)
    void pm_loads_free(pm_loads *loads)
    void pm_loads_forget(pm_loads *loads, uint32_t row)
    int pm_loads_take(
        pm_loads *loads, uint32_t series, const pm_table *table, uint32_t column, uint32_t rows, double keep)
    void pm_loads_write(const pm_loads *loads, uint32_t series, pm_table *table, uint32_t column)

cdef extern from "number.h" nogil:
    ctypedef enum pm_number_class:
        PM_NO_NUMBER
        PM_TOO_LARGE
        PM_FEW_DIGITS
        PM_MANY_DIGITS
        PM_PLUS_INFINITY
        PM_MINUS_INFINITY
        PM_NAN

    pm_number_class pm_number(const char *data, size_t len, int strict)

cdef extern from "exposition_names.h" nogil:
    const char *const pm_suffixes[]
    const char *const pm_family_types[]

cdef extern from "exposition_types.h" nogil:
    ctypedef enum pm_exposition_reason:
        PM_FINE

    ctypedef struct pm_span:
        uint32_t at
        uint32_t len

    ctypedef struct pm_exposition_problem:
        pm_exposition_reason reason
        uint32_t number
        pm_span line
        pm_span at
        pm_span name

    ctypedef struct pm_exposition_family:
        pm_span name
        pm_span help
        uint32_t samples
        uint32_t first
        uint8_t kind
        uint8_t has_help
        uint8_t few_digits

    ctypedef struct pm_exposition_sample:
        uint32_t family
        pm_span labels
        pm_span value
        uint8_t suffix
        uint8_t repeated

    ctypedef struct pm_exposition:
        const char *data
        uint64_t steps
        int strict
        pm_exposition_problem problem
        pm_exposition_family *families
        uint32_t family_count
        pm_exposition_sample *samples
        uint32_t sample_count

cdef extern from "exposition_labels.h" nogil:
    ctypedef struct pm_exposition_label:
        const char *name
        size_t name_len
        const char *value
        size_t value_len

    ctypedef struct pm_exposition_taken:
        const char *name
        size_t len

    int pm_exposition_next_label(const char **cursor, const char *end, pm_exposition_label *label)
    int pm_exposition_labelled(
        const pm_exposition *reader, uint32_t family, const char *front, size_t front_len,
        const pm_exposition_taken *taken, size_t taken_count, pm_buffer *out)

cdef extern from "exposition_openmetrics2.h" nogil:
    ctypedef struct pm_exposition_head:
        const char *data
        size_t len

    int pm_exposition_openmetrics2(
        const pm_exposition *reader, const pm_exposition_head *heads, uint64_t start_ms, pm_buffer *out)

cdef extern from "exposition_protobuf.h" nogil:
    int pm_exposition_protobuf(const pm_exposition *reader, uint64_t start_ms, pm_buffer *out)

cdef extern from "exposition.h" nogil:
    void pm_exposition_init(
        pm_exposition *reader, const char *data, size_t len, int strict, int allow_repeated, const uint64_t *key)
    void pm_exposition_free(pm_exposition *reader)
    int pm_exposition_run(pm_exposition *reader, size_t bytes)
    int pm_exposition_labels(pm_exposition *reader, size_t *at)
