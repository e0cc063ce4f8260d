"""The compiled catalogue: tables in, exposition bytes out."""

from dataclasses import dataclass

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from pymon._native.core cimport (
    PM_DECIMAL_MAX,
    PM_NATIVE_BUCKETS,
    PM_NO_COLUMN,
    pm_block,
    pm_buffer,
    pm_buffer_append,
    pm_buffer_free,
    pm_decimal,
    pm_escape,
    pm_family,
    pm_proto_catalogue,
    pm_proto_family,
    pm_proto_sample,
    pm_render,
    pm_render_openmetrics2,
    pm_render_protobuf,
    pm_sample,
    pm_scale,
    pm_table,
)
from pymon._native.table cimport Table

cdef char *ITEM_FORMAT = b"B"

PARTS = ("value", "bucket", "sum", "count")


cdef class Body:
    """Bytes of a response in native memory, lent through the buffer protocol; refuses to change while lent."""

    cdef pm_buffer buffer
    cdef Py_ssize_t exports
    cdef Py_ssize_t shape

    def __dealloc__(self):
        pm_buffer_free(&self.buffer)

    def __len__(self):
        return self.buffer.len

    def clear(self):
        """Forget the content, keep the memory. BufferError while lent."""
        self._writable()
        self.buffer.len = 0

    def append(self, const unsigned char[::1] data not None):
        """Append bytes. BufferError while lent."""
        self._writable()
        if data.shape[0] and pm_buffer_append(&self.buffer, <const char *>&data[0], data.shape[0]) < 0:
            raise MemoryError

    cdef int _writable(self) except -1:
        if self.exports:
            raise BufferError("the body is lent")
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a body is lent for reading only")
        self.shape = self.buffer.len
        buffer.buf = self.buffer.data if self.buffer.data != NULL else ITEM_FORMAT
        buffer.obj = self
        buffer.len = self.buffer.len
        buffer.itemsize = 1
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = ITEM_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = &self.shape
        buffer.strides = &buffer.itemsize
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1


cdef class Labels:
    """Label blocks of parents by index, taken once: block i is bytes without braces and end comma, or None."""

    cdef pm_block *blocks
    cdef uint32_t count
    cdef list kept

    def __cinit__(self, blocks):
        cdef bytes block

        self.kept = list(blocks)
        self.count = len(self.kept)
        self.blocks = <pm_block *>PyMem_Calloc(self.count + 1, sizeof(pm_block))
        if self.blocks == NULL:
            raise MemoryError
        for i in range(self.count):
            block = self.kept[i]
            if block is not None:
                self.blocks[i].data = PyBytes_AS_STRING(block)
                self.blocks[i].len = PyBytes_GET_SIZE(block)

    def __dealloc__(self):
        PyMem_Free(self.blocks)

    def __len__(self):
        return self.count


@dataclass(frozen=True)
class SampleLine:
    """A line for each row of a table."""

    table: int
    column: int
    unit: object
    prefix: bytes
    bare: bytes
    minus: object = None
    plus: object = None
    when: object = None
    fields: bytes = b""
    part: str = "value"
    bound: float = 0.0
    created: bool = False
    composite: bytes = b""


@dataclass(frozen=True)
class FamilyLines:
    """The lines of a family."""

    text: bytes
    openmetrics: bytes
    samples: object
    by_row: bool
    protobuf: bytes = b""
    type: int = 3
    native: object = None
    openmetrics2: bytes = b""


