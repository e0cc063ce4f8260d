"""A double of the kernel for native/bpf: walks whose records a test gives. And objects that differ from ours."""

from __future__ import annotations

import ctypes
import errno
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pymon._native.bpf import ffi

ROOT = Path(__file__).parent.parent.parent
ABSENT, UNKNOWN, IN_FILES = 2**64 - 1, 2**64 - 2, 2**64 - 3  # of native/bpf/record.h

Records = Mapping[int, Mapping[int, int]]
"""Values by their number in the record, of each cgroup by its id. A value that is not given is absent."""


class _Plan(ctypes.Structure):
    """pm_bpf_walk_plan of native/bpf/walk.h."""

    _fields_ = (
        ("library", ctypes.c_void_p),
        ("objects", ctypes.c_void_p),
        ("object_count", ctypes.c_uint32),
        ("program", ctypes.c_char_p),
        ("root", ctypes.c_char_p),
        ("flush", ctypes.c_char_p),
        ("values", ctypes.c_uint32),
        ("cpus", ctypes.c_uint32),
    )


class _Records(ctypes.Structure):
    """pm_bpf_records of native/bpf/walk.h."""

    _fields_ = (
        ("first", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("count", ctypes.c_uint32),
        ("dropped", ctypes.c_uint32),
    )


_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.POINTER(_Plan), ctypes.c_uint32, ctypes.c_void_p, ctypes.c_size_t, use_errno=True
)
_RUN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Records))
_CLOSE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Walker(ctypes.Structure):
    """pm_bpf_walker of native/bpf/walk.h."""

    _fields_ = (("open", _OPEN), ("run", _RUN), ("close", _CLOSE))


class Walks:
    """The walker.

    records: gives the records of a walk by its program. room: at most so many records, the others are dropped.
    refusal: what is logged when a walk is opened, which then fails. result: of the next walks. opened: the capacities
    that were asked for. open: walks that are open.
    """

    def __init__(self, records: Callable[[str], Records]) -> None:
        self.records = records
        self.room: int | None = None
        self.refusal = ""
        self.result = 0
        self.opened: list[int] = []
        self.open: dict[int, tuple[str, int, int]] = {}
        self._memory: dict[int, ctypes.Array[ctypes.c_uint64]] = {}
        self._native = _Walker(_OPEN(self._open), _RUN(self._run), _CLOSE(self._close))
        self.pointer = ffi.cast("pm_bpf_walker *", ctypes.addressof(self._native))

    def _open(self, plan: ctypes._Pointer[_Plan], capacity: int, log: int, size: int) -> int | None:
        if self.refusal:
            text = self.refusal.encode()[: size - 1] + b"\0"
            ctypes.memmove(log, text, len(text))
            ctypes.set_errno(errno.EACCES)
            return None
        self.opened.append(capacity)
        number = len(self.opened)
        name = plan.contents.program.decode().removeprefix("walk_")
        self.open[number] = (name, plan.contents.values + plan.contents.cpus, capacity)
        return number

    def _run(self, number: int, found: ctypes._Pointer[_Records]) -> int:
        if self.result:
            return self.result
        name, values, capacity = self.open[number]
        room = capacity if self.room is None else min(capacity, self.room)
        records = self.records(name)
        words: list[int] = []
        for group, numbers in list(records.items())[:room]:
            words += [group, *(numbers.get(at, ABSENT) for at in range(values))]
        self._memory[number] = memory = (ctypes.c_uint64 * max(1, len(words)))(*words)
        found.contents.first = ctypes.addressof(memory)
        found.contents.size = 8 * (1 + values)
        found.contents.count = min(room, len(records))
        found.contents.dropped = len(records) - found.contents.count
        return 0

    def _close(self, number: int) -> None:
        del self.open[number]


def build_objects(directory: Path, **replaced: str) -> Path | None:
    """Compile native/bpf/*.bpf.c into a folder of `directory`, with words replaced in them and in their headers.

    None where there is no clang.
    """
    clang = shutil.which("clang")
    if clang is None:
        return None
    sources, objects = directory / "bpf", directory / "objects"
    shutil.copytree(ROOT / "native/bpf", sources)
    objects.mkdir()
    for path in sources.iterdir():
        text = path.read_text()
        for word, by in replaced.items():
            text = text.replace(word, by)
        path.write_text(text)
    machine = subprocess.run(["cc", "-print-multiarch"], check=True, capture_output=True, text=True).stdout.strip()
    common = [clang, "-target", "bpf", "-g", "-O2", f"-I/usr/include/{machine}"]
    for source, flags, name in (
        ("cgroup", [], "cgroup"),
        ("cputime", [], "cputime"),
        ("cputime", ["-DPYMON_BEFORE_6_16"], "cputime_before_6_16"),
        ("processes", [], "processes"),
    ):
        command = [*common, *flags, "-c", sources / f"{source}.bpf.c", "-o", objects / f"{name}.bpf.o"]
        subprocess.run(command, check=True)
    return objects
