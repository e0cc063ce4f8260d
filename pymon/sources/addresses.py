"""IP addresses of containers, read from procfs in their network namespaces: nothing is entered, and nothing of a
container's file system is opened.

A namespace is reached through one of the container's processes, /proc/PID/net. Containers that share one, as those of a
pod do, have the same addresses; the host's are nobody's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from pathlib import Path
from typing import NamedTuple

ADDRESSES_LIMIT = 64
"""Addresses that are told of a container: the first in order."""

_TABLE_MAX_BYTES = 4 << 20
"""Routes and addresses are as many as those in the container please."""

_PROCESS_TRIES = 16
_DESCENDANTS_DEPTH = 16
# Flags of an IPv6 address, linux/if_addr.h.
_TEMPORARY, _OPTIMISTIC, _DAD_FAILED, _TENTATIVE = 0x01, 0x04, 0x08, 0x40
# Its scope, include/net/ipv6.h: what is neither the host's nor the link's.
_FAR_SCOPES = (b"00", b"40")


def ipv4_addresses(fib_trie: bytes) -> list[IPv4Address]:
    """Addresses that /proc/PID/net/fib_trie has as local ones (net/ipv4/fib_trie.c), in order.

    Only the table `Local` counts: others that policy routing adds have routes of type LOCAL that are no addresses.
    Without loopback and link-local ones. Lines that are not understood are passed over.
    """
    # The name of a table is the only thing that begins a line.
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
    """Addresses of /proc/PID/net/if_inet6 (net/ipv6/addrconf.c) that others can reach, in order.

    Without loopback and link-local ones, without those whose uniqueness is not yet known or that are another's (RFC
    4862 §5.4), and without temporary ones, which nobody is meant to connect to (RFC 8981). Lines that are not
    understood are passed over.
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
    """What a look at a container found.

    namespace: its network namespace, as `net:[4026532281]`; "" when that is the host's, None when no process was there
    to tell. addresses: IPv4 before IPv6.
    """

    namespace: str | None
    addresses: tuple[str, ...] = ()


class AddressReader:
    """Looks at containers, by the path of their group. For one thread at a time."""

    def __init__(self, procfs: Path, procs_root: Path | None) -> None:
        """procs_root: of the hierarchy whose cgroup.procs counts (`pymon.sources.cgroup.procs_root`)."""
        self._procfs = os.fspath(procfs)
        self._root = None if procs_root is None else os.fspath(procs_root)
        self._host = self._namespace("1") or self._namespace("self")

    def look(self, path: str, known: dict[str, Look]) -> Look:
        """Look at one. known: what looks that began a moment ago found, by namespace; this one is added."""
        if self._root is None:
            return Look(None)
        for pid in islice(_processes(self._root + path), _PROCESS_TRIES):
            found = self._of_process(pid, known)
            if found is not None:
                return found
        return Look(None)

    def _of_process(self, pid: int, known: dict[str, Look]) -> Look | None:
        """None when the process has gone."""
        try:
            # Once it is open, another process that is given the number is not taken for this one.
            process = os.open(f"{self._procfs}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            namespace = os.readlink("ns/net", dir_fd=process)
            if namespace == self._host:
                return Look("")
            if namespace not in known:
                # In this order: where there is no IPv6 there is no such file, but the other one must be there.
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
    """A file below a directory; empty when it is longer than is sensible.

    absent: what stands for a file that is not there. Raises OSError.
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


def _processes(directory: str, depth: int = _DESCENDANTS_DEPTH) -> Iterator[int]:
    """Processes of a group, and where it has none itself of those below it."""
    try:
        descriptor = os.open(f"{directory}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Many more than are tried. 0 stands for a process of a pid namespace that is not below this one.
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
        yield from _processes(child, depth - 1)
