"""Listening sockets: of TCP addresses, and in the file system."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
from typing import TYPE_CHECKING

from pymon.config import Address, Listen, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKLOG = 512
_UNIX_MODE = 0o660
_PROBE_SECONDS = 2.0


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open descriptors to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def listening(address: Listen) -> Iterator[list[socket.socket]]:
    """Listening sockets of an address, closed at the end; a socket file of ours goes too. OSError names the address."""
    try:
        sockets = [_open_unix(address)] if isinstance(address, UnixAddress) else _open_tcp(address)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None
    with contextlib.ExitStack() as close:
        for listener in sockets:
            close.enter_context(listener)
        if isinstance(address, UnixAddress):
            # While it still listens: whoever finds a file without a listener takes it for a dead process's.
            close.callback(_remove_own, address, os.stat(address.path).st_ino)  # noqa: PTH116
        yield sockets


def bound(listener: socket.socket, address: Listen) -> Listen:
    """The address that a listener of an address has in the end."""
    if isinstance(address, UnixAddress):
        return address
    host, port = listener.getsockname()[:2]
    return Address(host if address.host else "", port)


def _open_tcp(address: Address) -> list[socket.socket]:
    """No host is every address of both families."""
    if not address.host and socket.has_dualstack_ipv6():
        infos = [(socket.AF_INET6, ("::", address.port))]
    else:
        found = socket.getaddrinfo(
            address.host or "0.0.0.0", address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE  # noqa: S104
        )  # fmt: skip
        infos = [(family, where) for family, _, _, _, where in dict.fromkeys(found)]  # type: ignore[misc]
    with contextlib.ExitStack() as undo:
        sockets = []
        for family, where in infos:
            listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address.host else 0)
            listener.bind(where)
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            sockets.append(listener)
        undo.pop_all()
        return sockets


def _open_unix(address: UnixAddress) -> socket.socket:
    """A file whose process is dead is replaced; a socket of a living one, or another kind of file, is an error."""
    path = str(address.path)
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        with contextlib.suppress(OSError):
            # Linux makes the file with the mode of the socket, so it is never open to more than it will be.
            os.fchmod(listener.fileno(), _UNIX_MODE)
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_dead(path):
                raise
            os.unlink(path)  # noqa: PTH108
            listener.bind(path)
        os.chmod(path, _UNIX_MODE)  # noqa: PTH101
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        undo.pop_all()
        return listener


def _is_dead(path: str) -> bool:
    """Whether a file is a socket that nobody listens on."""
    if not stat.S_ISSOCK(os.stat(path, follow_symlinks=False).st_mode):  # noqa: PTH116
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _remove_own(address: UnixAddress, inode: int) -> None:
    with contextlib.suppress(OSError):
        if os.stat(address.path, follow_symlinks=False).st_ino == inode:  # noqa: PTH116
            os.unlink(address.path)  # noqa: PTH108
