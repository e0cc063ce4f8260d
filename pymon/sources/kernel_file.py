"""Files of the kernel that stay open between collections."""

from __future__ import annotations

import os
from pathlib import Path

from pymon.sources.errors import SourceError

_FIRST_SIZE_BYTES = 4096
_SMALL_SIZE_BYTES = 65536


def read_small(path: Path | str) -> bytes:
    """A file of at most 64 KiB, read once; b"" when it can't be had, for files that a node may well lack."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _SMALL_SIZE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class KernelFile:
    """A procfs or sysfs file: opened at the first read and read again from its start each time.

    An open costs several times what a read of a small file costs. For one thread at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._buffer = bytearray(_FIRST_SIZE_BYTES)

    def read(self) -> bytes:
        """The whole content, b"" when it is empty. SourceError when it can't be read.

        A descriptor that was kept may be of something that has gone meanwhile (ENODEV, ESTALE, EIO, as the kernel
        pleases), so its failure counts only after the path has been opened anew.
        """
        if self._descriptor is not None:
            try:
                return self._read(self._descriptor)
            except OSError:
                self.close()
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return self._read(self._descriptor)
        except OSError as error:
            self.close()
            raise SourceError.from_os_error(self.path, error) from None

    def close(self) -> None:
        """Close the descriptor; the next read opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self, descriptor: int) -> bytes:
        filled = 0
        while True:
            if filled == len(self._buffer):
                self._buffer.extend(bytes(filled))
            with memoryview(self._buffer) as buffer, buffer[filled:] as rest:
                # seq_file hands out at most its own buffer in one read, so a short read is not the end.
                count = os.preadv(descriptor, [rest], filled)
                if count == 0:
                    return bytes(buffer[:filled])
            filled += count
