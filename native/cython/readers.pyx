"""Threads that read kernel files for every container in bulk."""

import os
from dataclasses import dataclass

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport strdup

from pymon._native.core cimport (
    PM_LABEL_SOURCES,
    PM_LABELS,
    PM_REASON_COUNT,
    PM_TARGETS,
    pm_keys,
    pm_keys_free,
    pm_keys_init,
    pm_label_source_name,
    pm_monotonic_ns,
    pm_reason_name,
    pm_result,
    pm_table,
)
from pymon._native.linux cimport (
    PM_NO_TABLE,
    PM_PLACE_NETWORK,
    PM_PLACE_PROCESSES,
    PM_PROCESS_TABLES,
    PM_TABLES,
    pm_file,
    pm_filler,
    pm_kind,
    pm_kind_find,
    pm_kind_is_procs,
    pm_mailbox,
    pm_mailbox_event,
    pm_mailbox_free,
    pm_mailbox_new,
    pm_mailbox_take,
    pm_plan,
    pm_process_kinds,
    pm_reader,
    pm_reader_add,
    pm_reader_collect,
    pm_reader_collect_row,
    pm_reader_open_descriptors,
    pm_reader_refresh,
    pm_reader_remove,
    pm_reader_shares_descriptors,
    pm_reader_start,
    pm_reader_stop,
    pm_reader_wake,
    pm_ticket,
)
from pymon._native.table cimport Table

cdef dict LABEL_SOURCES = {pm_label_source_name(source).decode(): source for source in range(PM_LABEL_SOURCES)}


@dataclass(frozen=True)
class PlanTarget:
    """A table that a file fills, by its index in the layout; with labels its rows are added."""

    table: int
    labels: object = ()


@dataclass(frozen=True)
class PlanFile:
    """A kernel file of a plan.

    negative: those of the keys whose number may be negative.
    """

    name: str
    kind: str
    targets: object
    root: int = 0
    slow: bool = False
    column: int = 0
    keys: object = ()
    second: str = ""
    rest: bool = False
    negative: object = frozenset()


def is_keyed(str kind not None):
    """Whether the columns that a file of this kind fills are those of its keys. KeyError: there is no such kind."""
    return _kind(kind).columns == 0


cdef const pm_kind *_kind(str name) except NULL:
    cdef const pm_kind *kind = pm_kind_find(PyBytes_AS_STRING(name.encode()))

    if kind == NULL:
        raise KeyError(name)
    return kind


def monotonic_ns():
    """The clock of deadlines: CLOCK_MONOTONIC in nanoseconds."""
    return pm_monotonic_ns()


cdef class Result:
    """What came of one collection of one reader."""

    cdef pm_result result

    @property
    def done(self):
        """Whether the reader has finished; until then its tables are being written."""
        return bool(self.result.done)

    @property
    def seconds(self):
        """How long the collection took."""
        return (self.result.finished_ns - self.result.started_ns) / 1e9

    @property
    def failures(self):
        """Failures by reason: a kernel error name in lower case, empty, truncated, malformed or deadline."""
        return {
            pm_reason_name(reason).decode(): self.result.failures[reason]
            for reason in range(PM_REASON_COUNT)
            if self.result.failures[reason]
        }


cdef class Ticket:
    """Jobs posted together. Done when all of them are; then the mailbox hands it out."""

    cdef pm_ticket ticket
    cdef readonly list results
    cdef list kept

    @property
    def done(self):
        return self.ticket.pending == 0


