"""NVMe controllers and their namespaces, from /sys/class/nvme (drivers/nvme/host/sysfs.c)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, Metric, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import INFO_FIELDS, Collector

NVME_NAMESPACE_FIELDS = ("capacity", "size", "used", "logical_block_size")
"""Columns of node_nvme_namespace, in bytes: `size` and `used` are the files size and nuse times the logical block size.
`capacity` is the same as `size`, as in node_exporter.
"""

_FILES = {
    "firmware_revision": "firmware_rev",
    "model": "model",
    "serial": "serial",
    "state": "state",
    "cntlid": "cntlid",
}
_UINT64_MAX = 2**64 - 1


class Nvme(AttributeSource):
    """Tables node_nvme {device, firmware_revision, model, serial, state, cntlid} with the constant 1, node_nvme_ana
    {device, nsid, ana_state} with the constant 1, and node_nvme_namespace {device, nsid} in bytes.
    """

    name: ClassVar[str] = "nvme"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "class" / "nvme"
        self._devices = Table("node_nvme", INFO_FIELDS)
        self._states = Table("node_nvme_ana", INFO_FIELDS)
        self._namespaces = Table("node_nvme_namespace", NVME_NAMESPACE_FIELDS)
        super().__init__((self._devices, self._states, self._namespaces))

    def _fill(self) -> None:
        for device in self._entries(self._directory, r"nvme[0-9]+"):
            path = f"{self._directory}/{device}"
            label = ("device", device)
            words = [(name, self._word(f"{path}/{file}")) for name, file in _FILES.items()]
            self._devices.fill(self._devices.add_row((label, *words)), (1,))
            # Paths of a multipath namespace are named nvme0c1n1.
            numbers: dict[str, str] = {}
            for name in self._entries(path, r"nvme[0-9]+(c[0-9]+)?n[0-9]+"):
                numbers.setdefault(re.sub(r".*n", "", name), name)
            for number, name in numbers.items():
                self._add_namespace(f"{path}/{name}", (label, ("nsid", number)))

    def _add_namespace(self, path: str, labels: tuple[tuple[str, str], ...]) -> None:
        state = self._word(f"{path}/ana_state") or "unknown"
        self._states.fill(self._states.add_row((*labels, ("ana_state", state))), (1,))
        block = self._integer(f"{path}/queue/logical_block_size")
        size, used = (self._in_bytes(self._integer(f"{path}/{file}"), block) for file in ("size", "nuse"))
        if (size, used, block) != (None, None, None):
            self._namespaces.fill(self._namespaces.add_row(labels), (size, size, used, block))

    @staticmethod
    def _in_bytes(blocks: int | None, block: int | None) -> int | None:
        """Return a number of blocks in bytes, or None when it is unknown or does not fit 64 bits.

        node_exporter multiplies `size` by the logical block size too, though its unit is 512 bytes.
        """
        if blocks is None or block is None or not 0 <= blocks * block <= _UINT64_MAX:
            return None
        return blocks * block


def _nvme(suffix: str, help: str, key: str) -> Metric:
    return gauge(f"node_nvme_namespace_{suffix}_bytes", help, "nvme", Column("node_nvme_namespace", key))


METRICS = (
    gauge(
        "node_nvme_info",
        "Non-numeric data from /sys/class/nvme/<device>, value is always 1.",
        "nvme",
        Column("node_nvme", "info"),
    ),
    _nvme(
        "capacity",
        "Capacity of the NVMe namespace in bytes. Computed as namespace_size * namespace_logical_block_size",
        "capacity",
    ),
    gauge(
        "node_nvme_namespace_info",
        "Information about NVMe namespaces. Value is always 1",
        "nvme",
        Column("node_nvme_ana", "info"),
    ),
    _nvme(
        "logical_block_size",
        "Logical block size of the NVMe namespace in bytes. Usually 4Kb. Available in "
        "/sys/class/nvme/<device>/<namespace>/queue/logical_block_size",
        "logical_block_size",
    ),
    _nvme(
        "size",
        "Size of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/size",
        "size",
    ),
    _nvme(
        "used",
        "Used space of the NVMe namespace in bytes. Available in /sys/class/nvme/<device>/<namespace>/nuse",
        "used",
    ),
)

COLLECTOR = Collector(
    Nvme.name,
    lambda node: Nvme(node.sysfs),
    METRICS,
    row_labels={
        "node_nvme": ("device", "firmware_revision", "model", "serial", "state", "cntlid"),
        "node_nvme_namespace": ("device", "nsid"),
        "node_nvme_ana": ("device", "nsid", "ana_state"),
    },
)
