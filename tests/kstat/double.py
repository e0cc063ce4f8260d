"""The libkstat double: built, loaded into this process, and told what its kernel holds. README.md says what it does."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "tests" / "kstat"
CHAINS = HERE / "chains"
SOURCES = sorted(HERE.glob("*.c"))
HEADERS = [*sorted(HERE.glob("*.h")), ROOT / "native" / "illumos" / "kstat_abi.h"]
FLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-g",
    "-O2",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
]
STRLEN = 31
RAW, NAMED, INTR, IO, TIMER = range(5)
CHAR, INT32, UINT32, INT64, UINT64, FLOAT, DOUBLE, STRING = 0, 1, 2, 3, 4, 5, 6, 9
VIRTUAL, VAR_SIZE, INVALID, LONGSTRINGS = 1, 2, 0x20, 0x40
FOREVER = -1
SYMBOLS = ("kstat_open", "kstat_close", "kstat_chain_update", "kstat_read", "kstat_data_lookup")
COUNTERS = tuple(
    """
    opens closes updates library_reads direct_reads chain_ids allocations errors eagain made headers records
    """.split()
)

Key = tuple[str, int, str]
"""Module, instance and name of a kstat."""


def build(*, without: Sequence[str] = ()) -> Path:
    """Path of the shared library, compiled when it is not there yet; `without` lists symbols that it does not have."""
    options = [*FLAGS, "-O0" if without else "-O2", *(f"-D{symbol}=without_{symbol}" for symbol in without)]
    kind = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
    content = hashlib.sha256(b"".join(path.read_bytes() for path in (*SOURCES, *HEADERS))).hexdigest()[:16]
    library = BUILD / f"libkstat-{kind}-{content}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        partial = library.with_suffix(f".{os.getpid()}")
        include = f"-I{ROOT / 'native' / 'illumos'}"
        subprocess.run([os.environ.get("CC", "cc"), *options, include, "-o", partial, *SOURCES], check=True)
        for outdated in BUILD.glob(f"libkstat-{kind}-*.so"):
            outdated.unlink(missing_ok=True)
        partial.rename(library)
    return library


class Header(ctypes.Structure):
    """kstat_t."""


Header._fields_ = [
    ("crtime", ctypes.c_int64),
    ("next", ctypes.POINTER(Header)),
    ("kid", ctypes.c_int),
    ("module", ctypes.c_ubyte * STRLEN),
    ("resv", ctypes.c_ubyte),
    ("instance", ctypes.c_int),
    ("name", ctypes.c_ubyte * STRLEN),
    ("type", ctypes.c_ubyte),
    ("class_", ctypes.c_ubyte * STRLEN),
    ("flags", ctypes.c_ubyte),
    ("data", ctypes.c_void_p),
    ("ndata", ctypes.c_uint32),
    ("data_size", ctypes.c_size_t),
    ("snaptime", ctypes.c_int64),
    ("kernel_only", ctypes.c_void_p * 4),
]


class Control(ctypes.Structure):
    """kstat_ctl_t."""

    _fields_ = (("chain_id", ctypes.c_int), ("chain", ctypes.POINTER(Header)), ("kd", ctypes.c_int))


class Text(ctypes.Structure):
    """The value of a STRING."""

    _fields_ = (("pointer", ctypes.c_void_p), ("len", ctypes.c_uint32))


class Value(ctypes.Union):
    """The value of a statistic, as union `value` in kstat.h."""

    _fields_ = (
        ("char", ctypes.c_ubyte * 16),
        ("int32", ctypes.c_int32),
        ("uint32", ctypes.c_uint32),
        ("int64", ctypes.c_int64),
        ("uint64", ctypes.c_uint64),
        ("float", ctypes.c_float),
        ("double", ctypes.c_double),
        ("string", Text),
    )


class Named(ctypes.Structure):
    """kstat_named_t."""

    _fields_ = (("name", ctypes.c_ubyte * STRLEN), ("data_type", ctypes.c_ubyte), ("value", Value))


class Counters(ctypes.Structure):
    """What the double counted since its last reset; `headers` and `records` are what there is now."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in COUNTERS)


