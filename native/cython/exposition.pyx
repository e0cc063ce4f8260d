"""Parser of expositions of other programs. It works without the GIL. The stub, exposition.pyi, describes it."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t
from libc.string cimport memcpy

from pymon._native.core cimport (
    PM_FINE,
    PM_MINUS_INFINITY,
    PM_NAN,
    PM_NO_NUMBER,
    PM_PLUS_INFINITY,
    PM_TOO_LARGE,
    pm_buffer,
    pm_buffer_free,
    pm_exposition,
    pm_exposition_family,
    pm_exposition_free,
    pm_exposition_head,
    pm_exposition_init,
    pm_exposition_label,
    pm_exposition_labelled,
    pm_exposition_labels,
    pm_exposition_next_label,
    pm_exposition_openmetrics2,
    pm_exposition_protobuf,
    pm_exposition_run,
    pm_exposition_sample,
    pm_exposition_taken,
    pm_family_types,
    pm_number,
    pm_number_class,
    pm_span,
    pm_suffixes,
)

cdef tuple REASONS = (
    "", "newline", "utf8", "nul", "line", "name", "metadata", "help_twice", "type_twice", "kind", "escape", "label",
    "label_twice", "label_reserved", "nothing", "number", "large", "trailing", "suffix", "le", "quantile",
    "false_le", "false_quantile", "family_twice", "series_twice",
)
cdef enum:
    TAKEN_MAX = 8

cdef uint64_t KEY[2]
cdef bytes _random = os.urandom(sizeof(KEY))
memcpy(KEY, PyBytes_AS_STRING(_random), sizeof(KEY))


cdef class Exposition:
    """An incremental parser. See native/core/exposition.h for the dialects and what they refuse."""

    cdef pm_exposition reader
    cdef bytes data
    cdef bint whole

    def __cinit__(self, bytes data not None, *, bint strict=False, bint allow_repeated=False):
        if PyBytes_GET_SIZE(data) > UINT32_MAX:
            raise OverflowError("an exposition of more than 4 GiB")
        self.data = data
        pm_exposition_init(
            &self.reader, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), strict, allow_repeated, KEY)

    def __dealloc__(self):
        pm_exposition_free(&self.reader)

    def run(self, size_t max_bytes=UINT32_MAX):
        """Parse about `max_bytes` more bytes. Returns True at the end or if there is a `problem`."""
        cdef int result

        if self.whole:
            return True
        with nogil:
            result = pm_exposition_run(&self.reader, max_bytes)
        if result == -2:
            raise MemoryError
        self.whole = result > 0
        return result != 0

    @property
    def problem(self):
        """The problem of the text, None if there is none."""
        if self.reader.problem.reason == PM_FINE:
            return None
        return (
            REASONS[<int>self.reader.problem.reason], self.reader.problem.number, self.reader.problem.line.at,
            self._bytes(self.reader.problem.line), self._bytes(self.reader.problem.at),
            self._bytes(self.reader.problem.name))

    @property
    def steps(self):
        """The number of bytes and table slots looked at so far."""
        return self.reader.steps

    @property
    def family_count(self):
        """The number of families, with those that have no samples."""
        return self.reader.family_count

    @property
    def sample_count(self):
        """The number of samples, with duplicates."""
        return self.reader.sample_count

    @property
    def repeated(self):
        """The numbers of the samples whose series is a duplicate."""
        return [i for i in range(self.reader.sample_count) if self.reader.samples[i].repeated]

    def families(self, uint32_t start=0, uint32_t stop=UINT32_MAX):
        """Return a range of families: (name, kind, help as written or None, first sample, samples, few digits)."""
        cdef pm_exposition_family *family
        cdef list found = []

        for i in range(start, min(stop, self.reader.family_count)):
            family = &self.reader.families[i]
            found.append((
                self._bytes(family.name), pm_family_types[family.kind],
                self._bytes(family.help) if family.has_help else None,
                family.first, family.samples, bool(family.few_digits)))
        return found

    def samples(self, uint32_t start=0, uint32_t stop=UINT32_MAX):
        """Return a range of samples: (family, suffix, labels, value, duplicate)."""
        cdef pm_exposition_sample *sample
        cdef list found = []

        for i in range(start, min(stop, self.reader.sample_count)):
            sample = &self.reader.samples[i]
            found.append((
                sample.family, pm_suffixes[sample.suffix].decode(),
                _labels(self.reader.data + sample.labels.at, sample.labels.len),
                _spelled(self.reader.data + sample.value.at, sample.value.len), bool(sample.repeated)))
        return found

    def rows(self, uint32_t start=0, uint32_t stop=UINT32_MAX):
        """Return a range of samples as written: (suffix, text between the braces, value)."""
        cdef pm_exposition_sample *sample
        cdef list found = []

        for i in range(start, min(stop, self.reader.sample_count)):
            sample = &self.reader.samples[i]
            found.append((<bytes>pm_suffixes[sample.suffix], self._bytes(sample.labels), self._bytes(sample.value)))
        return found

    def labelled(self, uint32_t family, bytes front not None, tuple taken not None):
        """Return the samples of a family with `front` before their own labels, each after a newline.

        Own labels with a name in `taken` are renamed to exported_<name>. The dialect must be the strict one.
        """
        cdef pm_exposition_taken names[TAKEN_MAX]
        cdef Py_ssize_t count = len(taken)
        cdef const char *text = PyBytes_AS_STRING(front)
        cdef size_t length = PyBytes_GET_SIZE(front)
        cdef pm_buffer out
        cdef int result

        if not self.whole or not self.reader.strict or family >= self.reader.family_count or count > TAKEN_MAX:
            raise ValueError("a family of a strict text that was read, and at most 8 names")
        for i in range(count):
            names[i].name = PyBytes_AS_STRING(taken[i])
            names[i].len = PyBytes_GET_SIZE(taken[i])
        out.data = NULL
        out.len = out.cap = 0
        try:
            with nogil:
                result = pm_exposition_labelled(&self.reader, family, text, length, names, count, &out)
            if result < 0:
                raise MemoryError
            return _bytes_of(&out)
        finally:
            pm_buffer_free(&out)

    def openmetrics2(self, list heads not None, uint64_t start_ms=0):
        """Return the exposition in OpenMetrics 2.0. It must have been read to its end."""
        cdef pm_exposition_head *lines
        cdef pm_buffer out
        cdef bytes head
        cdef int result

        if not self.whole or len(heads) != <Py_ssize_t>self.reader.family_count:
            raise ValueError("a text that was read to its end, and the metadata of each of its families")
        out.data = NULL
        out.len = out.cap = 0
        lines = <pm_exposition_head *>PyMem_Calloc(self.reader.family_count + 1, sizeof(pm_exposition_head))
        try:
            if lines == NULL:
                raise MemoryError
            for i in range(self.reader.family_count):
                head = heads[i]
                lines[i].data = PyBytes_AS_STRING(head)
                lines[i].len = PyBytes_GET_SIZE(head)
            with nogil:
                result = pm_exposition_openmetrics2(&self.reader, lines, start_ms, &out)
            if result < 0:
                raise MemoryError
            return _bytes_of(&out)
        finally:
            PyMem_Free(lines)
            pm_buffer_free(&out)

    def protobuf(self, uint64_t start_ms=0):
        """Return the exposition in protocol buffers, without duplicate series. It must have been read to its end."""
        cdef pm_buffer out
        cdef int result

        if not self.whole:
            raise ValueError("a text that was read to its end")
        out.data = NULL
        out.len = out.cap = 0
        try:
            with nogil:
                result = pm_exposition_protobuf(&self.reader, start_ms, &out)
            if result < 0:
                raise MemoryError
            return _bytes_of(&out)
        finally:
            pm_buffer_free(&out)

    cdef bytes _bytes(self, pm_span span):
        return self.reader.data[span.at : span.at + span.len]


def read_labels(bytes data not None, size_t at):
    """Parse labels from the offset after an opening brace.

    Returns the labels, the offset after the closing brace, and (reason, wrong text) of a problem or None.
    """
    cdef pm_exposition reader
    cdef size_t start = at
    cdef int result

    if at > <size_t>PyBytes_GET_SIZE(data) or PyBytes_GET_SIZE(data) > UINT32_MAX:
        raise IndexError(at)
    pm_exposition_init(&reader, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False, False, KEY)
    try:
        result = pm_exposition_labels(&reader, &at)
        if result == -2:
            raise MemoryError
        if result < 0:
            shown = reader.data[reader.problem.at.at : reader.problem.at.at + reader.problem.at.len]
            return (), at, (REASONS[<int>reader.problem.reason], shown)
        return _labels(reader.data + start, at - 1 - start), at, None
    finally:
        pm_exposition_free(&reader)


def number(bytes data not None):
    """Return a number with infinities and NaN in their usual spelling, None if it is not a number."""
    cdef pm_number_class found = pm_number(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False)

    if found == PM_NO_NUMBER or found == PM_TOO_LARGE:
        return None
    return _spelled(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def unescaped(bytes text not None):
    """Remove the escapes of a parsed help or label value."""
    return _unescaped(text)


def split_labels(bytes labels not None):
    """Split the text between the braces of a parsed sample into (name, value). Values are quoted and escaped."""
    cdef const char *at = PyBytes_AS_STRING(labels)
    cdef const char *end = at + PyBytes_GET_SIZE(labels)
    cdef pm_exposition_label label
    cdef list found = []

    while pm_exposition_next_label(&at, end, &label):
        found.append((label.name[: label.name_len], (label.value - 1)[: label.value_len + 2]))
    return found


cdef bytes _bytes_of(const pm_buffer *buffer):
    """Return the content as bytes. It is copied without the GIL, as it may be large."""
    cdef bytes made = PyBytes_FromStringAndSize(NULL, buffer.len)
    cdef char *target = PyBytes_AS_STRING(made)

    with nogil:
        if buffer.len:
            memcpy(target, buffer.data, buffer.len)
    return made


cdef str _spelled(const char *data, size_t length):
    cdef pm_number_class found = pm_number(data, length, False)

    if found == PM_PLUS_INFINITY:
        return "+Inf"
    if found == PM_MINUS_INFINITY:
        return "-Inf"
    if found == PM_NAN:
        return "NaN"
    return data[:length].decode("ascii")


cdef str _unescaped(bytes text):
    if b"\\" not in text:
        return text.decode()
    parts = text.split(b"\\\\")
    return b"\\".join([part.replace(b'\\"', b'"').replace(b"\\n", b"\n") for part in parts]).decode()


cdef tuple _labels(const char *data, size_t length):
    cdef const char *at = data
    cdef pm_exposition_label label
    cdef list found = []

    while pm_exposition_next_label(&at, data + length, &label):
        found.append((
            label.name[: label.name_len].decode("ascii"), _unescaped(label.value[: label.value_len])))
    return tuple(found)
