"""The contract of sources, for each that there is."""

from __future__ import annotations

import ctypes
import errno
import itertools
import select
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pymon._native.readers import Mailbox, monotonic_ns
from pymon.catalogue.model import Column
from pymon.sources.cgroup import CgroupSource, Layout, find_hierarchies
from pymon.sources.kstat import KstatReader, ZoneAppeared, ZoneGone
from tests.kstat.double import Double
from tests.sources.check_source import Numbers, Outcome, check_source
from tests.sources.kstats import kstat, zone

MINUTE_NS = 60 * 10**9
CURRENT, SWAP, ANON = MEMORY_COLUMNS = ("memory.current", "memory.swap.current", "memory.stat:anon")


class CgroupSystem:
    """Files of control groups, and what a filler may be given of them."""

    width = len(MEMORY_COLUMNS)

    def __init__(self, root: Path, filler: Filler | None = None) -> None:
        self.root = root / "cgroup"
        self.root.mkdir(parents=True)
        (self.root / "cgroup.controllers").write_text("memory\n")
        self.filler = filler
        self.mailbox = Mailbox()
        self.source = CgroupSource(
            find_hierarchies(self.root),
            [Column("memory.v2", key) for key in MEMORY_COLUMNS],
            self.mailbox,
            procfs=root / "proc",
            sysfs=root / "sys",
            descriptors=0,  # no file stays open: one that has gone cannot be read on
            filler=filler.bind if filler else None,
        )
        self.rows: dict[str, int] = {}

    def write(self, name: str, numbers: Numbers) -> None:
        current, swap, anon = numbers
        group = self.root / name
        group.mkdir(exist_ok=True)
        if self.filler is not None and self.filler.fills(name):
            self.filler.numbers[name] = current
            current = 4  # not to be read
        (group / "memory.current").write_text("max\n" if current is None else f"{current}\n")
        (group / "memory.swap.current").write_text("max\n" if swap is None else f"{swap}\n")
        (group / "memory.stat").write_text("file 3\n" + ("" if anon is None else f"anon {anon}\n"))

    def add(self, names: Sequence[str], numbers: Callable[[str], Numbers]) -> None:
        for name in names:
            row = next(row for row in itertools.count() if row not in self.rows.values())
            self.rows[name] = row
            self.write(name, numbers(name))
            self.source.add(row, name, 0)

    def change(self, name: str, numbers: Numbers) -> None:
        self.write(name, numbers)

    def remove(self, name: str) -> None:
        self.source.remove(self.rows.pop(name))
        shutil.rmtree(self.root / name, ignore_errors=True)

    def vanish(self, name: str) -> None:
        shutil.rmtree(self.root / name)

    def spoil(self, name: str) -> None:
        (self.root / name / "memory.current").write_text("x\n")
        if self.filler is not None and self.filler.fills(name):
            self.filler.spoilt.add(name)

    def collect(self, deadline_ns: int | None = None) -> Outcome:
        reader = self.source.readers["memory"]
        (table,) = tables = reader.new_tables()
        until = monotonic_ns() + MINUTE_NS if deadline_ns is None else deadline_ns
        ticket = self.mailbox.collect([(reader, tables)], until, max(self.rows.values(), default=-1) + 1)
        assert select.select([self.mailbox.fileno()], [], [], 60)[0]
        assert self.mailbox.take() is ticket
        return Outcome(
            {name: tuple(table.get(row, column) for column in MEMORY_COLUMNS) for name, row in self.rows.items()},
            ticket.results[0].failures,
            len(table),
        )

    def collect_late(self) -> Outcome:
        return self.collect(monotonic_ns() - 1)


class KstatSystem:
    """The reader of kstats as `check_source` tests it, over zones of the libkstat double."""

    COLUMNS = ("rss", "swap", "nover")
    width = len(COLUMNS)

    def __init__(self, double: Double) -> None:
        self.double = double
        self.reader = KstatReader(double.path)
        self.zones: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.ids = itertools.count(1)

    def add(self, names: Sequence[str], numbers: Callable[[str], Numbers]) -> None:
        chain = []
        for name in names:
            number = self.zones[name] = next(self.ids)
            data = {key: value for key, value in zip(self.COLUMNS, numbers(name), strict=True) if value is not None}
            chain += [
                zone(number, name),
                kstat("memory_cap", number, name, "zone_memory_cap", {"zonename": name, **data}),
            ]
        self.double.load(chain, add=True)

    def change(self, name: str, numbers: Numbers) -> None:
        for key, value in zip(self.COLUMNS, numbers, strict=True):
            assert value is not None
            self.double.set(("memory_cap", self.zones[name], name), key, value)

    def remove(self, name: str) -> None:
        self.double.remove_zone(self.zones.pop(name))

    def vanish(self, name: str) -> None:
        self.double.vanish_after(1, self.zones[name])

    def spoil(self, name: str) -> None:
        self.double.fail(("memory_cap", self.zones[name], name), errno.EIO)

    def collect(self) -> Outcome:
        for change in self.reader.collect():
            if isinstance(change, ZoneAppeared):
                self.names[change.row] = change.name
            elif isinstance(change, ZoneGone):
                del self.names[change.row]
        table = next(table for table in self.reader.tables if table.name == "kstat.memcap")
        return Outcome(
            {name: tuple(table.get(row, key) for key in self.COLUMNS) for row, name in self.names.items()},
            self.reader.failures,
            self.reader.rows,
        )

    def collect_late(self) -> Outcome:
        """Every kstat is busy, for longer than the reader waits."""
        for name, number in self.zones.items():
            self.double.fail(("memory_cap", number, name), errno.EAGAIN, 10**6)
        outcome = self.collect()
        for name, number in self.zones.items():
            self.double.fail(("memory_cap", number, name), errno.EAGAIN, 0)
        return outcome


