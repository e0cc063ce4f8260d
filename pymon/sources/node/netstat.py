"""Counters of IP, ICMP, TCP and UDP, from /proc/net/snmp, /proc/net/netstat and /proc/net/snmp6.

The first two files have pairs of lines, names and then values (net/ipv4/proc.c):
    Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens
    Tcp: 1 200 120000 -1 2244
snmp6 has a line for each counter (net/ipv6/proc.c):
    Udp6InDatagrams    2128
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import SIGNED, Column, unknown
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import integer
from pymon.sources.node.kernel_text import complete_lines, text
from pymon.sources.node.source import Collector, NodeSource

_UDP = ("InDatagrams", "InErrors", "NoPorts", "OutDatagrams", "RcvbufErrors", "SndbufErrors")

_FIELDS = {
    "Icmp": ("InErrors", "InMsgs", "OutMsgs"),
    "Icmp6": ("InErrors", "InMsgs", "OutMsgs"),
    "Ip": ("Forwarding",),
    "Ip6": ("InOctets", "OutOctets"),
    "IpExt": ("InOctets", "OutOctets"),
    "Tcp": (
        "ActiveOpens",
        "CurrEstab",
        "InErrs",
        "InSegs",
        "OutRsts",
        "OutSegs",
        "PassiveOpens",
        "RetransSegs",
    ),
    "TcpExt": (
        "ListenDrops",
        "ListenOverflows",
        "SyncookiesFailed",
        "SyncookiesRecv",
        "SyncookiesSent",
        "TCPOFOQueue",
        "TCPRcvQDrop",
        "TCPSynRetrans",
        "TCPTimeouts",
    ),
    "Udp": _UDP,
    "Udp6": _UDP,
    "UdpLite": ("InErrors",),
    "UdpLite6": ("InErrors",),
}
"""What node_exporter exports by default: the value of --collector.netstat.fields there."""

NETSTAT_FIELDS = tuple(f"{protocol}_{name}" for protocol, names in _FIELDS.items() for name in names)
"""PROTOCOL_NAME of each counter, named as in /proc/net/netstat, snmp and snmp6."""

_SIX = {field.replace("_", ""): field for field in NETSTAT_FIELDS if field.partition("_")[0].endswith("6")}
_SIX_LINE = re.compile(rb"^(%b)[ \t]+([^ \t\n]+).*\n" % b"|".join(map(str.encode, _SIX)), re.MULTILINE)


@lru_cache(maxsize=32)
def _places(names: bytes) -> tuple[int, tuple[tuple[int, str], ...]]:
    """Return the number of words of a line of names, and the places of our fields in it. Lines do not change."""
    protocol, *words = names.split() or [b""]
    fields = ((at, f"{text(protocol.removesuffix(b':'))}_{text(word)}") for at, word in enumerate(words, 1))
    return len(words) + 1, tuple((at, field) for at, field in fields if field in NETSTAT_FIELDS)


def parse_snmp(data: bytes) -> dict[str, int]:
    """Return the values of pairs of lines by PROTOCOL_NAME. Others than ours, and no integers, are left out."""
    found = {}
    for names, values in pairwise(complete_lines(data)):
        if names.partition(b":")[0] == values.partition(b":")[0]:
            count, places = _places(names)
            words = values.split() if places else []
            for at, field in places if len(words) == count else ():
                value = integer(words[at])
                if value is not None:
                    found[field] = value
    return found


def parse_snmp6(data: bytes) -> dict[str, int]:
    """Return the values of lines of a name and an integer, by PROTOCOL_NAME. Other names than ours are left out."""
    found = {}
    for name, word in _SIX_LINE.findall(data):
        value = integer(word)
        if value is not None:
            found[_SIX[text(name)]] = value
    return found


class Netstat(NodeSource):
    """Table node_netstat: one row of counters since the kernel started."""

    name: ClassVar[str] = "netstat"

    def __init__(self, procfs: Path) -> None:
        self._pairs = [KernelFile(procfs / "net" / name) for name in ("netstat", "snmp")]
        self._six = KernelFile(procfs / "net" / "snmp6")
        self._table = Table("node_netstat", NETSTAT_FIELDS)
        super().__init__((self._table,), (*self._pairs, self._six))

    def _fill(self) -> None:
        values: dict[str, int] = {}
        for file in self._pairs:
            data = self._read_text(file)
            if data is not None:
                read = parse_snmp(data)
                if not read:
                    self._misread(file.path, "pairs of lines such as 'Tcp: InSegs' and 'Tcp: 7'")
                values |= read
        # Without IPv6 there is no such file.
        data = self._read_text(self._six, optional=True)
        if data is not None:
            values |= parse_snmp6(data)
        cells = [values.get(field) for field in NETSTAT_FIELDS]
        if cells.count(None) < len(cells):
            self._table.fill(self._table.add_row(), cells)


METRICS = tuple(
    unknown(
        f"node_netstat_{field}",
        f"Statistic {field.replace('_', '')}.",
        "netstat",
        Column("node_netstat", field, SIGNED),
    )
    for field in NETSTAT_FIELDS
)

COLLECTOR = Collector(Netstat.name, lambda node: Netstat(node.procfs), METRICS)
