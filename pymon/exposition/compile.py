"""Compiles a catalogue and the layout of tables into a native renderer.

Sample lines are the same bytes in the text format 0.0.4 and in OpenMetrics 1.0.0. Only the metadata differs. A family
whose name breaks a rule of OpenMetrics keeps its name and has type unknown there, so that a series has the same name in
every format. Protocol buffers have the names and types of the text format, OpenMetrics 2.0.0 its own metadata and
other lines of histograms.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pymon._native.renderer import FamilyLines, Renderer, SampleLine, escape
from pymon.catalogue.model import Column, Creation, Kind, Metric, Sample
from pymon.exposition.header import openmetrics2_header, openmetrics_header, text_header
from pymon.exposition.protobuf import TYPES, family_fields, label_fields, native_buckets


@dataclass(frozen=True, slots=True)
class Compiled:
    """A renderer, the names of its tables and of its families, each in the order that it expects."""

    renderer: Renderer
    tables: tuple[str, ...]
    families: tuple[str, ...]

    def select(self, names: frozenset[str]) -> bytes:
        """Return one byte for each family: 1 if its name is in `names`, else 0."""
        return bytes(family in names for family in self.families)


def compile_catalogue(
    metrics: Iterable[Metric], layout: Mapping[str, Sequence[str]], creation: Creation | None = None
) -> Compiled:
    """Compile metrics into a renderer. Samples without columns are left out.

    layout: table name -> column keys. creation: for formats that tell when a counter was created.
    """
    tables = tuple(layout)
    columns = {table: {key: i for i, key in enumerate(keys)} for table, keys in layout.items()}
    families = []
    names = []
    for metric in metrics:
        samples = []
        for sample in metric.samples:
            chosen = choose(sample, columns)
            if chosen is None:
                continue
            column, minus, plus, when = chosen
            index = columns[column.table]
            prefix, bare = _line_start(metric.name, sample)
            part, bound, constant = _part(metric, sample)
            counts = creation is not None and metric.kind is Kind.COUNTER and column.table in creation.tables
            samples.append(
                SampleLine(
                    tables.index(column.table),
                    index[column.key],
                    column.unit,
                    prefix,
                    bare,
                    minus=None if minus is None else index[minus.key],
                    plus=None if plus is None else index[plus.key],
                    when=None if when is None else index[when.key],
                    fields=label_fields(constant),
                    part=part,
                    bound=bound,
                    created=counts,
                    composite=_composite(metric.name, sample, part),
                )
            )
        if samples:
            described = (metric.name, metric.kind, metric.help)
            families.append(
                FamilyLines(
                    text_header(*described),
                    openmetrics_header(*described),
                    samples,
                    by_row=metric.kind is Kind.HISTOGRAM,
                    protobuf=family_fields(*described),
                    openmetrics2=openmetrics2_header(*described),
                    type=TYPES[metric.kind],
                    native=native_buckets([line.bound for line in samples if math.isfinite(line.bound)])
                    if metric.kind is Kind.HISTOGRAM
                    else None,
                )
            )
            names.append(metric.name)
    since = None
    if creation is not None and creation.column.key in columns.get(creation.column.table, ()):
        since = tables.index(creation.column.table), columns[creation.column.table][creation.column.key]
    return Compiled(Renderer(families, len(tables), since), tables, tuple(names))


class Chosen(NamedTuple):
    """The columns of a sample that a layout has: of its value, and those of minus, plus and when, None without one."""

    column: Column
    minus: Column | None
    plus: Column | None
    when: Column | None


def choose(sample: Sample, columns: Mapping[str, Collection[str]]) -> Chosen | None:
    """Return the columns of a sample, None if a column that it needs is missing. columns: keys by table."""
    column = _choose(sample.columns, columns)
    if column is None:
        return None
    found = Chosen(column, *(_choose(one, columns, column.table) for one in (sample.minus, sample.plus, sample.when)))
    needed = ((sample.minus, found.minus), (sample.plus, found.plus), (sample.when, found.when))
    return None if any(wanted and there is None for wanted, there in needed) else found


def label_block(labels: Iterable[tuple[str, str]]) -> bytes:
    """Return labels as `name="value"` separated by commas, with values escaped."""
    return b",".join(
        name.encode() + b'="' + escape(value.encode("utf-8", "surrogateescape")) + b'"' for name, value in labels
    )


def _line_start(name: str, sample: Sample) -> tuple[bytes, bytes]:
    constant = label_block(sample.labels)
    start = (name + sample.suffix).encode()
    if not constant:
        return start + b"{", start
    return start + b"{" + constant + b",", start + b"{" + constant + b"}"


def _part(metric: Metric, sample: Sample) -> tuple[str, float, tuple[tuple[str, str], ...]]:
    """Return what a sample is in protocol buffers: its part of a histogram, the bound of a bucket, and its labels."""
    if metric.kind is not Kind.HISTOGRAM:
        return "value", 0.0, sample.labels
    labels = dict(sample.labels)
    bound = float(labels.pop("le", "inf"))
    return sample.suffix.removeprefix("_"), bound, tuple(labels.items())


def _composite(name: str, sample: Sample, part: str) -> bytes:
    """Return what OpenMetrics 2.0 writes of a part of a histogram besides numbers."""
    if part == "bucket":
        return dict(sample.labels)["le"].encode() + b":"
    return _line_start(name, replace(sample, suffix=""))[0] if part == "count" else b""


def _choose(
    alternatives: Sequence[Column], columns: Mapping[str, Collection[str]], table: str | None = None
) -> Column | None:
    for column in alternatives:
        if table in (None, column.table) and column.key in columns.get(column.table, ()):
            return column
    return None
