"""Listening sockets: TCP and Unix."""

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
    """Raise the soft limit of open file descriptors to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def listening(address: Listen) -> Iterator[list[socket.socket]]:
    """Open the listening sockets of an address. At the end they are closed, and a socket file is removed.

    Raises OSError whose text names the address.
    """
    sockets = _open(address)
    with contextlib.ExitStack() as close:
        for listener in sockets:
            close.enter_context(listener)
        if isinstance(address, UnixAddress):
            # Removed while it still listens. Another process would replace a file without a listener.
            close.callback(_remove_own, address, os.stat(address.path).st_ino)  # noqa: PTH116
        yield sockets


@contextlib.contextmanager
def reserved(address: Listen) -> Iterator[tuple[list[socket.socket], list[Listen]]]:
    """Have an address for processes that each listen there, until the end.

    Yields the listeners that all processes share, which a Unix address has, and the addresses as they are bound.
    Connections to a TCP address are refused until a process listens there: see `open_apart`. Raises OSError whose text
    names the address.
    """
    with contextlib.ExitStack() as close:
        first = close.enter_context(listening(address))
        if isinstance(address, UnixAddress):
            yield first, [address]
            return
        # The first sockets are bound to make sure that no other process listens there.
        port = first[0].getsockname()[1]
        for listener in first:
            listener.close()
        held = _open(Address(address.host, port), share=True, listens=False)
        for listener in held:
            close.enter_context(listener)
        yield [], [bound(listener, address) for listener in held]


def open_apart(address: Address) -> list[socket.socket]:
    """Open the listening sockets of one of the processes that share a reserved address.

    The kernel divides connections among those that listen. Raises OSError whose text names the address.
    """
    return _open(address, share=True)


def bound(listener: socket.socket, address: Listen) -> Listen:
    """Return the address that a listener is bound to. address: the one that was asked for."""
    if isinstance(address, UnixAddress):
        return address
    host, port = listener.getsockname()[:2]
    return Address(host if address.host else "", port)


def _open(address: Listen, *, share: bool = False, listens: bool = True) -> list[socket.socket]:
    """Open the listeners of an address. Raises OSError whose text names the address."""
    try:
        if isinstance(address, UnixAddress):
            return [_open_unix(address)]
        return _open_tcp(address, share=share, listens=listens)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror or error}") from None


def _open_tcp(address: Address, *, share: bool, listens: bool) -> list[socket.socket]:
    """Open the listeners of a TCP address. An empty host is every address of both families.

    share: other sockets of this user that share it too may have the same address. listens: else they are only bound.
    """
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
            if share:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if address.host else 0)
            listener.bind(where)
            if listens:
                listener.listen(_BACKLOG)
            listener.setblocking(False)
            sockets.append(listener)
        undo.pop_all()
        return sockets


def _open_unix(address: UnixAddress) -> socket.socket:
    """Open the listener of a Unix address.

    A socket file without a listener is replaced. A file with a listener, or another kind of file, is an OSError.
    """
    path = str(address.path)
    with contextlib.ExitStack() as undo:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        with contextlib.suppress(OSError):
            # Linux creates the file with the mode of the socket, so its mode is never too permissive.
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
    """Return whether a file is a socket without a listener."""
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
