"""The mode of SELinux, from /sys/fs/selinux/enforce and /etc/selinux/config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import SIGNED, Column, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

SELINUX_FIELDS = ("enabled", "current_mode", "config_mode")
"""enabled is 0 or 1. Modes are 1 for enforcing, 0 for permissive, -1 for disabled."""

_MODES = {b"enforcing": 1, b"permissive": 0, b"disabled": -1}
_CONFIGURED = re.compile(rb"^\s*SELINUX\s*=\s*(\w+)", re.MULTILINE)


class Selinux(AttributeSource):
    """Table node_selinux: one row. Without SELinux, only `enabled` has a value."""

    name: ClassVar[str] = "selinux"

    def __init__(self, sysfs: Path, rootfs: Path) -> None:
        self._file_systems = sysfs / "fs"
        self._config = rootfs / "etc" / "selinux" / "config"
        self._table = Table("node_selinux", SELINUX_FIELDS)
        super().__init__((self._table,))

    def _fill(self) -> None:
        if not self._file_systems.is_dir():
            return
        mode = self._integer(self._file_systems / "selinux" / "enforce")
        row = self._table.add_row()
        if mode is None:
            self._table.set(row, "enabled", 0)
            return
        configured = _CONFIGURED.search(self._attribute(self._config) or b"")
        config_mode = _MODES.get(configured[1].lower(), -1) if configured else -1
        self._table.fill(row, (1, mode, config_mode))


METRICS = (
    gauge(
        "node_selinux_config_mode",
        "Configured SELinux enforcement mode",
        "selinux",
        Column("node_selinux", "config_mode", SIGNED),
    ),
    gauge(
        "node_selinux_current_mode",
        "Current SELinux enforcement mode",
        "selinux",
        Column("node_selinux", "current_mode", SIGNED),
    ),
    gauge(
        "node_selinux_enabled",
        "SELinux is enabled, 1 is true, 0 is false",
        "selinux",
        Column("node_selinux", "enabled"),
    ),
)

COLLECTOR = Collector(Selinux.name, lambda node: Selinux(node.sysfs, node.rootfs), METRICS)
