"""The highest rates of counters in the last seconds."""

from libc.stdint cimport int64_t, uint32_t

from pymon._native.core cimport (
    pm_peaks,
    pm_peaks_forget,
    pm_peaks_free,
    pm_peaks_new,
    pm_peaks_take,
    pm_peaks_write,
    pm_table_clear_to,
)
from pymon._native.table cimport Table


cdef class Peaks:
    """Samples of a number of counters of each container."""

    cdef pm_peaks *peaks
    cdef readonly uint32_t series

    def __cinit__(self, series):
        self.series = series
        self.peaks = pm_peaks_new(self.series)
        if self.peaks == NULL:
            raise MemoryError

    def __dealloc__(self):
        pm_peaks_free(self.peaks)

    def forget(self, row):
        """Forget the container of a row."""
        pm_peaks_forget(self.peaks, row)

    def take(self, series, Table table not None, str column, rows, now_ns, double scale):
        """Take a sample of a counter of every container."""
        cdef uint32_t index = self._index(series)
        cdef uint32_t at = table.index[column]
        cdef uint32_t count = rows
        cdef int64_t now = now_ns
        cdef int result

        with nogil:
            result = pm_peaks_take(self.peaks, index, &table.table, at, count, now, scale)
        if result < 0:
            raise MemoryError

    def write(self, Table table not None, rows, windows, now_ns):
        """Make a table anew: a row for each container, and for each counter a column for each window."""
        cdef uint32_t column = 0
        cdef uint32_t seconds
        cdef uint32_t count = rows
        cdef int64_t now = now_ns

        table._writable()
        if len(table.columns) != self.series * len(windows):
            raise ValueError(f"table {table.name}: {self.series * len(windows)} columns expected")
        if pm_table_clear_to(&table.table, count) < 0:
            raise MemoryError
        for series in range(self.series):
            for window in windows:
                seconds = window
                with nogil:
                    pm_peaks_write(self.peaks, series, seconds, now, &table.table, column)
                column += 1

    cdef uint32_t _index(self, series) except? 0xffffffff:
        if not 0 <= series < self.series:
            raise IndexError(f"no counter {series}")
        return series
