from libc.stdint cimport uint32_t

from pymon._native.core cimport pm_keys, pm_table


cdef class Table:
    cdef pm_table table
    cdef pm_keys keys
    cdef readonly str name
    cdef readonly tuple columns
    cdef readonly bint malformed
    cdef dict index
    cdef Py_ssize_t shape[2]
    cdef Py_ssize_t strides[2]
    cdef Py_ssize_t exports
    cdef uint32_t _row(self, row) except? 0xffffffff
    cdef int _writable(self) except -1
