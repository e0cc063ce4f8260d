"""The network devices of this process's namespace, from one dump of rtnetlink(7).

A dump costs some microseconds a device, where sysfs has some twenty files for each.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_COUNTER = struct.Struct("=Q")

_GETLINK, _NEWLINK, _ERROR, _DONE = 18, 16, 2, 3
_REQUEST_DUMP = 0x301
_TYPE_MASK = 0x3FFF
_PART_BYTES = 1 << 18
_LIMIT_BYTES = 1 << 26
_TIMEOUT_SECONDS = 2.0

# Attributes, linux/if_link.h.
_ADDRESS, _BROADCAST, _NAME, _MTU, _PEER, _QUEUE, _STATE, _MODE, _ALIAS = 1, 2, 3, 4, 5, 13, 16, 17, 20
_STATS, _GROUP, _PROMISCUITY, _CARRIER, _CHANGES, _UPS, _DOWNS, _ALLMULTI = 23, 27, 30, 33, 35, 47, 48, 61
_WANTED = frozenset(
    (
        *(_ADDRESS, _BROADCAST, _NAME, _MTU, _PEER, _QUEUE, _STATE, _MODE, _ALIAS),
        *(_STATS, _GROUP, _PROMISCUITY, _CARRIER, _CHANGES, _UPS, _DOWNS, _ALLMULTI),
    )
)
_NOHANDLER_AT = 23 * 8

# Flags, linux/if.h. The kernel adds those of the state in a dump, but not in sysfs.
_UP, _RUNNING, _PROMISC, _MULTI, _LOWER_UP, _DORMANT = 0x1, 0x40, 0x100, 0x200, 0x10000, 0x20000
_STATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")


class Link(NamedTuple):
    """A device, with values as the files of sysfs have them. None: the kernel says nothing, or refuses in sysfs too."""

    name: bytes
    ifindex: int
    type: int
    flags: int
    state: str
    address: str
    broadcast: str
    alias: bytes
    carrier: int | None
    dormant: int | None
    carrier_changes: int | None
    carrier_ups: int | None
    carrier_downs: int | None
    peer: int
    mode: int | None
    mtu: int | None
    group: int | None
    queue: int | None
    nohandler: int | None


class LinkDump:
    """Asks for the devices over a socket that stays open. Not safe for concurrent use."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(_PART_BYTES))

    def __call__(self) -> list[Link]:
        """Return the devices. Raises OSError, also when the kernel takes more than 2 seconds for a part."""
        try:
            return self._dump(self._opened())
        except OSError:
            self.close()  # with what may still come
            raise

    def close(self) -> None:
        """Close the socket. The next call opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opened(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
            self._socket.settimeout(_TIMEOUT_SECONDS)
        return self._socket

    def _dump(self, kernel: socket.socket) -> list[Link]:
        kernel.send(_HEADER.pack(_HEADER.size + _LINK.size, _GETLINK, _REQUEST_DUMP, 1, 0) + _LINK.pack(0, 0, 0, 0, 0))
        links: list[Link] = []
        total = 0
        while total < _LIMIT_BYTES:
            part = bytes(self._buffer[: kernel.recv_into(self._buffer)])
            total += len(part)
            for kind, message in _messages(part):
                if kind == _DONE:
                    return links
                if kind == _ERROR:
                    raise OSError("rtnetlink: the kernel refuses a dump of links")
                if kind == _NEWLINK and len(message) >= _LINK.size:
                    links.append(parse_link(message))
        raise OSError("rtnetlink: a dump of links without end")


def _messages(part: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of the messages of a part."""
    at = 0
    while at + _HEADER.size <= len(part):
        length, kind, _, _, _ = _HEADER.unpack_from(part, at)
        if length < _HEADER.size:
            return
        yield kind, part[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def parse_link(message: bytes) -> Link:
    """Return the device that an RTM_NEWLINK message describes."""
    _, kind, index, flags, _ = _LINK.unpack_from(message)
    found: dict[int, bytes] = {}
    at, end = _LINK.size, len(message)
    while at + _ATTRIBUTE.size <= end:
        length, name = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            break
        if name & _TYPE_MASK in _WANTED:
            found[name & _TYPE_MASK] = message[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    running = bool(flags & _UP)
    state = found.get(_STATE, b"\0")[:1] or b"\0"
    peer = _number(found.get(_PEER))
    return Link(
        found.get(_NAME, b"").rstrip(b"\0"),
        index,
        kind,
        _flags(flags, _number(found.get(_PROMISCUITY)), _number(found.get(_ALLMULTI))),
        _STATES[state[0]] if state[0] < len(_STATES) else "unknown",
        found.get(_ADDRESS, b"").hex(":"),
        found.get(_BROADCAST, b"").hex(":"),
        found.get(_ALIAS, b"").rstrip(b"\0"),
        _byte(found.get(_CARRIER)) if running else None,
        int(bool(flags & _DORMANT)) if running else None,
        _number(found.get(_CHANGES)),
        _number(found.get(_UPS)),
        _number(found.get(_DOWNS)),
        index if peer is None else peer,
        _byte(found.get(_MODE)),
        _number(found.get(_MTU)),
        _number(found.get(_GROUP)),
        _number(found.get(_QUEUE)),
        _nohandler(found.get(_STATS, b"")),
    )


def _flags(flags: int, promiscuity: int | None, all_multicast: int | None) -> int:
    """Return the flags as sysfs has them: without those of the state, and with what was set by counting."""
    flags &= ~(_RUNNING | _LOWER_UP | _DORMANT)
    for bit, count in ((_PROMISC, promiscuity), (_MULTI, all_multicast)):
        if count is not None:
            flags = flags | bit if count else flags & ~bit
    return flags


def _number(data: bytes | None) -> int | None:
    return int(_NUMBER.unpack(data)[0]) if data is not None and len(data) == _NUMBER.size else None


def _byte(data: bytes | None) -> int | None:
    return data[0] if data else None


def _nohandler(stats: bytes) -> int | None:
    """Return the last counter of rtnl_link_stats64 that sysfs has, which old kernels lack."""
    if len(stats) < _NOHANDLER_AT + _COUNTER.size:
        return None
    return int(_COUNTER.unpack_from(stats, _NOHANDLER_AT)[0])
