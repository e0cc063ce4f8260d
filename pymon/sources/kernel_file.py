"""Kernel files that stay open between collections."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pymon.sources.errors import SourceError

_FIRST_SIZE_BYTES = 4096
_SMALL_SIZE_BYTES = 65536
_LIMIT_BYTES = 16 * 2**20


def read_small(path: Path | str) -> bytes:
    """Return up to 64 KiB of a file that may be missing, or b"" when it cannot be read.

    A named pipe is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _SMALL_SIZE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


class KernelFile:
    """A procfs or sysfs file that is opened at the first read. Each read starts at offset 0.

    The file stays open because an open costs several times as much as a read of a small file. Not safe for concurrent
    use.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._size = _FIRST_SIZE_BYTES

    def read(self) -> bytes:
        """Return the whole content, b"" for an empty file. Raises SourceError when the file cannot be read, or is
        longer than 16 MiB.

        A kept descriptor may refer to an object that was removed. Reads then fail with ENODEV, ESTALE or EIO. So after
        a failed read the path is opened again, and only a second failure is raised.
        """
        if self._descriptor is not None:
            try:
                return self._read(self._descriptor)
            except OSError:
                self.close()
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
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
        parts: list[bytes] = []
        total = 0
        # seq_file returns at most its own buffer per read, so a short read does not mean the end of the file.
        while part := os.pread(descriptor, self._size, total):
            parts.append(part)
            total += len(part)
            if total >= _LIMIT_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            if total >= self._size:
                self._size *= 2
        return parts[0] if len(parts) == 1 else b"".join(parts)
