"""The call adjtimex(2), which reads the state of the kernel's clock discipline and here changes nothing."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

_LAYOUT = struct.Struct("@I4li9li5li11i")
"""struct timex (include/uapi/linux/timex.h) of this machine."""


class Timex(NamedTuple):
    """What struct timex says. offset and jitter: nanoseconds if bit 0x2000 of status is set, else microseconds.

    maxerror, esterror, tick: microseconds. freq, ppsfreq, stabil: parts per million with a fraction of 16 bits.
    """

    modes: int = 0
    offset: int = 0
    freq: int = 0
    maxerror: int = 0
    esterror: int = 0
    status: int = 0
    constant: int = 0
    precision: int = 0
    tolerance: int = 0
    seconds: int = 0
    microseconds: int = 0
    tick: int = 0
    ppsfreq: int = 0
    jitter: int = 0
    shift: int = 0
    stabil: int = 0
    jitcnt: int = 0
    calcnt: int = 0
    errcnt: int = 0
    stbcnt: int = 0
    tai: int = 0


def read_timex() -> tuple[int, Timex]:
    """Return the state of the clock and its parameters. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    # With modes 0, the kernel changes nothing.
    buffer = ctypes.create_string_buffer(_LAYOUT.size)
    state = library.adjtimex(buffer)
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return state, Timex._make(_LAYOUT.unpack(buffer.raw)[: len(Timex._fields)])
