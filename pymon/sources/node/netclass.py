"""Properties of network devices, from /sys/class/net (Documentation/ABI/testing/sysfs-class-net).

That directory shows the devices of the network namespace in which it was mounted, which is the node's own. Where it is
also this process's, most values come from rtnetlink, which is an order of magnitude cheaper.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import ClassVar, NamedTuple

from pymon._native.table import Table
from pymon.catalogue.model import ONE, Column, Kind, Metric, Sample, Unit, gauge
from pymon.sources.node.attributes import AttributeSource, hexadecimal, integer
from pymon.sources.node.kernel_text import text
from pymon.sources.node.links import Link, LinkDump
from pymon.sources.node.source import INFO_FIELDS, Collector

NETCLASS_FIELDS = (
    "up",
    "addr_assign_type",
    "carrier",
    "carrier_changes",
    "carrier_down_count",
    "carrier_up_count",
    "dev_id",
    "dormant",
    "flags",
    "ifindex",
    "iflink",
    "link_mode",
    "mtu",
    "name_assign_type",
    "netdev_group",
    "speed",
    "tx_queue_len",
    "type",
    "rx_nohandler",
)
"""Numbers in the files of a device. `up` is 1 if its state is up, `speed` is in Mbit/s and -1 where unknown."""

_SLOW_FIELDS = ("addr_assign_type", "dev_id", "name_assign_type", "speed")
"""The files whose numbers rtnetlink does not have."""

_FILES = {"rx_nohandler": "statistics/rx_nohandler"}
_FLAG_UP = 1
_MBIT = Unit(multiply=125_000, signed=True)
_SLOW_SECONDS = 60.0
_COUNTERS_AT = Link._fields.index("nohandler")
"""The last field of a link, the only one that traffic changes."""


class _Slow(NamedTuple):
    """What only sysfs says of a device.

    link: the device when it was read. until: when it is read again, though the device has not changed.
    """

    link: Link
    until: float
    numbers: dict[str, int | None]
    duplex: str


class Netclass(AttributeSource):
    """Tables node_netclass {device} and node_netclass_info {device, address, broadcast, duplex, operstate, adminstate,
    ifalias} with the constant 1.

    The kernel refuses to read some files while a device is down. Their cells are absent. With rtnetlink, speed and
    duplex are read when the link has changed, and else once a minute.
    """

    name: ClassVar[str] = "netclass"

    def __init__(
        self, sysfs: Path, dump: Callable[[], list[Link]] | None = None, excluded: re.Pattern[str] | None = None
    ) -> None:
        self._excluded = excluded
        self._directory = sysfs / "class" / "net"
        self._dump = dump
        self._slow: dict[str, _Slow] = {}
        self._table = Table("node_netclass", NETCLASS_FIELDS)
        self._info = Table("node_netclass_info", INFO_FIELDS)
        self._shown: Sequence[tuple[str, tuple[object, ...], _Slow]] = ()
        self._kept = (Table("node_netclass", NETCLASS_FIELDS), Table("node_netclass_info", INFO_FIELDS))
        super().__init__((self._table, self._info))

    def close(self) -> None:
        """Close the socket of rtnetlink. The next collection opens another."""
        super().close()
        if isinstance(self._dump, LinkDump):
            self._dump.close()

    def _fill(self) -> None:
        # Files such as bonding_masters stand among the devices.
        excluded = self._excluded
        names = [name for name in self._entries(self._directory) if not (excluded and excluded.search(name))]
        links = self._links()
        slow = {name: self._read_slow(name, links[name]) for name in names if name in links}
        if any(found is None for found in slow.values()):
            slow.clear()
        self._slow = {name: found for name, found in slow.items() if found is not None}
        if len(self._slow) == len(names):
            self._fill_from_links(names, links)
            return
        for name in names:
            if name in self._slow:
                self._add_link(name, links[name], self._slow[name])
            elif self._attribute(f"{self._directory}/{name}/ifindex") is not None:
                self._add(name, f"{self._directory}/{name}")

    def _fill_from_links(self, names: list[str], links: Mapping[str, Link]) -> None:
        """Fill the tables: as they were, with new counters, when nothing else has changed."""
        shown = [(name, links[name][:_COUNTERS_AT], self._slow[name]) for name in names]
        if shown != self._shown:
            self._shown = shown
            for name in names:
                self._add_link(name, links[name], self._slow[name])
            for kept, table in zip(self._kept, self.tables, strict=True):
                kept.assign(table)
            return
        for kept, table in zip(self._kept, self.tables, strict=True):
            table.assign(kept)
        for row, name in enumerate(names):
            self._table.fill(row, (links[name].nohandler,), NETCLASS_FIELDS.index("rx_nohandler"))

    def _links(self) -> Mapping[str, Link]:
        """Return the devices by name, none when they cannot be had from rtnetlink."""
        if self._dump is None:
            return {}
        try:
            return {text(link.name): link for link in self._dump()}
        except OSError:
            return {}

    def _read_slow(self, name: str, link: Link) -> _Slow | None:
        """Return what only sysfs says, or None when the device there is another one, of another namespace."""
        known = self._slow.get(name)
        now = monotonic()
        if known is not None and _same(known.link, link) and now < known.until:
            return known
        path = f"{self._directory}/{name}"
        if (self._number(f"{path}/ifindex"), self._word(f"{path}/address")) != (link.ifindex, link.address):
            return None
        numbers = {field: self._number(f"{path}/{field}") for field in _SLOW_FIELDS}
        # Devices do not take their turn all in one collection.
        until = now + _SLOW_SECONDS * (1 + link.ifindex % 16 / 16)
        return _Slow(link, until, numbers, self._word(f"{path}/duplex"))

    def _add_link(self, name: str, link: Link, slow: _Slow) -> None:
        values = {
            "up": int(link.state == "up"),
            "carrier": link.carrier,
            "carrier_changes": link.carrier_changes,
            "carrier_down_count": link.carrier_downs,
            "carrier_up_count": link.carrier_ups,
            "dormant": link.dormant,
            "flags": link.flags,
            "ifindex": link.ifindex,
            "iflink": link.peer,
            "link_mode": link.mode,
            "mtu": link.mtu,
            "netdev_group": link.group,
            "tx_queue_len": link.queue,
            "type": link.type,
            "rx_nohandler": link.nohandler,
            **slow.numbers,
        }
        self._table.fill(self._table.add_row((("device", name),)), [values[field] for field in NETCLASS_FIELDS])
        self._add_info(name, link.address, link.broadcast, slow.duplex, link.state, link.flags, text(link.alias))

    def _add(self, device: str, path: str) -> None:
        state = self._word(f"{path}/operstate")
        numbers = [self._number(f"{path}/{_FILES.get(field, field)}") for field in NETCLASS_FIELDS[1:]]
        flags = numbers[NETCLASS_FIELDS.index("flags") - 1]
        self._table.fill(self._table.add_row((("device", device),)), (int(state == "up"), *numbers))
        address, broadcast, duplex, alias = (
            self._word(f"{path}/{name}") for name in ("address", "broadcast", "duplex", "ifalias")
        )
        self._add_info(device, address, broadcast, duplex, state, flags, alias)

    def _add_info(
        self, device: str, address: str, broadcast: str, duplex: str, state: str, flags: int | None, alias: str
    ) -> None:
        labels = (
            ("device", device),
            ("address", address),
            ("broadcast", broadcast),
            ("duplex", duplex),
            ("operstate", state),
            ("adminstate", "unknown" if flags is None else "up" if flags & _FLAG_UP else "down"),
            ("ifalias", alias),
        )
        self._info.fill(self._info.add_row(labels), (1,))

    def _number(self, path: str) -> int | None:
        """Return the number in a file, which is decimal, or hexadecimal after 0x."""
        word = self._attribute(path)
        if not word:
            return None
        value = hexadecimal(word) if word.startswith(b"0x") else integer(word)
        if value is None:
            self._misread(Path(path), f"an integer, got {text(word[:20])!r}")
        return value


def _same(before: Link, now: Link) -> bool:
    """Whether what only sysfs says of a device is the same: counters of traffic may have changed."""
    return before[:_COUNTERS_AT] == now[:_COUNTERS_AT]


def _make(sysfs: Path, excluded: re.Pattern[str]) -> Netclass:
    """Return the source for a node. Of a copy of sysfs, or another namespace's, rtnetlink does not speak."""
    try:
        own = Path("/sys/class/net").stat().st_dev == (sysfs / "class" / "net").stat().st_dev
    except OSError:
        own = False
    return Netclass(sysfs, LinkDump() if own else None, excluded)


