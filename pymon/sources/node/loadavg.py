"""Load averages, from /proc/loadavg: ``0.23 0.11 0.05 1/89 5997``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import CENTI, FSCALE, Column, Metric, gauge
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines
from pymon.sources.node.source import Collector, NodeSource

LOADAVG_FIELDS = ("load1", "load5", "load15")
"""Load averages over 1, 5 and 15 minutes: the first three words of /proc/loadavg."""

_LOAD = re.compile(rb"(\d{1,15})\.(\d\d)")


def parse_loadavg(data: bytes) -> list[int | None]:
    """Return the averages over 1, 5 and 15 minutes in hundredths. A value without exactly two decimals is None."""
    words = (complete_lines(data) or [b""])[0].split()[: len(LOADAVG_FIELDS)]
    matches = map(_LOAD.fullmatch, words)
    return [int(match[1] + match[2]) if match else None for match in matches]


class Loadavg(NodeSource):
    """Table node_loadavg: one row, in hundredths."""

    name: ClassVar[str] = "loadavg"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "loadavg")
        self._table = Table("node_loadavg", LOADAVG_FIELDS)
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read(self._file)
        if data is None:
            return
        loads = parse_loadavg(data)
        if loads.count(None) < len(loads):
            self._table.fill(self._table.add_row(), loads)
        else:
            self._misread(self._file.path, "a line such as '0.23 0.11 0.05 1/89 5997'")


def _load(minutes: int) -> Metric:
    return gauge(
        f"node_load{minutes}",
        f"{minutes}m load average.",
        "loadavg",
        Column("node_loadavg", f"load{minutes}", CENTI),
        Column("kstat.system_misc", f"avenrun_{minutes}min", FSCALE),
    )


METRICS = (_load(1), _load(15), _load(5))

COLLECTOR = Collector(Loadavg.name, lambda node: Loadavg(node.procfs), METRICS)
