"""A catalogue and the layout of tables, compiled once into a native renderer.

Sample lines are the same bytes in the text format 0.0.4 and in OpenMetrics 1.0.0: only the metadata differs. A family
whose name breaks a rule of OpenMetrics is of type unknown there and keeps its name, so that a series is called the
same in every format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymon._native.renderer import Renderer, escape
from pymon.catalogue.model import Column, Kind, Metric, Sample, Unit

if TYPE_CHECKING:
    from pymon._native.renderer import Scale

RESERVED_SUFFIXES = ("_total", "_created", "_bucket", "_count", "_sum", "_gcount", "_gsum", "_info")
"""Suffixes that OpenMetrics 1.0.0 keeps for the samples of some types ("Suffixes", sections of each type)."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A renderer, the tables it wants in order, and the families it knows in order."""

    renderer: Renderer
    tables: tuple[str, ...]
    families: tuple[str, ...]

    def select(self, names: frozenset[str]) -> bytes:
        """A byte for each family: 1 where its name is in `names`."""
        return bytes(family in names for family in self.families)


def compile_catalogue(metrics: Iterable[Metric], layout: Mapping[str, Sequence[str]]) -> Compiled:
    """Compile the metrics for which `layout` (table name to columns) has the columns; the others are left out."""
    tables = tuple(layout)
    columns = {table: {key: i for i, key in enumerate(keys)} for table, keys in layout.items()}
    families = []
    names = []
    for metric in metrics:
        samples = []
        for sample in metric.samples:
            column = _choose(sample.columns, columns)
            if column is None:
                continue
            minus = _choose(sample.minus, columns, column.table)
            plus = _choose(sample.plus, columns, column.table)
            when = _choose(sample.when, columns, column.table)
            if any(
                wanted and found is None
                for wanted, found in ((sample.minus, minus), (sample.plus, plus), (sample.when, when))
            ):
                continue
            index = columns[column.table]
            prefix, bare = _line_start(metric.name, sample)
            samples.append(
                (
                    tables.index(column.table),
                    index[column.key],
                    None if minus is None else index[minus.key],
                    None if plus is None else index[plus.key],
                    None if when is None else index[when.key],
                    scale(column.unit),
                    prefix,
                    bare,
                )
            )
        if samples:
            families.append((text_header(metric), openmetrics_header(metric), samples))
            names.append(metric.name)
    return Compiled(Renderer(families, len(tables)), tables, tuple(names))


def scale(unit: Unit) -> Scale:
    """The unit as the native renderer takes it."""
    return (unit.subtract, unit.multiply, unit.divide, unit.add, unit.decimals, unit.signed)


def text_header(metric: Metric) -> bytes:
    """HELP and TYPE lines of the text format 0.0.4."""
    kind = {Kind.UNKNOWN: "untyped", Kind.INFO: "gauge"}.get(metric.kind, metric.kind.value)
    help = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {metric.name} {help}\n# TYPE {metric.name} {kind}\n".encode()


def openmetrics_header(metric: Metric) -> bytes:
    """TYPE and HELP lines of OpenMetrics 1.0.0."""
    name, kind = metric.name, metric.kind
    if kind is Kind.COUNTER and name.endswith("_total"):
        name = name.removesuffix("_total")
    elif kind is Kind.INFO and name.endswith("_info"):
        name = name.removesuffix("_info")
    elif kind in (Kind.COUNTER, Kind.INFO) or name.endswith(RESERVED_SUFFIXES):
        kind = Kind.UNKNOWN
    help = metric.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f"# TYPE {name} {kind.value}\n# HELP {name} {help}\n".encode()


def label_block(labels: Iterable[tuple[str, str]]) -> bytes:
    """Labels as `name="value"` with commas between them, values escaped."""
    return b",".join(
        name.encode() + b'="' + escape(value.encode("utf-8", "surrogateescape")) + b'"' for name, value in labels
    )


def _line_start(name: str, sample: Sample) -> tuple[bytes, bytes]:
    constant = label_block(sample.labels)
    if not constant:
        return name.encode() + b"{", name.encode()
    return name.encode() + b"{" + constant + b",", name.encode() + b"{" + constant + b"}"


def _choose(
    alternatives: Sequence[Column], columns: Mapping[str, Mapping[str, int]], table: str | None = None
) -> Column | None:
    for column in alternatives:
        if table in (None, column.table) and column.key in columns.get(column.table, ()):
            return column
    return None
