"""The highest memory and swap use of control groups since a moment, from memory.peak and memory.swap.peak (version 2).

Since Linux 6.12 a write to an open descriptor of these files begins a watermark of its own, which this descriptor reads
from then on (Documentation/admin-guide/cgroup-v2.rst). Who reads the files without writing is not affected. Who writes
too loses what was between his last write and this one (peak_write() in mm/memcontrol.c).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from pymon.sources.errors import SourceError
from pymon.sources.node.kernel_text import unsigned

if TYPE_CHECKING:
    from pathlib import Path

FILES = ("memory.peak", "memory.swap.peak")

_BYTES = 32


class MemoryPeaks:
    """The descriptors of one group, which stay open. `close` closes them."""

    def __init__(self, group: Path) -> None:
        """Open the files and begin to watch. A kernel without swap has no memory.swap.peak.

        Raises SourceError: "eopnotsupp" when the kernel's files cannot be reset, else the errno of the failure.
        """
        self._descriptors: list[int | None] = []
        try:
            for name in FILES:
                self._descriptors.append(self._open(group / name))
        except BaseException:
            self.close()
            raise

    def take(self) -> list[int | None]:
        """Return the highest use in bytes since the last call, or since the files were opened, and begin anew.

        In the order of FILES; None for a file that is not there. A peak between the read and the reset, which are
        microseconds apart, is missed. Raises SourceError when the group has gone.
        """
        return [None if descriptor is None else self._take(descriptor) for descriptor in self._descriptors]

    def close(self) -> None:
        """Close the files of the group. `take` must not be called again."""
        for descriptor in self._descriptors:
            if descriptor is not None:
                os.close(descriptor)
        self._descriptors = []

    @staticmethod
    def _take(descriptor: int) -> int | None:
        try:
            word = os.pread(descriptor, _BYTES, 0)
            os.pwrite(descriptor, b"reset\n", 0)
        except OSError as error:
            raise SourceError.from_os_error("memory.peak", error) from None
        return unsigned(word.strip())

    @staticmethod
    def _open(path: Path) -> int | None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            if path.name == FILES[0]:
                raise SourceError("enoent", f"{path}: not there") from None
            return None
        except OSError as error:
            raise _refusal(path, error) from None
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, descriptor)
            if os.fstat(descriptor).st_size:  # a copy of a kernel's file, which a write would change
                raise SourceError("eopnotsupp", f"{path}: expected a file of a kernel")
            try:
                os.pwrite(descriptor, b"reset\n", 0)
            except OSError as error:
                raise _refusal(path, error) from None
            undo.pop_all()
        return descriptor


def _refusal(path: Path, error: OSError) -> SourceError:
    # Before 6.12 the files are for reading only. Root may open them for writing nevertheless, and then cannot write.
    if isinstance(error, PermissionError) or error.errno == errno.EINVAL:
        return SourceError("eopnotsupp", f"{path}: expected Linux 6.12, where a peak can be reset")
    return SourceError.from_os_error(path, error)