def _netclass(suffix: str, key: str, unit: Unit = ONE) -> Metric:
    kind = Kind.COUNTER if suffix.endswith("_total") else Kind.GAUGE
    help = f"Network device property: {suffix}"
    return Metric(f"node_network_{suffix}", kind, help, "netclass", (Sample((Column("node_netclass", key, unit),)),))


METRICS = (
    _netclass("address_assign_type", "addr_assign_type"),
    _netclass("carrier", "carrier"),
    _netclass("carrier_changes_total", "carrier_changes"),
    _netclass("carrier_down_changes_total", "carrier_down_count"),
    _netclass("carrier_up_changes_total", "carrier_up_count"),
    _netclass("device_id", "dev_id"),
    _netclass("dormant", "dormant"),
    _netclass("flags", "flags"),
    _netclass("iface_id", "ifindex"),
    _netclass("iface_link", "iflink"),
    _netclass("iface_link_mode", "link_mode"),
    gauge(
        "node_network_info",
        "Non-numeric data from /sys/class/net/<iface>, value is always 1.",
        "netclass",
        Column("node_netclass_info", "info"),
    ),
    _netclass("mtu_bytes", "mtu"),
    _netclass("name_assign_type", "name_assign_type"),
    _netclass("net_dev_group", "netdev_group"),
    _netclass("protocol_type", "type"),
    Metric(
        "node_network_receive_nohandler_total",
        Kind.COUNTER,
        "Network device statistic receive_nohandler.",
        "netclass",
        (Sample((Column("node_netclass", "rx_nohandler"),)),),
    ),
    _netclass("speed_bytes", "speed", _MBIT),
    _netclass("transmit_queue_length", "tx_queue_len"),
    gauge(
        "node_network_up",
        "Value is 1 if operstate is 'up', 0 otherwise.",
        "netclass",
        Column("node_netclass", "up"),
    ),
)

COLLECTOR = Collector(
    Netclass.name,
    lambda node: _make(node.sysfs, node.exclusions.netclass_devices),
    METRICS,
    row_labels={
        "node_netclass": ("device",),
        "node_netclass_info": ("device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"),
    },
)
