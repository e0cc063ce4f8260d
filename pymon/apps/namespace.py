"""Entering the network namespace of a container, in a process that does nothing else afterwards.

A pidfd stands for one process for ever. What /proc says of the pid is believed only if that process still runs
afterwards, so it was about that process. The namespace is entered through the pidfd, and compared after that: whatever
happened meanwhile, the process is in the namespace that was expected, and not in the host's, or it fetches nothing.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymon.apps.protocol import AppError

if TYPE_CHECKING:
    from pymon.apps.protocol import Ask

_CLONE_NEWNET = 0x40000000
_STAT_MAX_BYTES = 4096
_CGROUP_MAX_BYTES = 64 << 10

_libc = ctypes.CDLL(None, use_errno=True)

_OWN, _FIRST = "/proc/self/ns/net", "/proc/1/ns/net"


class Namespace(NamedTuple):
    """What tells a namespace from all others: device and inode of its file in procfs."""

    device: int
    inode: int


def host_namespace() -> tuple[Namespace, bool]:
    """Return the host's network namespace, and whether it is that of the first process.

    Where that process may not be looked at, this process' own counts as the host's, if it is not a private one that
    leads nowhere. Raises OSError.
    """
    try:
        return _identity(_FIRST), True
    except PermissionError:
        if len(socket.if_nameindex()) <= 1:
            raise
        return _identity(_OWN), False


def enter(ask: Ask, host: Namespace) -> None:
    """Move this process, which has one thread, into the network namespace of a container. host: the host's.

    Raises AppError, and then the process may be in another namespace than before.
    """
    try:
        _enter(ask, host)
    except (ProcessLookupError, FileNotFoundError):
        raise AppError("gone", "its process has gone") from None
    except PermissionError as error:
        raise AppError("denied", f"the fetcher may not enter its namespace: {error.strerror}") from None
    except OSError as error:
        raise AppError("denied", f"the fetcher cannot enter its namespace: {error.strerror}") from None


def _enter(ask: Ask, host: Namespace) -> None:
    before = _identity(_OWN)
    process = os.pidfd_open(ask.pid)
    try:
        if start_ticks(_read(ask.pid, "stat", _STAT_MAX_BYTES)) != ask.start_ticks:
            raise AppError("gone", "its process has gone")
        if not in_cgroup(_read(ask.pid, "cgroup", _CGROUP_MAX_BYTES), ask.cgroup.encode("latin-1", "replace")):
            raise AppError("gone", "its process is not in its cgroup")
        if select.select([process], [], [], 0)[0]:
            raise AppError("gone", "its process has gone")
        if _libc.setns(process, _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(process)
    now = _identity(_OWN)
    if now == host:
        raise AppError("host", "it is on the host's network")
    if now == before or now.inode != ask.namespace:
        raise AppError("namespace", "its network namespace is another one by now")


def start_ticks(stat: bytes) -> int:
    """Return when a process started, by the content of its /proc/PID/stat (field 22). Raises AppError."""
    try:
        return int(stat.rpartition(b")")[2].split()[19])
    except (ValueError, IndexError):
        raise AppError("gone", "its process has gone") from None


def in_cgroup(cgroups: bytes, path: bytes) -> bool:
    """Return whether a process is in a cgroup or below it. cgroups: the content of its /proc/PID/cgroup.

    The path may begin further down, as the agent's cgroups may do.
    """
    found = (line.split(b":", 2)[-1] for line in cgroups.splitlines())
    return any(path + b"/" in one + b"/" for one in found)


def _read(pid: int, name: str, max_bytes: int) -> bytes:
    with Path(f"/proc/{pid}/{name}").open("rb") as file:
        return file.read(max_bytes)


def _identity(path: str) -> Namespace:
    found = Path(path).stat()
    return Namespace(found.st_dev, found.st_ino)
