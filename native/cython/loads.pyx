"""Averages of numbers that decay."""

from libc.stdint cimport uint32_t

from pymon._native.core cimport (
    pm_loads,
    pm_loads_forget,
    pm_loads_free,
    pm_loads_new,
    pm_loads_take,
    pm_loads_write,
    pm_table_clear_to,
)
from pymon._native.table cimport Table


cdef class Loads:
    """Averages of a number of numbers of each container."""

    cdef pm_loads *loads
    cdef readonly uint32_t series

    def __cinit__(self, series):
        self.series = series
        self.loads = pm_loads_new(self.series)
        if self.loads == NULL:
            raise MemoryError

    def __dealloc__(self):
        pm_loads_free(self.loads)

    def forget(self, row):
        """Forget the container of a row."""
        pm_loads_forget(self.loads, row)

    def take(self, Table table not None, columns, rows, double keep):
        """Take a sample of every container."""
        cdef uint32_t series, at
        cdef uint32_t count = rows
        cdef int result

        if len(columns) != self.series:
            raise ValueError(f"{self.series} columns expected")
        for series in range(self.series):
            at = table.index[columns[series]]
            with nogil:
                result = pm_loads_take(self.loads, series, &table.table, at, count, keep)
            if result < 0:
                raise MemoryError

    def write(self, Table table not None, rows):
        """Make a table anew: a row for each container, a column for each number."""
        cdef uint32_t series
        cdef uint32_t count = rows

        table._writable()
        if len(table.columns) != self.series:
            raise ValueError(f"table {table.name}: {self.series} columns expected")
        if pm_table_clear_to(&table.table, count) < 0:
            raise MemoryError
        for series in range(self.series):
            with nogil:
                pm_loads_write(self.loads, series, &table.table, series)
