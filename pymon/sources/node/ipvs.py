"""The load balancer of the kernel, from /proc/net/ip_vs_stats and /proc/net/ip_vs (net/netfilter/ipvs/ip_vs_ctl.c).

TCP  C0A80016:0CEA wlc
  -> C0A85216:0CEA      Tunnel  100    248        2
FWM  10001000 wlc
  -> C0A83120:0CEA      Route   0      0          21
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.attributes import hexadecimal
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource

IPVS_FIELDS = ("connections", "incoming_packets", "outgoing_packets", "incoming_bytes", "outgoing_bytes")
"""The third line of ip_vs_stats, in order."""

IPVS_BACKEND_FIELDS = ("weight", "active", "inactive")
"""The words after a backend's address and method."""

_TOTALS_LINE = 2
_BACKENDS_MAX = 65536
_BACKEND_WORDS = 6
_IPV4 = re.compile(rb"([0-9A-F]{8}):([0-9A-F]{4})")
_IPV6 = re.compile(rb"\[([0-9a-fA-F:]{2,39})\]:([0-9A-F]{4})")


class Backend(NamedTuple):
    """A server behind a service. labels: in node_exporter's order. numbers: in the order of IPVS_BACKEND_FIELDS."""

    labels: tuple[tuple[str, str], ...]
    numbers: list[int | None]


def parse_address(word: bytes) -> tuple[str, str] | None:
    """Return address and port, or None when the word is not of the form C0A80016:0CEA or [IPv6]:0CEA."""
    if match := _IPV4.fullmatch(word):
        return str(ipaddress.IPv4Address(int(match[1], 16))), str(int(match[2], 16))
    if match := _IPV6.fullmatch(word):
        try:
            return str(ipaddress.IPv6Address(match[1].decode())), str(int(match[2], 16))
        except ValueError:
            return None
    return None


def parse_backends(data: bytes) -> Iterator[Backend]:
    """Yield the backends of all services. Lines that describe neither are skipped."""
    service: tuple[tuple[str, str], ...] | None = None
    for line in complete_lines(data):
        words = line.split()
        if len(words) < len(("TCP", "address")):
            continue
        if words[0] in {b"TCP", b"UDP", b"SCTP"}:
            local = parse_address(words[1])
            service = local and _service(*local, text(words[0]), "")
        elif words[0] == b"FWM":
            service = _service("", "0", "FWM", text(words[1]))
        elif words[0] == b"->" and service and len(words) >= _BACKEND_WORDS:
            remote = parse_address(words[1])
            if remote is not None:
                labels = (("remote_address", remote[0]), ("remote_port", remote[1]))
                yield Backend((*service[:2], *labels, *service[2:]), [unsigned(word) for word in words[3:6]])


def _service(address: str, port: str, protocol: str, mark: str) -> tuple[tuple[str, str], ...]:
    return ("local_address", address), ("local_port", port), ("proto", protocol), ("local_mark", mark)


class Ipvs(NodeSource):
    """Tables node_ipvs of one row, and node_ipvs_backend {local_address, local_port, remote_address, remote_port,
    proto, local_mark}. The files are there while the module is loaded.
    """

    name: ClassVar[str] = "ipvs"

    def __init__(self, procfs: Path) -> None:
        self._statistics = KernelFile(procfs / "net" / "ip_vs_stats")
        self._services = KernelFile(procfs / "net" / "ip_vs")
        self._table = Table("node_ipvs", IPVS_FIELDS)
        self._backends = Table("node_ipvs_backend", IPVS_BACKEND_FIELDS)
        super().__init__((self._table, self._backends), (self._statistics, self._services))

    def _fill(self) -> None:
        data = self._read_text(self._statistics, optional=True)
        if data is not None:
            lines = complete_lines(data)
            words = lines[_TOTALS_LINE].split() if len(lines) > _TOTALS_LINE else []
            totals = [hexadecimal(word) for word in words]
            if len(totals) == len(IPVS_FIELDS) and None not in totals:
                self._table.fill(self._table.add_row(), totals)
            else:
                self._misread(self._statistics.path, "two lines of header and five hexadecimal numbers")
        services = self._read_text(self._services, optional=True)
        # A server may be listed twice for one service while it is drained. The last one counts.
        found = dict(parse_backends(services)) if services is not None else {}
        if len(found) > _BACKENDS_MAX:
            self._misread(self._services.path, f"at most {_BACKENDS_MAX} servers")
            found.clear()
        for labels, numbers in found.items():
            self._backends.fill(self._backends.add_row(labels), numbers)


_TOTALS = {
    "connections": "The total number of connections made.",
    "incoming_bytes": "The total amount of incoming data.",
    "incoming_packets": "The total number of incoming packets.",
    "outgoing_bytes": "The total amount of outgoing data.",
    "outgoing_packets": "The total number of outgoing packets.",
}

METRICS = (
    gauge(
        "node_ipvs_backend_connections_active",
        "The current active connections by local and remote address.",
        "ipvs",
        Column("node_ipvs_backend", "active"),
    ),
    gauge(
        "node_ipvs_backend_connections_inactive",
        "The current inactive connections by local and remote address.",
        "ipvs",
        Column("node_ipvs_backend", "inactive"),
    ),
    gauge(
        "node_ipvs_backend_weight",
        "The current backend weight by local and remote address.",
        "ipvs",
        Column("node_ipvs_backend", "weight"),
    ),
    *(counter(f"node_ipvs_{key}_total", help, "ipvs", Column("node_ipvs", key)) for key, help in _TOTALS.items()),
)

COLLECTOR = Collector(
    Ipvs.name,
    lambda node: Ipvs(node.procfs),
    METRICS,
    row_labels={
        "node_ipvs_backend": ("local_address", "local_port", "remote_address", "remote_port", "proto", "local_mark"),
    },
)