cdef class Mailbox:
    """Where finished tickets wait. Readable at `fileno()` while there are any."""

    cdef pm_mailbox *mailbox

    def __cinit__(self):
        self.mailbox = pm_mailbox_new()
        if self.mailbox == NULL:
            raise OSError(errno, os.strerror(errno))

    def __dealloc__(self):
        pm_mailbox_free(self.mailbox)

    def fileno(self):
        return pm_mailbox_event(self.mailbox)

    def take(self):
        """One finished ticket, or None."""
        cdef pm_ticket *ticket = pm_mailbox_take(self.mailbox)

        if ticket == NULL:
            return None
        owner = <object>ticket.owner
        Py_DECREF(owner)
        return owner

    def collect(self, jobs, int64_t deadline_ns, uint32_t rows):
        """Have readers fill tables for rows 0 .. rows-1. jobs: (reader, tables) pairs. A ticket."""
        return self._post(jobs, deadline_ns, rows, False, True)

    def collect_row(self, jobs, int64_t deadline_ns, uint32_t row, *, wake=True):
        """Have readers fill row 0 of tables from one row. jobs: (reader, tables) pairs. A ticket.

        Without `wake` the readers begin when `Reader.wake` is called, with all that was posted until then.
        """
        return self._post(jobs, deadline_ns, row, True, wake)

    cdef Ticket _post(self, jobs, int64_t deadline_ns, uint32_t rows, bint single, bint wake):
        cdef Ticket ticket = Ticket.__new__(Ticket)
        cdef Reader reader
        cdef Result result
        cdef Table table
        cdef pm_table *pointers[PM_TABLES]
        cdef int posted

        ticket.results = []
        ticket.kept = list(jobs)
        if not ticket.kept:
            raise ValueError("no reader to post to")
        for reader, tables in ticket.kept:
            if reader is None:
                raise TypeError("no reader to post to")
            if len(tables) != len(reader.layout):
                raise ValueError(f"{reader.name}: {len(reader.layout)} tables expected, got {len(tables)}")
            reader._open()
            if reader.mailbox is not self:
                raise ValueError(f"{reader.name}: the reader answers to another mailbox")
            for item, (_, columns) in zip(tables, reader.layout):
                if item is not None:
                    table = item
                    table._writable()
                    if len(table.columns) != len(columns):
                        raise ValueError(f"{reader.name}: table {table.name}: {len(columns)} columns expected")
        ticket.ticket.pending = len(ticket.kept)
        ticket.ticket.mailbox = self.mailbox
        ticket.ticket.owner = <void *>ticket
        Py_INCREF(ticket)
        for reader, tables in ticket.kept:
            result = Result.__new__(Result)
            ticket.results.append(result)
            for i, item in enumerate(tables):
                pointers[i] = NULL
                if item is not None:
                    table = item
                    pointers[i] = &table.table
            if single:
                posted = pm_reader_collect_row(
                    reader.reader, &ticket.ticket, &result.result, pointers, rows, deadline_ns, wake)
            else:
                posted = pm_reader_collect(reader.reader, &ticket.ticket, &result.result, pointers, rows, deadline_ns)
            if posted < 0:
                raise MemoryError
        return ticket


