"""The device number of a file's file system, without asking the file system."""

from __future__ import annotations

import ctypes
import os
import struct

_AT_FDCWD = -100
_AT_STATX_DONT_SYNC = 0x4000
_NUMBERS = struct.Struct("=136xII112x")
"""struct statx (include/uapi/linux/stat.h): of its 256 bytes, stx_dev_major and stx_dev_minor."""


def device_number(path: str) -> str:
    """Return the device number of the file at a path, as major:minor. Raises OSError.

    stat(2) of a root that is a FUSE or network file system waits until somebody answers, who may be a tenant.
    """
    library = ctypes.CDLL(None, use_errno=True)
    found = ctypes.create_string_buffer(_NUMBERS.size)
    if library.statx(_AT_FDCWD, os.fsencode(path), _AT_STATX_DONT_SYNC, 0, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    major, minor = _NUMBERS.unpack(found.raw)
    return f"{major}:{minor}"
