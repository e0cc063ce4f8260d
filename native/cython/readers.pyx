"""Threads that read kernel files for every container in bulk."""

import os

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport strdup

from pymon._native.core cimport pm_keys, pm_keys_free, pm_keys_init, pm_table
from pymon._native.linux cimport (
    PM_FILE_BLKIO,
    PM_FILE_IO,
    PM_FILE_KEYED,
    PM_FILE_LIMIT,
    PM_FILE_NUMA,
    PM_FILE_PAIR,
    PM_FILE_PERCPU,
    PM_FILE_PRESSURE,
    PM_FILE_PROCS,
    PM_FILE_VALUE,
    PM_NO_TABLE,
    PM_REASON_COUNT,
    pm_file,
    pm_file_kind,
    pm_mailbox,
    pm_mailbox_event,
    pm_mailbox_free,
    pm_mailbox_new,
    pm_mailbox_take,
    pm_monotonic_ns,
    pm_plan,
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
    pm_reason_name,
    pm_result,
    pm_ticket,
)
from pymon._native.table cimport Table

cdef dict KINDS = {
    "value": PM_FILE_VALUE,
    "limit": PM_FILE_LIMIT,
    "pair": PM_FILE_PAIR,
    "keyed": PM_FILE_KEYED,
    "pressure": PM_FILE_PRESSURE,
    "io": PM_FILE_IO,
    "blkio": PM_FILE_BLKIO,
    "percpu": PM_FILE_PERCPU,
    "numa": PM_FILE_NUMA,
    "procs": PM_FILE_PROCS,
}
cdef frozenset PAIRS = frozenset({"pair", "pressure"})
cdef dict PROCESS_TABLES = {"sched": 3, "descriptors": 2, "ulimits": 1}
cdef frozenset SETTINGS = frozenset({"value", "limit", "pair", "pressure"})


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
        cdef pm_table *pointers[32]
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
    """One thread with its own descriptor table that reads a plan's files for every container.

    roots: absolute paths of hierarchy roots. files: (name, root, kind, slow, table, column, keys) in order of
    priority, keys being (key, column) pairs. layout: (name, columns) of each table. net: names of the network tables
    to their index in the layout, and `sockstat_keys` and `advtcp_keys`. processes: the same for the tables `sched`,
    `descriptors` and `ulimits`. budget: descriptors that may stay open; divided by `sharers`
    where the kernel refuses the thread a descriptor table of its own.
    """

    cdef pm_plan plan
    cdef pm_reader *reader
    cdef readonly str name
    cdef readonly tuple layout
    cdef Mailbox mailbox

    def __cinit__(
        self, str name not None, Mailbox mailbox not None, *, roots, procfs, sysfs, files, layout, io_numbered=None,
        net=None, processes=None, budget, sharers=1, slow_seconds,
    ):
        cdef int failed = -1

        self.name = name
        self.mailbox = mailbox
        self.layout = tuple(layout)
        if len(self.layout) > 32:
            raise ValueError(f"{name}: more than 32 tables")
        self.plan.roots = <char **>calloc(len(roots) + 1, sizeof(char *))
        self.plan.files = <pm_file *>calloc(len(files) + 1, sizeof(pm_file))
        if self.plan.roots == NULL or self.plan.files == NULL:
            raise MemoryError
        for i, root in enumerate(roots):
            self.plan.roots[i] = strdup(PyBytes_AS_STRING(os.fsencode(root)))
            self.plan.root_count = i + 1
        self.plan.procfs = strdup(PyBytes_AS_STRING(os.fsencode(procfs)))
        self.plan.sysfs = strdup(PyBytes_AS_STRING(os.fsencode(sysfs)))
        for i, (file, root, kind, slow, table, column, keys) in enumerate(files):
            if not 0 <= root < len(roots):
                raise IndexError(f"{name}: {file}: no root {root}")
            width = len(self.layout[table][1])
            if not all(0 <= at < width for at in [column + (kind in PAIRS), *(at for _, at in keys)]):
                raise IndexError(f"{name}: {file}: more than the {width} columns of {self.layout[table][0]}")
            if slow and kind not in SETTINGS:
                raise ValueError(f"{name}: {file}: of kind {kind}, which is no setting")
            self.plan.files[i].name = strdup(PyBytes_AS_STRING(os.fsencode(file)))
            self.plan.files[i].root = root
            self.plan.files[i].kind = <pm_file_kind><int>KINDS[kind]
            self.plan.files[i].slow = slow
            self.plan.files[i].table = table
            self.plan.files[i].column = column
            self.plan.file_count = i + 1
            _keys(&self.plan.files[i].keys, keys)
        self.plan.table_count = len(self.layout)
        self.plan.io_numbered = PM_NO_TABLE if io_numbered is None else io_numbered
        net = dict(net or {})
        _keys(&self.plan.net.sockstat_keys, net.pop("sockstat_keys", ()))
        self.plan.net.network = net.pop("network", PM_NO_TABLE)
        self.plan.net.sockstat = net.pop("sockstat", PM_NO_TABLE)
        self.plan.net.tcp = net.pop("tcp", PM_NO_TABLE)
        self.plan.net.tcp6 = net.pop("tcp6", PM_NO_TABLE)
        self.plan.net.udp = net.pop("udp", PM_NO_TABLE)
        self.plan.net.udp6 = net.pop("udp6", PM_NO_TABLE)
        self.plan.net.advtcp = net.pop("advtcp", PM_NO_TABLE)
        _keys(&self.plan.net.advtcp_keys, net.pop("advtcp_keys", ()))
        if net:
            raise ValueError(f"{name}: unknown network tables {sorted(net)}")
        processes = dict(processes or {})
        for table, width in PROCESS_TABLES.items():
            if table in processes and len(self.layout[processes[table]][1]) < width:
                raise IndexError(f"{name}: {width} columns expected of {table}")
        self.plan.processes.sched = processes.pop("sched", PM_NO_TABLE)
        self.plan.processes.descriptors = processes.pop("descriptors", PM_NO_TABLE)
        self.plan.processes.ulimits = processes.pop("ulimits", PM_NO_TABLE)
        if processes:
            raise ValueError(f"{name}: unknown process tables {sorted(processes)}")
        self.plan.budget = min(budget, 0x7fffffff)
        self.plan.sharers = sharers
        self.plan.slow_ns = int(slow_seconds * 1e9)
        self.reader = pm_reader_start(&self.plan, mailbox.mailbox, &failed)
        if self.reader == NULL:
            raise OSError(errno, os.strerror(errno), roots[failed] if failed >= 0 else None)

    def __dealloc__(self):
        with nogil:
            pm_reader_stop(self.reader)
        for i in range(self.plan.root_count):
            free(self.plan.roots[i])
        for i in range(self.plan.file_count):
            free(self.plan.files[i].name)
            pm_keys_free(&self.plan.files[i].keys)
        pm_keys_free(&self.plan.net.sockstat_keys)
        pm_keys_free(&self.plan.net.advtcp_keys)
        free(self.plan.roots)
        free(self.plan.files)
        free(self.plan.procfs)
        free(self.plan.sysfs)

    def close(self):
        """Finish what was posted, then stop the thread and close its descriptors."""
        cdef pm_reader *reader = self.reader

        self.reader = NULL
        with nogil:
            pm_reader_stop(reader)

    def new_tables(self):
        """Tables for one collection."""
        return [Table(name, columns) for name, columns in self.layout]

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
    def shares_descriptors(self):
        """Whether the kernel refused the thread a descriptor table of its own."""
        return self.reader != NULL and bool(pm_reader_shares_descriptors(self.reader))


cdef int _keys(pm_keys *target, pairs) except -1:
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
    finally:
        PyMem_Free(names)
        PyMem_Free(columns)
    return 0