cdef class Reader:
    """One thread with its own descriptor table that reads a plan's files for every container."""

    cdef pm_plan plan
    cdef pm_reader *reader
    cdef readonly str name
    cdef readonly tuple layout
    cdef Mailbox mailbox
    cdef object filler

    def __cinit__(
        self, str name not None, Mailbox mailbox not None, *, roots, procfs, sysfs, files, layout, net_files=(),
        processes=None, filler=None, budget, sharers=1, slow_seconds, excluded=(),
    ):
        cdef int failed = -1
        cdef uintptr_t address

        self.name = name
        self.mailbox = mailbox
        self.layout = tuple(layout)
        self.filler = filler
        if len(self.layout) > PM_TABLES:
            raise ValueError(f"{name}: more than {PM_TABLES} tables")
        self.plan.table_count = len(self.layout)
        self.plan.roots = <char **>calloc(len(roots) + 1, sizeof(char *))
        self.plan.files = <pm_file *>calloc(len(files) + 1, sizeof(pm_file))
        self.plan.net_files = <pm_file *>calloc(len(net_files) + 1, sizeof(pm_file))
        self.plan.excluded = <char **>calloc(len(excluded) + 1, sizeof(char *))
        if self.plan.roots == NULL or self.plan.files == NULL or self.plan.net_files == NULL:
            raise MemoryError
        if self.plan.excluded == NULL:
            raise MemoryError
        for i, root in enumerate(roots):
            self.plan.roots[i] = _copy(root)
            self.plan.root_count = i + 1
        for i, pattern in enumerate(excluded):
            self.plan.excluded[i] = _copy(pattern)
        self.plan.procfs = _copy(procfs)
        self.plan.sysfs = _copy(sysfs)
        for i, file in enumerate(files):
            self.plan.file_count = i + 1
            self._file(&self.plan.files[i], file)
        for i, file in enumerate(net_files):
            self.plan.net_file_count = i + 1
            self._file(&self.plan.net_files[i], file)
        processes = dict(processes or {})
        for i in range(PM_PROCESS_TABLES):
            kind = pm_process_kinds[i].name.decode()
            table = processes.pop(kind, None)
            if table is not None and len(self.layout[table][1]) < pm_process_kinds[i].columns:
                raise IndexError(f"{name}: {pm_process_kinds[i].columns} columns expected of {kind}")
            self.plan.processes[i] = PM_NO_TABLE if table is None else table
        if processes:
            raise ValueError(f"{name}: unknown process tables {sorted(processes)}")
        if filler is not None:
            address = filler.address
            self.plan.filler = <const pm_filler *>address
        self.plan.budget = min(budget, 0x7fffffff)
        self.plan.sharers = sharers
        self.plan.slow_ns = int(slow_seconds * 1e9)
        self.reader = pm_reader_start(&self.plan, mailbox.mailbox, &failed)
        if self.reader == NULL:
            raise OSError(errno, os.strerror(errno), roots[failed] if failed >= 0 else None)

    cdef int _file(self, pm_file *target, file) except -1:
        cdef const pm_kind *kind = _kind(file.kind)
        cdef uint32_t width

        if not 0 <= file.root < self.plan.root_count:
            raise IndexError(f"{self.name}: {file.name}: no root {file.root}")
        if not 0 < len(file.targets) <= PM_TARGETS:
            raise ValueError(f"{self.name}: {file.name}: 1 to {PM_TARGETS} targets expected")
        if file.slow and kind.line == NULL:
            raise ValueError(f"{self.name}: {file.name}: of kind {file.kind}, which is no setting")
        if file.second and not kind.least:
            raise ValueError(f"{self.name}: {file.name}: of kind {file.kind}, which has no second file")
        if kind.least and not file.slow:
            raise ValueError(f"{self.name}: {file.name}: of kind {file.kind}, which is a setting")
        target.name = _copy(file.name)
        target.second = _copy(file.second) if file.second else NULL
        target.kind = kind
        target.root = file.root
        target.slow = file.slow
        target.rest = file.rest
        target.column = file.column
        for i, item in enumerate(file.targets):
            if len(item.labels) > PM_LABELS:
                raise ValueError(f"{self.name}: {file.name}: more than {PM_LABELS} labels")
            table, columns = self.layout[item.table]
            width = len(columns)
            last = file.column + max(kind.columns - 1, 0)
            if not all(0 <= at < width for at in [last, *(at for _, at in file.keys)]):
                raise IndexError(f"{self.name}: {file.name}: more than the {width} columns of {table}")
            target.targets[i].table = item.table
            target.target_count = i + 1
            for n, (label, source) in enumerate(item.labels):
                target.targets[i].labels[n].source = LABEL_SOURCES[source]
                target.targets[i].labels[n].name = _copy(label)
                target.targets[i].label_count = n + 1
        return _keys(&target.keys, file.keys, file.negative)

    def __dealloc__(self):
        with nogil:
            pm_reader_stop(self.reader)
        for i in range(self.plan.root_count):
            free(self.plan.roots[i])
        for i in range(self.plan.file_count):
            _free_file(&self.plan.files[i])
        for i in range(self.plan.net_file_count):
            _free_file(&self.plan.net_files[i])
        if self.plan.excluded != NULL:
            i = 0
            while self.plan.excluded[i] != NULL:
                free(self.plan.excluded[i])
                i += 1
        free(self.plan.excluded)
        free(self.plan.roots)
        free(self.plan.files)
        free(self.plan.net_files)
        free(self.plan.procfs)
        free(self.plan.sysfs)

    def close(self):
        """Finish what was posted, then stop the thread and close its descriptors."""
        cdef pm_reader *reader = self.reader

        self.reader = NULL
        with nogil:
            pm_reader_stop(reader)

    def new_tables(self):
        """Return new empty tables, one for each of the layout."""
        return [Table(name, columns) for name, columns in self.layout]

    def failures_of(self, Result result not None, names):
        """Failures by reason that may have made cells of these tables absent, of a collection of this reader."""
        cdef uint64_t count

        own = {place for place, (name, _) in enumerate(self.layout) if name in names}
        network = {self.plan.net_files[i].targets[0].table for i in range(self.plan.net_file_count)}
        listed = {self.plan.processes[i] for i in range(PM_PROCESS_TABLES)}
        listed |= {
            self.plan.files[i].targets[0].table
            for i in range(self.plan.file_count)
            if pm_kind_is_procs(self.plan.files[i].kind)
        }
        others = set(range(self.plan.table_count)) - own
        if own.isdisjoint(network):
            others.add(PM_PLACE_NETWORK)
            if own.isdisjoint(listed):
                others.add(PM_PLACE_PROCESSES)
        found = {}
        for reason in range(PM_REASON_COUNT):
            count = result.result.failures[reason]
            for other in others:
                count -= result.result.of_place[<uint32_t>other][reason]
            if count:
                found[pm_reason_name(reason).decode()] = count
        return found

    def add(self, uint32_t row, str path not None, int64_t start_ns):
        """A container came: its path relative to the hierarchies' roots, its start on the realtime clock."""
        encoded = os.fsencode(path)
        self._open()
        if pm_reader_add(self.reader, row, PyBytes_AS_STRING(encoded), start_ns) < 0:
            raise MemoryError

    def wake(self):
        """Begin what was posted without waking."""
        self._open()
        pm_reader_wake(self.reader)

    def remove(self, uint32_t row):
        """A container went."""
        self._open()
        if pm_reader_remove(self.reader, row) < 0:
            raise MemoryError

    def refresh(self, uint32_t row):
        """A container's directory appeared in one more hierarchy."""
        self._open()
        if pm_reader_refresh(self.reader, row) < 0:
            raise MemoryError

    cdef int _open(self) except -1:
        if self.reader == NULL:
            raise ValueError(f"{self.name}: the reader is closed")
        return 0

    @property
    def open_descriptors(self):
        """Descriptors kept open on containers."""
        return 0 if self.reader == NULL else pm_reader_open_descriptors(self.reader)

    @property
    def own_descriptors(self):
        """Descriptors in the thread's own table: those, the roots, procfs and sysfs, the event and standard streams."""
        return 0 if self.shares_descriptors else self.open_descriptors + self.plan.root_count + 6

    @property
    def shares_descriptors(self):
        """Whether the kernel refused the thread a descriptor table of its own."""
        return self.reader != NULL and bool(pm_reader_shares_descriptors(self.reader))


