"""Interrupts by CPU, from /proc/interrupts (Documentation/filesystems/proc.rst). Off by default: a series for each CPU
and interrupt.

           CPU0       CPU1
  1:          0          9  IR-IO-APIC    1-edge      i8042
NMI:          4          5  Non-maskable interrupts
ERR:          0
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import Column, counter
from pymon.sources.kernel_file import KernelFile
from pymon.sources.node.kernel_text import complete_lines, text, unsigned
from pymon.sources.node.source import Collector, NodeSource


class Interrupts(NodeSource):
    """Table node_interrupts {cpu, type, info, devices}: a row for each CPU and interrupt."""

    name: ClassVar[str] = "interrupts"

    def __init__(self, procfs: Path) -> None:
        self._file = KernelFile(procfs / "interrupts")
        self._table = Table("node_interrupts", ("interrupts",))
        super().__init__((self._table,), (self._file,))

    def _fill(self) -> None:
        data = self._read_text(self._file)
        if data is None:
            return
        header, *lines = complete_lines(data) or [b""]
        cpus = [text(word.removeprefix(b"CPU")) for word in header.split()]
        seen = {b""}
        for line in lines:
            name, colon, rest = line.partition(b":")
            words = rest.split(None, len(cpus))
            counts = [unsigned(word) for word in words[: len(cpus)]]
            # ERR and MIS have one count for all CPUs and no purpose. node_exporter leaves them out.
            if colon and name not in seen and len(words) > len(cpus) > 0 and None not in counts:
                seen.add(name)
                self._add(text(name.strip()), cpus, counts, words[len(cpus)])
        if not len(self._table):
            self._misread(self._file.path, "a line of CPUs and lines such as '1: 0 9 IR-IO-APIC 1-edge i8042'")

    def _add(self, kind: str, cpus: list[str], counts: list[int | None], rest: bytes) -> None:
        """Add the rows of an interrupt. One with a number names its controller and devices, others only a purpose."""
        words = rest.split()
        info, devices = (words[:1], words[1:]) if kind.isdecimal() else (words, [])
        for cpu, count in zip(cpus, counts, strict=True):
            labels = (
                ("cpu", cpu),
                ("type", kind),
                ("info", text(b" ".join(info))),
                ("devices", text(b" ".join(devices))),
            )
            self._table.fill(self._table.add_row(labels), (count,))


METRICS = (
    counter("node_interrupts_total", "Interrupt details.", "interrupts", Column("node_interrupts", "interrupts")),
)

COLLECTOR = Collector(
    Interrupts.name,
    lambda node: Interrupts(node.procfs),
    METRICS,
    default=False,
    row_labels={
        "node_interrupts": ("cpu", "type", "info", "devices"),
    },
)
