"""Tables of kernel numbers in native memory."""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t

from pymon._native.core cimport (
    PM_MALFORMED,
    PM_NO_PARENT,
    pm_buffer,
    pm_buffer_free,
    pm_keys_free,
    pm_keys_init,
    pm_label_append,
    pm_row_labels,
    pm_scan_keyed,
    pm_scan_rows,
    pm_table_append,
    pm_table_clear,
    pm_table_copy,
    pm_table_copy_row,
    pm_table_drop_repeated,
    pm_table_free,
    pm_table_get,
    pm_table_grow,
    pm_table_has,
    pm_table_init,
    pm_table_label,
    pm_table_relabel,
    pm_table_set,
    pm_table_unset_row,
)

cdef char *ITEM_FORMAT = b"Q"
cdef const char *NOTHING = b""


cdef class Table:
    """A matrix of 64-bit integers with a presence bit for each cell and a label block for each row."""

    def __cinit__(self, str name, columns, negative=()):
        cdef uint32_t count
        cdef const char **names = NULL
        cdef uint32_t *indexes = NULL

        self.name = name
        self.columns = tuple(columns)
        self.index = {column: i for i, column in enumerate(self.columns)}
        if len(self.index) != len(self.columns):
            raise ValueError(f"table {name}: a column is named twice")
        count = len(self.columns)
        pm_table_init(&self.table, count)
        encoded = [column.encode() for column in self.columns]
        names = <const char **>PyMem_Malloc((count + 1) * sizeof(char *))
        indexes = <uint32_t *>PyMem_Malloc((count + 1) * sizeof(uint32_t))
        try:
            if names == NULL or indexes == NULL:
                raise MemoryError
            for i in range(count):
                names[i] = PyBytes_AS_STRING(encoded[i])
                indexes[i] = i
            if pm_keys_init(&self.keys, names, indexes, count) < 0:
                raise MemoryError
            for i in range(count):
                self.keys.amounts[i] = self.columns[i] not in negative
        finally:
            PyMem_Free(names)
            PyMem_Free(indexes)

    def __dealloc__(self):
        pm_table_free(&self.table)
        pm_keys_free(&self.keys)

    def __len__(self):
        return self.table.rows

    def clear(self):
        """Drop every row; memory is kept for the next collection."""
        self._writable()
        pm_table_clear(&self.table)

    def add_row(self, labels=()):
        """Append a row of absent cells with this label block; its index."""
        cdef int64_t row

        self._writable()
        encoded = [((<str>name).encode(), (<str>value).encode("utf-8", "surrogateescape")) for name, value in labels]
        row = pm_table_append(&self.table, PM_NO_PARENT)
        if row < 0:
            raise MemoryError
        for encoded_name, encoded_value in encoded:
            if pm_table_label(
                &self.table, PyBytes_AS_STRING(encoded_name), PyBytes_GET_SIZE(encoded_name),
                PyBytes_AS_STRING(encoded_value), PyBytes_GET_SIZE(encoded_value),
            ) < 0:
                raise MemoryError
        return row

    def relabel(self, row, labels):
        """Give a row other labels of its own; its parent stays."""
        cdef uint32_t at = self._row(row)
        cdef pm_buffer block = [NULL, 0, 0]
        cdef int result = 0

        self._writable()
        encoded = [((<str>name).encode(), (<str>value).encode("utf-8", "surrogateescape")) for name, value in labels]
        for name, value in encoded:
            result |= pm_label_append(
                &block, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), PyBytes_AS_STRING(value),
                PyBytes_GET_SIZE(value))
        if result == 0:
            result = pm_table_relabel(&self.table, at, block.data, block.len)
        pm_buffer_free(&block)
        if result < 0:
            raise MemoryError

    def set(self, row, str column, value):
        """Set one cell. KeyError on an unknown column; OverflowError outside -2**63 .. 2**64-1."""
        pm_table_set(&self.table, self._row(row), self.index[column], _cell(value))

    def drop_repeated(self):
        """Remove rows that have the label block of an earlier one."""
        self._writable()
        if pm_table_drop_repeated(&self.table, 0) < 0:
            raise MemoryError

    def grow(self, rows):
        """Have at least this many rows, each with the label block of the parent of its index."""
        self._writable()
        if pm_table_grow(&self.table, rows) < 0:
            raise MemoryError

    def unset(self, row):
        """Make the cells of a row absent."""
        pm_table_unset_row(&self.table, self._row(row))

    def assign(self, Table other not None):
        """Become a copy of a table of the same columns."""
        self._writable()
        if other is self:
            return
        if other.columns != self.columns:
            raise ValueError(f"table {other.name} has other columns than {self.name}")
        if pm_table_copy(&self.table, &other.table) < 0:
            raise MemoryError

    def assign_row(self, Table other not None, row):
        """Become one row: that of a table of the same columns, with its own labels and the label block of parent 0."""
        self._writable()
        if other.columns != self.columns:
            raise ValueError(f"table {other.name} has other columns than {self.name}")
        if pm_table_copy_row(&self.table, &other.table, other._row(row)) < 0:
            raise MemoryError

    def stamp(self, str column, value):
        """Set a column in every row that has any cell."""
        cdef uint32_t index = self.index[column]
        cdef uint64_t cell = _cell(value)
        cdef uint32_t row, word

        for row in range(self.table.rows):
            for word in range(self.table.words):
                if self.table.present[<size_t>row * self.table.words + word]:
                    pm_table_set(&self.table, row, index, cell)
                    break

    def fill(self, row, values, first=0):
        """Set cells from column index `first` on; None leaves a cell absent."""
        cdef uint32_t at = self._row(row)
        cdef uint32_t column = first

        for value in values:
            if column >= self.table.columns:
                break
            if value is not None:
                pm_table_set(&self.table, at, column, _cell(value))
            column += 1

    def get(self, row, str column):
        """One cell as an unsigned integer, or None when it is absent."""
        cdef uint32_t at = self._row(row)
        cdef uint32_t index = self.index[column]

        if not pm_table_has(&self.table, at, index):
            return None
        return pm_table_get(&self.table, at, index)

    def scan_keyed(self, row, const unsigned char[::1] data not None, field=1):
        """Set cells from lines of `key value`; the number of cells set."""
        cdef uint32_t count = 0
        cdef const char *text = <const char *>&data[0] if data.shape[0] else NOTHING

        self.malformed = pm_scan_keyed(
            &self.keys, text, data.shape[0], field, &self.table, self._row(row), &count) == PM_MALFORMED
        return count

    def scan_rows(self, const unsigned char[::1] data not None, str label not None, skip=0, key=0, first=1):
        """Append one row for each line; the number of rows added."""
        cdef uint32_t before = self.table.rows
        cdef const char *text = <const char *>&data[0] if data.shape[0] else NOTHING

        self._writable()
        encoded = label.encode()
        self.malformed = pm_scan_rows(
            &self.table, text, data.shape[0], PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), skip, key, first,
        ) == PM_MALFORMED
        return self.table.rows - before

    def labels(self, row):
        """The escaped label block of a row, without braces, each label followed by a comma."""
        cdef const pm_row_labels *labels = &self.table.labels[self._row(row)]

        if labels.len == 0:
            return b""
        return PyBytes_FromStringAndSize(self.table.arena.data + labels.offset, labels.len)

    def parent(self, row):
        """Index of the label block that the renderer puts behind the row's own, or None."""
        cdef const pm_row_labels *labels = &self.table.labels[self._row(row)]

        return None if labels.parent == PM_NO_PARENT else labels.parent

    @property
    def address(self):
        """Where the pm_table is; good as long as the Table lives."""
        return <uintptr_t>&self.table

    cdef uint32_t _row(self, row) except? 0xffffffff:
        if not 0 <= row < self.table.rows:
            raise IndexError(f"table {self.name}: no row {row}")
        return row

    cdef int _writable(self) except -1:
        if self.exports:
            raise BufferError(f"table {self.name} is lent")
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a table is lent for reading only")
        if not flags & (PyBUF_ND | PyBUF_STRIDES):
            raise BufferError("a table has two dimensions")
        self.shape[0] = self.table.rows
        self.shape[1] = self.table.columns
        self.strides[0] = self.table.columns * sizeof(uint64_t)
        self.strides[1] = sizeof(uint64_t)
        buffer.buf = self.table.cells
        buffer.obj = self
        buffer.len = self.shape[0] * self.strides[0]
        buffer.itemsize = sizeof(uint64_t)
        buffer.readonly = 1
        buffer.ndim = 2
        buffer.format = ITEM_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1


cdef uint64_t _cell(value) except? 0xffffffffffffffff:
    if value < 0:
        return <uint64_t><int64_t>value
    return value
