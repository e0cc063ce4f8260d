"""The exit status of a process that is no child, from a descriptor of it: PIDFD_GET_INFO of Linux 6.15 and later."""

from __future__ import annotations

import fcntl
import os
import struct

# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), whose first version has 64 bytes.
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3
_INFO = struct.Struct("=Q52xi")
_SIGNALLED = 128


def exit_code(pidfd: int) -> int | None:
    """Return the exit code of a process that its parent has waited for, None if it is not known.

    If a signal ended it, this is 128 and the number of the signal, as shells and runtimes have it.
    """
    info = bytearray(_INFO.pack(_PIDFD_INFO_EXIT, 0))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:  # an earlier kernel
        return None
    mask, status = _INFO.unpack(info)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else _SIGNALLED + os.WTERMSIG(status)
