"""IP addresses of containers, read from procfs.

A container's network namespace is read through one of its processes, as /proc/PID/net. No namespace is entered, and no
file of the container's file system is opened. Containers that share a network namespace, such as those of a pod, have
the same addresses. A container in the host's network namespace has none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import NamedTuple

ADDRESSES_LIMIT = 64
"""Most addresses that are reported for a container. The first in order are kept."""

_TABLE_MAX_BYTES = 4 << 20
"""Limit of a file. Processes in the container decide how many routes and addresses it has."""

PROCESS_TRIES = 16
_DESCENDANTS_DEPTH = 16
# Flags of an IPv6 address, linux/if_addr.h.
_TEMPORARY, _OPTIMISTIC, _DAD_FAILED, _TENTATIVE = 0x01, 0x04, 0x08, 0x40
# Scopes other than host and link: global and site-local, include/net/ipv6.h.
_FAR_SCOPES = (b"00", b"40")


def ipv4_addresses(fib_trie: bytes) -> list[IPv4Address]:
    """Return the local addresses in the content of /proc/PID/net/fib_trie (net/ipv4/fib_trie.c), sorted.

    Only the table `Local` is read. Tables that policy routing adds have routes of type LOCAL that are not addresses.
    Loopback, link-local and multicast addresses are left out. Lines that cannot be parsed are skipped.
    """
    # Only table names start at the beginning of a line.
    _, _, table = (b"\n" + fib_trie).partition(b"\nLocal:\n")
    table = table.partition(b"\nId ")[0].partition(b"\nMain:\n")[0]
    found = set()
    for leaf in table.split(b"|-- ")[1:]:
        if b"/32 host LOCAL" not in leaf or leaf.startswith((b"127.", b"169.254.")):
            continue
        try:
            address = IPv4Address(leaf.partition(b"\n")[0].decode("ascii"))
        except ValueError:
            continue
        if not address.is_multicast:
            found.add(address)
    return sorted(found)


def ipv6_addresses(if_inet6: bytes) -> list[IPv6Address]:
    """Return the reachable addresses in the content of /proc/PID/net/if_inet6 (net/ipv6/addrconf.c), sorted.

    Left out are loopback and link-local addresses. Left out are also tentative addresses that are not optimistic, those
    that failed duplicate address detection (RFC 4862 §5.4), and temporary addresses, which are not meant for incoming
    connections (RFC 8981). Lines that cannot be parsed are skipped.
    """
    found = set()
    for line in if_inet6.splitlines():
        try:
            digits, _, _, scope, flags_digits = line.split()[:5]
            address, flags = IPv6Address(bytes.fromhex(digits.decode("ascii"))), int(flags_digits, 16)
        except ValueError:
            continue
        unconfirmed = flags & _TENTATIVE and not flags & _OPTIMISTIC
        if scope in _FAR_SCOPES and not (unconfirmed or flags & (_DAD_FAILED | _TEMPORARY)):
            found.add(address)
    return sorted(found)


class Look(NamedTuple):
    """Network namespace and addresses of a container.

    namespace: such as `net:[4026532281]`; "" for the host's namespace or one that may not be read; None when the
    container has no process. addresses: at most ADDRESSES_LIMIT, IPv4 before IPv6.
    """

    namespace: str | None
    addresses: tuple[str, ...] = ()


class AddressReader:
    """Finds the addresses of containers by their cgroup path. Not safe for concurrent use."""

    def __init__(self, procfs: Path, procs_root: Path | None) -> None:
        """procs_root: root of the hierarchy whose cgroup.procs is read (see `pymon.sources.cgroup.procs_root`)."""
        self._procfs = os.fspath(procfs)
        self._root = None if procs_root is None else os.fspath(procs_root)
        self._host = self._namespace("1") or self._namespace("self")

    def look(self, path: str, known: dict[str, Look]) -> Look:
        """Return the namespace and addresses of the container whose cgroup is at `path`.

        known: recent results by namespace. A namespace that is in it is not read again; a new result is added to it.
        """
        if self._root is None:
            return Look(None)
        for pid in islice(processes(self._root + path), PROCESS_TRIES):
            found = self._of_process(pid, known)
            if found is not None:
                return found
        return Look(None)

    def _of_process(self, pid: int, known: dict[str, Look]) -> Look | None:
        """Return what a process shows of its namespace, or None when the process has exited."""
        try:
            # An open directory keeps referring to this process, even when its PID is used again.
            process = os.open(f"{self._procfs}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            namespace = os.readlink("ns/net", dir_fd=process)
            if namespace == self._host:
                return Look("")
            if namespace not in known:
                # if_inet6 is missing without IPv6 or when the process exited. fib_trie, read after it, tells which.
                ipv6 = ipv6_addresses(_read(process, "net/if_inet6", b""))
                ipv4 = ipv4_addresses(_read(process, "net/fib_trie"))
                known[namespace] = Look(namespace, tuple(map(str, (*ipv4, *ipv6)))[:ADDRESSES_LIMIT])
            return known[namespace]
        except PermissionError:
            return Look("")
        except OSError:
            return None
        finally:
            os.close(process)

    def _namespace(self, process: str) -> str:
        try:
            return str(Path(self._procfs, process, "ns/net").readlink())
        except OSError:
            return ""


def _read(directory: int, name: str, absent: bytes | None = None) -> bytes:
    """Return the content of a file below a directory, or b"" when it is longer than _TABLE_MAX_BYTES.

    absent: returned when the file does not exist; with None, FileNotFoundError is raised. Raises OSError.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        if absent is None:
            raise
        return absent
    try:
        parts: list[bytes] = []
        left = _TABLE_MAX_BYTES
        while part := os.read(descriptor, 65536):
            parts.append(part)
            left -= len(part)
            if left < 0:
                return b""
        return b"".join(parts)
    finally:
        os.close(descriptor)


def processes(directory: str, depth: int = _DESCENDANTS_DEPTH) -> Iterator[int]:
    """Yield the processes of a cgroup or, when it has none itself, those of the cgroups below it."""
    try:
        descriptor = os.open(f"{directory}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # 4096 bytes hold many more than are tried. A process outside this PID namespace is shown as 0.
            pids = [int(line) for line in os.read(descriptor, 4096).splitlines()]
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        pids = []
    yield from filter(None, pids)
    if pids or depth == 0:
        return
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for child in below:
        yield from processes(child, depth - 1)