class NativeTable(ctypes.Structure):
    """pm_table of native/core/table.h, as far as it is used here."""

    _fields_ = (
        ("columns", ctypes.c_uint32),
        ("words", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
        ("cap", ctypes.c_uint32),
        ("cells", ctypes.POINTER(ctypes.c_uint64)),
        ("present", ctypes.POINTER(ctypes.c_uint64)),
    )


class NativeFill(ctypes.Structure):
    """pm_fill of native/linux/filler.h."""

    _fields_ = (
        ("tables", ctypes.POINTER(ctypes.POINTER(NativeTable))),
        ("rows", ctypes.c_uint32),
        ("paths", ctypes.POINTER(ctypes.c_char_p)),
        ("deadline_ns", ctypes.c_int64),
        ("failures", ctypes.POINTER(ctypes.c_uint64)),
        ("columns", ctypes.POINTER(ctypes.POINTER(ctypes.c_uint8))),
        ("filled", ctypes.POINTER(ctypes.c_uint8)),
    )


FILL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(NativeFill))


class NativeFiller(ctypes.Structure):
    """pm_filler of native/linux/filler.h."""

    _fields_ = (("fill", FILL), ("end", ctypes.c_void_p), ("state", ctypes.c_void_p))


class Filler:
    """A source that fills memory.current in bulk, for some of the containers: files fill the rest."""

    def __init__(self) -> None:
        self.numbers: dict[str, int | None] = {}
        self.spoilt: set[str] = set()
        self.column = 0
        self.native = NativeFiller(FILL(self.fill), None, None)
        self.address = ctypes.addressof(self.native)

    @staticmethod
    def fills(name: str) -> bool:
        return int(name.removeprefix("c")) % 3 != 2

    def bind(self, reader: str, layout: Layout) -> Filler | None:
        ((_, columns),) = layout
        self.column = list(columns).index("memory.current")
        return self if reader == "memory" else None

    def fill(self, _state: object, pointer: ctypes._Pointer[NativeFill]) -> None:
        job = pointer.contents
        table = job.tables[0].contents
        job.columns[0][self.column] = 1
        for row in range(job.rows):
            if monotonic_ns() > job.deadline_ns:
                return
            path = job.paths[row]
            if path is None or not self.fills(path.decode()):
                continue
            job.filled[row] = 1
            number = self.numbers[path.decode()]
            if path.decode() in self.spoilt:
                job.failures[0] += 1
            elif number is not None:
                table.cells[row * table.columns + self.column] = number
                table.present[row * table.words + self.column // 64] |= 1 << self.column % 64


@pytest.fixture
def directories(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in itertools.count())


def test_cgroup_files(directories: Iterator[Path]) -> None:
    @contextmanager
    def make() -> Iterator[CgroupSystem]:
        system = CgroupSystem(next(directories))
        yield system
        system.source.close()

    check_source(make)


def test_cgroup_files_after_a_filler(directories: Iterator[Path]) -> None:
    @contextmanager
    def make() -> Iterator[CgroupSystem]:
        system = CgroupSystem(next(directories), Filler())
        yield system
        system.source.close()

    check_source(make)


@pytest.mark.parametrize("direct", [True, False], ids=["ioctl", "kstat_read"])
def test_kstats(double: Double, direct: bool) -> None:
    @contextmanager
    def make() -> Iterator[KstatSystem]:
        double.reset()
        double.direct(direct)
        system = KstatSystem(double)
        yield system
        system.reader.close()

    check_source(make)


def test_a_filler_spares_files(tmp_path: Path) -> None:
    """Where all that a file has is filled it is not read, though others are; for one row everything is."""
    system = CgroupSystem(tmp_path, Filler())
    system.add(["c1", "c2"], lambda _: (11, 12, 13))
    for name in ("c1", "c2"):
        (tmp_path / "cgroup" / name / "memory.current").write_text("x\n")
    outcome = system.collect()
    assert outcome.numbers == {"c1": (11, 12, 13), "c2": (None, 12, 13)}
    assert outcome.failures == {"malformed": 1}
    system.source.close()