cdef char *_copy(text) except NULL:
    cdef char *copy = strdup(PyBytes_AS_STRING(os.fsencode(text)))

    if copy == NULL:
        raise MemoryError
    return copy


cdef void _free_file(pm_file *file) noexcept:
    for i in range(file.target_count):
        for n in range(file.targets[i].label_count):
            free(<void *>file.targets[i].labels[n].name)
    free(file.name)
    free(file.second)
    pm_keys_free(&file.keys)


cdef int _keys(pm_keys *target, pairs, negative) except -1:
    cdef const char **names = <const char **>PyMem_Calloc(len(pairs) + 1, sizeof(char *))
    cdef uint32_t *columns = <uint32_t *>PyMem_Calloc(len(pairs) + 1, sizeof(uint32_t))

    try:
        if names == NULL or columns == NULL:
            raise MemoryError
        encoded = [key.encode() for key, _ in pairs]
        for i, (_, column) in enumerate(pairs):
            names[i] = PyBytes_AS_STRING(encoded[i])
            columns[i] = column
        if pm_keys_init(target, names, columns, len(pairs)) < 0:
            raise MemoryError
        for i, (key, _) in enumerate(pairs):
            target.amounts[i] = key not in negative
    finally:
        PyMem_Free(names)
        PyMem_Free(columns)
    return 0