KEY = (ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)
SIGNATURES: Mapping[str, tuple[object, tuple[object, ...]]] = {
    "kstat_open": (ctypes.POINTER(Control), ()),
    "kstat_close": (ctypes.c_int, (ctypes.POINTER(Control),)),
    "kstat_chain_update": (ctypes.c_int, (ctypes.POINTER(Control),)),
    "kstat_read": (ctypes.c_int, (ctypes.POINTER(Control), ctypes.POINTER(Header), ctypes.c_void_p)),
    "kstat_write": (ctypes.c_int, (ctypes.POINTER(Control), ctypes.POINTER(Header), ctypes.c_void_p)),
    "kstat_lookup": (ctypes.POINTER(Header), (ctypes.POINTER(Control), *KEY)),
    "kstat_data_lookup": (ctypes.c_void_p, (ctypes.POINTER(Header), ctypes.c_char_p)),
    "ioctl": (ctypes.c_int, (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)),
    "double_reset": (None, ()),
    "double_load": (ctypes.c_int, (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)),
    "double_error": (ctypes.c_char_p, ()),
    "double_generate": (None, (ctypes.c_int, ctypes.c_int, ctypes.c_uint)),
    "double_remove_zone": (ctypes.c_int, (ctypes.c_int,)),
    "double_remove": (ctypes.c_int, KEY),
    "double_set": (ctypes.c_int, (*KEY, ctypes.c_char_p, ctypes.c_uint64)),
    "double_set_data_type": (ctypes.c_int, (*KEY, ctypes.c_char_p, ctypes.c_uint8)),
    "double_set_string": (
        ctypes.c_int,
        (*KEY, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint32),
    ),
    "double_set_type": (ctypes.c_int, (*KEY, ctypes.c_uint8)),
    "double_set_flags": (ctypes.c_int, (*KEY, ctypes.c_uint8)),
    "double_tell": (ctypes.c_int, (*KEY, ctypes.c_int64, ctypes.c_int64)),
    "double_fail": (ctypes.c_int, (*KEY, ctypes.c_int, ctypes.c_int)),
    "double_fail_open": (None, (ctypes.c_int,)),
    "double_fail_update": (None, (ctypes.c_int, ctypes.c_int)),
    "double_vanish_after": (None, (ctypes.c_int, ctypes.c_int, ctypes.c_int)),
    "double_direct": (None, (ctypes.c_int,)),
    "double_busy": (None, (ctypes.c_int,)),
    "double_descriptor": (None, (ctypes.c_int,)),
    "double_reads": (ctypes.c_int64, KEY),
    "double_counters": (None, (ctypes.POINTER(Counters),)),
}


def key_of(kstat: Key) -> tuple[bytes, int, bytes]:
    module, instance, name = kstat
    return os.fsencode(module), instance, os.fsencode(name)


