"""The kernel's tables of sockets in /proc/net, which can have millions of lines, read in parts.

sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
 0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 20633
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pymon.sources.errors import SourceError

_PART_BYTES = 65536
_LIMIT_BYTES = 256 * 2**20

SOCKET = re.compile(
    rb"^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) ([0-9A-F]{8}):([0-9A-F]{8}) ", re.MULTILINE
)
"""A line: state, bytes to send and bytes to read, in hexadecimal (net/ipv4/tcp_ipv4.c, udp.c)."""


def socket_lines(path: Path) -> Iterator[bytes]:
    """Yield the table in parts of whole lines. Raises SourceError when it cannot be read or is longer than 256 MiB.

    The interpreter's lock is free between parts, so a long table does not hold up other threads.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            total, rest = 0, b""
            while part := os.read(descriptor, _PART_BYTES):
                total += len(part)
                if total > _LIMIT_BYTES or len(rest) > _PART_BYTES:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
                lines, newline, rest = (rest + part).rpartition(b"\n")
                yield lines + newline
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SourceError.from_os_error(path, error) from None