cdef class Renderer:
    """Families of a catalogue, compiled for rendering. pymon.exposition.compile makes them."""

    cdef pm_family *text
    cdef pm_family *openmetrics
    cdef pm_family *openmetrics2
    cdef pm_sample *samples
    cdef pm_proto_family *proto_families
    cdef pm_proto_sample *proto_samples
    cdef pm_proto_catalogue catalogue
    cdef pm_proto_catalogue catalogue2
    cdef uint32_t family_count
    cdef readonly Py_ssize_t table_count
    cdef list widths
    cdef list kept

    def __cinit__(self, families, table_count, created=None):
        cdef uint32_t at = 0
        cdef bytes prefix, bare, fields

        self.kept = []
        self.widths = [0] * table_count
        self.table_count = table_count
        self.family_count = len(families)
        total = sum(len(family.samples) for family in families)
        self.text = <pm_family *>PyMem_Calloc(self.family_count + 1, sizeof(pm_family))
        self.openmetrics = <pm_family *>PyMem_Calloc(self.family_count + 1, sizeof(pm_family))
        self.openmetrics2 = <pm_family *>PyMem_Calloc(self.family_count + 1, sizeof(pm_family))
        self.samples = <pm_sample *>PyMem_Calloc(total + 1, sizeof(pm_sample))
        self.proto_families = <pm_proto_family *>PyMem_Calloc(self.family_count + 1, sizeof(pm_proto_family))
        self.proto_samples = <pm_proto_sample *>PyMem_Calloc(total + 1, sizeof(pm_proto_sample))
        if self.text == NULL or self.openmetrics == NULL or self.samples == NULL:
            raise MemoryError
        if self.openmetrics2 == NULL or self.proto_families == NULL or self.proto_samples == NULL:
            raise MemoryError
        for i, family in enumerate(families):
            self._family(&self.text[i], family.text, at, family)
            self._family(&self.openmetrics[i], family.openmetrics, at, family)
            self._family(&self.openmetrics2[i], family.openmetrics2, at, family)
            fields = family.protobuf
            self.kept.append(fields)
            self.proto_families[i].head = PyBytes_AS_STRING(fields)
            self.proto_families[i].head_len = PyBytes_GET_SIZE(fields)
            self.proto_families[i].type = family.type
            if sum(line.part == "bucket" for line in family.samples) > PM_NATIVE_BUCKETS and family.by_row:
                raise ValueError(f"more than {PM_NATIVE_BUCKETS} buckets")
            if family.native is not None:
                self.proto_families[i].is_native = True
                self.proto_families[i].schema, self.proto_families[i].first = family.native
            for line in family.samples:
                if not 0 <= line.table < table_count:
                    raise IndexError(f"no table {line.table}")
                last = max(line.column, line.minus or 0, line.plus or 0, line.when or 0)
                self.widths[line.table] = max(self.widths[line.table], 1 + last)
                prefix = line.prefix
                bare = line.bare
                self.kept += (prefix, bare)
                self.samples[at].table = line.table
                self.samples[at].column = line.column
                self.samples[at].minus = PM_NO_COLUMN if line.minus is None else line.minus
                self.samples[at].plus = PM_NO_COLUMN if line.plus is None else line.plus
                self.samples[at].when = PM_NO_COLUMN if line.when is None else line.when
                _scale(&self.samples[at].scale, line.unit)
                self.samples[at].prefix = PyBytes_AS_STRING(prefix)
                self.samples[at].prefix_len = PyBytes_GET_SIZE(prefix)
                self.samples[at].bare = PyBytes_AS_STRING(bare)
                self.samples[at].bare_len = PyBytes_GET_SIZE(bare)
                self._sample(&self.proto_samples[at], line)
                at += 1
        self.catalogue.families = self.text
        self.catalogue.proto_families = self.proto_families
        self.catalogue.family_count = self.family_count
        self.catalogue.samples = self.samples
        self.catalogue.proto_samples = self.proto_samples
        self.catalogue.table_count = table_count
        self.catalogue.created_table = self.catalogue.created_column = PM_NO_COLUMN
        if created is not None:
            table, column = created
            if not 0 <= table < table_count:
                raise IndexError(f"no table {table}")
            self.widths[table] = max(self.widths[table], 1 + column)
            self.catalogue.created_table, self.catalogue.created_column = table, column
        self.catalogue2 = self.catalogue
        self.catalogue2.families = self.openmetrics2

    cdef int _sample(self, pm_proto_sample *target, line) except -1:
        cdef bytes fields = line.fields
        cdef bytes composite = line.composite

        self.kept += (fields, composite)
        target.labels = PyBytes_AS_STRING(fields)
        target.labels_len = PyBytes_GET_SIZE(fields)
        target.part = PARTS.index(line.part)
        target.created = line.created
        target.bound = line.bound
        target.composite = PyBytes_AS_STRING(composite)
        target.composite_len = PyBytes_GET_SIZE(composite)
        # Counts are written as they are.
        if line.part in ("bucket", "count") and (line.unit.multiply, line.unit.divide, line.unit.decimals) != (1, 1, 0):
            raise ValueError("the counts of a histogram have no unit")
        if line.part in ("bucket", "count") and not composite:
            raise ValueError("a bucket has its bound, and a count the name of its histogram")
        return 0

    cdef int _family(self, pm_family *target, bytes header, uint32_t first, family) except -1:
        self.kept.append(header)
        target.header = PyBytes_AS_STRING(header)
        target.header_len = PyBytes_GET_SIZE(header)
        target.first = first
        target.count = len(family.samples)
        target.by_row = family.by_row
        if family.by_row and len({line.table for line in family.samples}) > 1:
            raise ValueError("a family that is written row by row has samples of one table")
        return 0

    def __dealloc__(self):
        PyMem_Free(self.text)
        PyMem_Free(self.openmetrics)
        PyMem_Free(self.openmetrics2)
        PyMem_Free(self.samples)
        PyMem_Free(self.proto_families)
        PyMem_Free(self.proto_samples)

    def render(
        self, Body body not None, tables, Labels labels=None, *, openmetrics=False, bint protobuf=False,
        bint openmetrics2=False, const unsigned char[::1] selected=None,
    ):
        """Append the exposition of the tables to the body; the number of sample lines.

        tables: one for each index the samples name, None to leave its lines out. They must not change meanwhile.
        labels: the parents' label blocks. selected: a byte for each family, 0 leaves it out.
        The interpreter lock is released while native code runs.
        """
        cdef const pm_table **pointers
        cdef const pm_family *families = self.openmetrics if openmetrics else self.text
        cdef const pm_block *blocks = NULL
        cdef const unsigned char *wanted = NULL
        cdef uint32_t block_count = 0
        cdef uint64_t lines = 0
        cdef int result
        cdef Table table

        if len(tables) != self.table_count:
            raise ValueError(f"{self.table_count} tables expected, got {len(tables)}")
        if selected is not None:
            if <uint32_t>selected.shape[0] != self.family_count:
                raise ValueError(f"{self.family_count} families expected, got {selected.shape[0]}")
            if self.family_count:
                wanted = &selected[0]
        body._writable()
        if labels is not None:
            blocks = labels.blocks
            block_count = labels.count
        pointers = <const pm_table **>malloc((len(tables) + 1) * sizeof(void *))
        if pointers == NULL:
            raise MemoryError
        try:
            for i, item in enumerate(tables):
                pointers[i] = NULL
                if item is not None:
                    table = item
                    if table.table.columns < <uint32_t>self.widths[i]:
                        raise ValueError(f"table {table.name}: {self.widths[i]} columns expected")
                    pointers[i] = &table.table
            with nogil:
                if protobuf:
                    result = pm_render_protobuf(
                        &body.buffer, &self.catalogue, pointers, blocks, block_count, wanted, &lines)
                elif openmetrics2:
                    result = pm_render_openmetrics2(
                        &body.buffer, &self.catalogue2, pointers, blocks, block_count, wanted, &lines)
                else:
                    result = pm_render(
                        &body.buffer, families, self.family_count, self.samples, pointers, blocks, block_count, wanted,
                        &lines)
        finally:
            free(pointers)
        if result < 0:
            raise MemoryError
        return lines


cdef int _scale(pm_scale *target, unit) except -1:
    target.subtract = unit.subtract
    target.multiply = unit.multiply
    target.divide = unit.divide
    target.add = unit.add
    target.decimals = unit.decimals
    target.is_signed = unit.signed
    if target.divide == 0 or target.decimals > 18:
        raise ValueError(f"scale {unit}")
    return 0


def escape(const unsigned char[::1] value not None):
    """A label value with backslash, double quote and newline escaped."""
    cdef pm_buffer buffer

    buffer.data = NULL
    buffer.len = buffer.cap = 0
    try:
        if value.shape[0] and pm_escape(&buffer, <const char *>&value[0], value.shape[0]) < 0:
            raise MemoryError
        return buffer.data[: buffer.len] if buffer.len else b""
    finally:
        pm_buffer_free(&buffer)


def decimal(value, unit):
    """Return the text that is exported for a cell of a column with this unit."""
    cdef pm_scale native
    cdef char *out = <char *>malloc(PM_DECIMAL_MAX)
    cdef uint64_t cell = value & 0xffffffffffffffff

    if out == NULL:
        raise MemoryError
    try:
        _scale(&native, unit)
        return out[: pm_decimal(out, cell, &native)]
    finally:
        free(out)