class Double:
    """The double in this process: what opens the same path (a reader under test) has the same kernel.

    A kstat is named by (module, instance, name); KeyError when it, or its statistic, is not there.
    """

    def __init__(self, library: Path | None = None) -> None:
        """Load it, with an empty chain."""
        self.path = library or build()
        self.library = ctypes.CDLL(str(self.path), use_errno=True)
        for name, (answer, arguments) in SIGNATURES.items():
            if hasattr(self.library, name):
                function = getattr(self.library, name)
                function.restype = answer
                function.argtypes = arguments
        self.reset()

    def reset(self) -> None:
        """An empty chain, nothing that fails, counters at zero."""
        self.library.double_reset()

    def load(self, chain: str | bytes | Path | list[dict], *, add: bool = False) -> None:
        """Have the chain of a text, a file or a list, with `add` on top of what there is. ValueError: it is wrong."""
        match chain:
            case Path():
                data = chain.read_bytes()
            case list():
                data = json.dumps(chain, ensure_ascii=False).encode("utf-8", "surrogateescape")
            case str():
                data = chain.encode("utf-8", "surrogateescape")
            case _:
                data = chain
        if self.library.double_load(data, len(data), not add) < 0:
            raise ValueError(self.library.double_error().decode(errors="replace"))

    def generate(self, zones: int, *, first: int = 1, salt: int = 0) -> None:
        """Zones of consecutive ids, seven kstats each; another salt gives other names and values."""
        self.library.double_generate(first, zones, salt)

    def remove_zone(self, zone_id: int) -> int:
        """Remove the kstats of a zone, and return how many there were."""
        return self.library.double_remove_zone(zone_id)

    def replace_zone(self, zone_id: int, *, salt: int = 1) -> None:
        """Remove a zone, and make another one with the same id."""
        self.remove_zone(zone_id)
        self.generate(1, first=zone_id, salt=salt)

    def remove(self, kstat: Key) -> None:
        self._done(self.library.double_remove(*key_of(kstat)), kstat)

    def set(self, kstat: Key, statistic: str, value: int) -> None:
        """Change a number, cut to its data type."""
        self._done(self.library.double_set(*key_of(kstat), os.fsencode(statistic), value % 2**64), kstat)

    def set_data_type(self, kstat: Key, statistic: str, data_type: int) -> None:
        self._done(self.library.double_set_data_type(*key_of(kstat), os.fsencode(statistic), data_type), kstat)

    def set_string(self, kstat: Key, statistic: str, pointer: int, length: int, *, relative: bool = False) -> None:
        """What a STRING tells as its place (an address, or counted from the data that is read) and length."""
        answer = self.library.double_set_string(*key_of(kstat), os.fsencode(statistic), relative, pointer, length)
        self._done(answer, kstat)

    def set_type(self, kstat: Key, kstat_type: int) -> None:
        """For headers that are made from now on."""
        self._done(self.library.double_set_type(*key_of(kstat), kstat_type), kstat)

    def set_flags(self, kstat: Key, flags: int) -> None:
        """INVALID hides it from the next chain update that finds the chain changed, which this alone is not."""
        self._done(self.library.double_set_flags(*key_of(kstat), flags), kstat)

    def tell(self, kstat: Key, *, ndata: int = -1, data_size: int = -1) -> None:
        """What headers and reads tell as ks_ndata and ks_data_size instead of the truth."""
        self._done(self.library.double_tell(*key_of(kstat), ndata, data_size), kstat)

    def fail(self, kstat: Key, error: int, times: int = FOREVER) -> None:
        """Have the next reads of a kstat fail with an errno."""
        self._done(self.library.double_fail(*key_of(kstat), error, times), kstat)

    def fail_open(self, error: int) -> None:
        self.library.double_fail_open(error)

    def fail_update(self, error: int, times: int = FOREVER) -> None:
        self.library.double_fail_update(error, times)

    def vanish_after(self, reads: int, zone_id: int, *, returns: bool = False) -> None:
        """Have a zone go after so many reads from now, and another one come under its id when it `returns`."""
        self.library.double_vanish_after(reads, zone_id, returns)

    def direct(self, on: bool) -> None:
        """Whether ioctl answers; without, only kstat_read reads."""
        self.library.double_direct(on)

    def busy(self, on: bool) -> None:
        """Whether the chain changes right behind every kstat_open, as it does while zones boot."""
        self.library.double_busy(on)

    def descriptor(self, number: int) -> None:
        """What kstat_open gives as kc_kd from now on; below -1: a descriptor of its own."""
        self.library.double_descriptor(number)

    def reads(self, kstat: Key) -> int:
        """How often a kstat was read, whether that failed or not."""
        count = self.library.double_reads(*key_of(kstat))
        self._done(count, kstat)
        return count

    def counters(self) -> dict[str, int]:
        found = Counters()
        self.library.double_counters(ctypes.byref(found))
        return {name: getattr(found, name) for name, _ in Counters._fields_}

    @contextmanager
    def opened(self) -> Iterator[ctypes._Pointer]:
        """A kstat_ctl_t of our own. OSError as kstat_open says it."""
        control = self.library.kstat_open()
        if not control:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            yield control
        finally:
            self.library.kstat_close(control)

    def chain(self, control: ctypes._Pointer) -> list[Header]:
        found = []
        link = control.contents.chain
        while link:
            found.append(link.contents)
            link = link.contents.next
        return found

    def read(self, control: ctypes._Pointer, kstat: Key) -> dict[str, int | float | str | None]:
        """The named statistics of a kstat, as kstat_read gives them; unnamed ones are left out."""
        header = self.library.kstat_lookup(control, *key_of(kstat))
        if not header:
            raise KeyError(kstat)
        if self.library.kstat_read(control, header, None) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        stats = ctypes.cast(header.contents.data, ctypes.POINTER(Named))
        return {plain(stats[i].name): value(stats[i]) for i in range(header.contents.ndata) if stats[i].name[0]}

    def _done(self, answer: int, kstat: Key) -> None:
        if answer < 0:
            raise KeyError(kstat)


def plain(text: ctypes.Array) -> str:
    return os.fsdecode(bytes(text).partition(b"\0")[0])


def value(stat: Named) -> int | float | str | None:
    match stat.data_type:
        case 0:
            return plain(stat.value.char)
        case 1:
            return stat.value.int32
        case 2:
            return stat.value.uint32
        case 3:
            return stat.value.int64
        case 5:
            return stat.value.float
        case 6:
            return stat.value.double
        case 9:
            text = stat.value.string
            return os.fsdecode(ctypes.string_at(text.pointer, text.len)[:-1]) if text.pointer else None
        case _:
            return stat.value.uint64
