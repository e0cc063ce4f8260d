"""The slow, obvious renderer: what the bytes of an exposition have to be, from the catalogue and the tables alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

from pymon._native.table import Table
from pymon.catalogue.model import Column, Kind, Metric, Sample, Unit

TEXT_TYPES = {Kind.COUNTER: "counter", Kind.GAUGE: "gauge", Kind.INFO: "gauge", Kind.UNKNOWN: "untyped"}
RESERVED = ("_total", "_created", "_bucket", "_count", "_sum", "_gcount", "_gsum", "_info")
SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')

Series = tuple[str, frozenset[tuple[str, str]]]


def render_text(
    metrics: Iterable[Metric],
    tables: Iterable[Table],
    openmetrics: bool = False,
    parents: Sequence[bytes | None] = (),
) -> bytes:
    """The exposition of the tables: families in the order of the metrics, those without a line left out."""
    by_name = {table.name: table for table in tables}
    out = []
    for metric in metrics:
        lines = [line for sample in metric.samples for line in sample_lines(metric, sample, by_name, parents)]
        if lines:
            out += header(metric, openmetrics)
            out += lines
    if openmetrics:
        out.append("# EOF")
    return "".join(f"{line}\n" for line in out).encode("utf-8", "surrogateescape")


def header(metric: Metric, openmetrics: bool) -> list[str]:
    help_text = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        return [f"# HELP {metric.name} {help_text}", f"# TYPE {metric.name} {TEXT_TYPES[metric.kind]}"]
    name, kind = openmetrics_family(metric)
    quoted = help_text.replace('"', '\\"')
    return [f"# TYPE {name} {kind}", f"# HELP {name} {quoted}"]


def openmetrics_family(metric: Metric) -> tuple[str, str]:
    """Family name and type. A name that OpenMetrics would read as another family's sample has no type, and stays."""
    name, kind = metric.name, metric.kind
    if kind is Kind.COUNTER and name.endswith("_total"):
        return name.removesuffix("_total"), "counter"
    if kind is Kind.INFO and name.endswith("_info"):
        return name.removesuffix("_info"), "info"
    if kind is Kind.GAUGE and not name.endswith(RESERVED):
        return name, "gauge"
    return name, "unknown"


def sample_lines(
    metric: Metric, sample: Sample, tables: dict[str, Table], parents: Sequence[bytes | None]
) -> Iterator[str]:
    published = (column for column in sample.columns if column.table in tables)
    column = next((column for column in published if column.key in tables[column.table].columns), None)
    if column is None:
        return
    table = tables[column.table]
    for row in range(len(table)):
        value = cell(table, row, column)
        if value is None or (sample.when and beside(table, row, sample.when) is None):
            continue
        if sample.minus:
            minus = beside(table, row, sample.minus)
            if minus is None:
                continue
            value = max(0, value - minus)
        if sample.plus:
            plus = beside(table, row, sample.plus)
            if plus is None:
                continue
            value += plus
        labels = [f'{name}="{escaped(text)}"' for name, text in sample.labels]
        labels.append(table.labels(row).decode("utf-8", "surrogateescape").removesuffix(","))
        parent = table.parent(row)
        if parent is not None:
            block = parents[parent] if parent < len(parents) else None
            if block is None:
                continue
            labels.append(block.decode("utf-8", "surrogateescape"))
        inside = ",".join(filter(None, labels))
        braces = f"{{{inside}}}" if inside else ""
        yield f"{metric.name}{braces} {number(value, column.unit)}"


def cell(table: Table, row: int, column: Column) -> int | None:
    value = table.get(row, column.key)
    return value - 2**64 if value is not None and column.unit.signed and value >= 2**63 else value


def beside(table: Table, row: int, columns: Sequence[Column]) -> int | None:
    """The cell of the first of the columns that is this table's."""
    here = (column for column in columns if column.table == table.name)
    column = next((column for column in here if column.key in table.columns), None)
    return None if column is None else cell(table, row, column)


def number(value: int, unit: Unit) -> str:
    """Exact decimal text; a negative value is the positive one with a sign."""
    size = abs(value)
    if unit.subtract:
        size = max(0, size - unit.subtract)
    digits = str(size * unit.multiply // unit.divide + unit.add).zfill(unit.decimals + 1)
    whole, fraction = digits[: len(digits) - unit.decimals], digits[len(digits) - unit.decimals :].rstrip("0")
    return ("-" if value < 0 else "") + whole + (f".{fraction}" if fraction else "")


def escaped(text: str) -> str:
    """As a label value. Bytes that are no UTF-8 are spelled out."""
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse(exposition: bytes) -> dict[Series, Fraction]:
    """Every series of a text exposition and its exact value, NaN and infinities left out. A series given twice is an
    error. A label that is empty says the same as one that is not there, and is left out.
    """
    series: dict[Series, Fraction] = {}
    for line in exposition.decode("utf-8", "surrogateescape").split("\n"):
        if not line or line.startswith("#"):
            continue
        match = SAMPLE.match(line)
        assert match, line
        name, labels, value = match.groups()
        if value.lstrip("+-").lower() in {"nan", "inf"}:
            continue
        key = (name, frozenset((label, text) for label, text in LABEL.findall(labels or "") if text))
        assert key not in series, f"given twice: {line}"
        series[key] = Fraction(value)
    return series


def render(metrics: Iterable[Metric], tables: Iterable[Table]) -> dict[Series, Fraction]:
    """The series that the tables publish."""
    return parse(render_text(metrics, tables))
