"""Errors of memory that the hardware corrects or reports, from /sys/devices/system/edac/mc.

Documentation/admin-guide/ras.rst describes the memory controllers, their rows of chips and channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.source import Collector

EDAC_FIELDS = ("ce_count", "ue_count")
"""Numbers of corrected and of uncorrected memory errors, named as the files of sysfs."""


class Edac(AttributeSource):
    """Tables node_edac {controller}, node_edac_csrow {controller, csrow} and node_edac_channel {controller, csrow,
    channel, dimm_label}. Errors whose place is not known are in csrow "unknown".
    """

    name: ClassVar[str] = "edac"

    def __init__(self, sysfs: Path) -> None:
        self._directory = sysfs / "devices" / "system" / "edac" / "mc"
        self._controllers = Table("node_edac", EDAC_FIELDS)
        self._rows = Table("node_edac_csrow", EDAC_FIELDS)
        self._channels = Table("node_edac_channel", EDAC_FIELDS)
        super().__init__((self._controllers, self._rows, self._channels))

    def _fill(self) -> None:
        self.answered = self._directory.is_dir()
        for name in self._entries(self._directory, r"mc[0-9]+"):
            path = f"{self._directory}/{name}"
            controller = ("controller", name.removeprefix("mc"))
            self._add(self._controllers, (controller,), f"{path}/{{}}_count")
            self._add(self._rows, (controller, ("csrow", "unknown")), f"{path}/{{}}_noinfo_count")
            for row in self._entries(path, r"csrow[0-9]+"):
                self._add_row(f"{path}/{row}", (controller, ("csrow", row.removeprefix("csrow"))))

    def _add_row(self, path: str, labels: tuple[tuple[str, str], ...]) -> None:
        self._add(self._rows, labels, f"{path}/{{}}_count")
        for file in self._entries(path, r"ch[0-9]+_ce_count"):
            channel = file[len("ch") : -len("_ce_count")]
            label = self._word(f"{path}/ch{channel}_dimm_label") or "unknown"
            # The kernel's default is mc#0csrow#1channel#0. node_exporter writes it as mc0_csrow1_channel0.
            label = label.replace("#", "").replace("csrow", "_csrow").replace("channel", "_channel")
            self._add(
                self._channels, (*labels, ("channel", channel), ("dimm_label", label)), f"{path}/ch{channel}_{{}}_count"
            )

    def _add(self, table: Table, labels: tuple[tuple[str, str], ...], path: str) -> None:
        counts = [self._integer(path.format(kind)) for kind in ("ce", "ue")]
        if counts != [None, None]:
            table.fill(table.add_row(labels), counts)


METRICS = (
    counter(
        "node_edac_channel_correctable_errors_total",
        "Total correctable memory errors for this channel.",
        "edac",
        Column("node_edac_channel", "ce_count"),
    ),
    counter(
        "node_edac_channel_uncorrectable_errors_total",
        "Total uncorrectable memory errors for this channel.",
        "edac",
        Column("node_edac_channel", "ue_count"),
    ),
    counter(
        "node_edac_correctable_errors_total",
        "Total correctable memory errors.",
        "edac",
        Column("node_edac", "ce_count"),
    ),
    counter(
        "node_edac_csrow_correctable_errors_total",
        "Total correctable memory errors for this csrow.",
        "edac",
        Column("node_edac_csrow", "ce_count"),
    ),
    counter(
        "node_edac_csrow_uncorrectable_errors_total",
        "Total uncorrectable memory errors for this csrow.",
        "edac",
        Column("node_edac_csrow", "ue_count"),
    ),
    counter(
        "node_edac_uncorrectable_errors_total",
        "Total uncorrectable memory errors.",
        "edac",
        Column("node_edac", "ue_count"),
    ),
)

COLLECTOR = Collector(
    Edac.name,
    lambda node: Edac(node.sysfs),
    METRICS,
    row_labels={
        "node_edac_channel": ("controller", "csrow", "channel", "dimm_label"),
        "node_edac": ("controller",),
        "node_edac_csrow": ("controller", "csrow"),
    },
)
