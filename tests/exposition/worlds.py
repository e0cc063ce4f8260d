"""Random catalogues with tables, and what a reader of their exposition has to get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import strategies as st

from pymon._native.table import Table
from pymon.catalogue import model
from pymon.catalogue.model import Column, Kind, Metric, Sample, Unit
from pymon.exposition.compile import label_block
from tests.oracle import number

UNSIGNED = [
    model.ONE,
    model.MILLI,
    model.USEC,
    model.NSEC,
    model.CENTI,
    model.USER_HZ,
    model.KIB,
    model.SECTOR,
    Unit(multiply=2**64 - 1),
    Unit(subtract=2**63, decimals=18),
    Unit(subtract=1, multiply=262142, divide=9999, add=2),
    Unit(add=2**64 - 1),
    Unit(divide=3, decimals=1),
]
SIGNED = [model.SIGNED, Unit(signed=True, decimals=9), Unit(signed=True, multiply=1024)]
ALWAYS_ONE = Unit(multiply=0, add=1)
SUFFIXES = (
    "",
    "_total",
    "_bytes",
    "_info",
    "_count",
    "_sum",
    "_created",
    "_bucket",
    "_gcount",
    "_gsum",
    "_seconds_total",
)
LONG = 'x"\\\n€\udcff' * 700

cells = st.one_of(
    st.none(),
    st.sampled_from([0, 1, 9, 10, 10**9, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 10**19, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
label_values = st.one_of(
    st.sampled_from(["", '"', "\\", "\n", "\\n", "a b", "é€🐋", "\udcff\udc80", "a,b={}", "\t\r\x00\u2028", LONG]),
    st.binary(max_size=12).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    st.text(max_size=12),
)
helps = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\\\n"'), max_size=20).filter(
    lambda text: text == text.strip(" ") != ""
)


def readable(value):
    """A label value as a reader of the exposition has to get it: bytes that are no UTF-8 are spelled out."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@st.composite
def columns(draw, units, table, widths):
    return Column(f"t{table}", f"c{draw(st.integers(0, widths[table] - 1))}", draw(units))


@st.composite
def samples(draw, kind, index, widths):
    table = draw(st.integers(0, len(widths) - 1))
    minus = draw(st.booleans())
    units = list(UNSIGNED)
    if kind is Kind.INFO:
        units = [ALWAYS_ONE]
    elif kind is not Kind.COUNTER and not minus:
        units += SIGNED
    units = st.sampled_from(units)
    missing = draw(st.lists(st.just(Column("missing", "c0")), max_size=1))
    plain = st.just(model.ONE)
    return Sample(
        columns=(*missing, draw(columns(units, table, widths))),
        labels=(("sample", str(index)), *draw(st.lists(st.tuples(st.just("constant"), label_values), max_size=1))),
        minus=(*missing, draw(columns(plain, table, widths))) if minus else (),
        plus=(*missing, draw(columns(plain, table, widths))) if minus and draw(st.booleans()) else (),
        when=(*missing, draw(columns(plain, table, widths))) if draw(st.booleans()) else (),
    )


@st.composite
def catalogues(draw, widths):
    metrics = []
    for i in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from([kind for kind in Kind if kind is not Kind.HISTOGRAM]))
        name = f"m{i}{draw(st.sampled_from(SUFFIXES))}"
        made = tuple(draw(samples(kind, j, widths)) for j in range(draw(st.integers(1, 3))))
        metrics.append(Metric(name, kind, draw(helps), "c", made))
    return tuple(metrics)


@dataclass
class World:
    """A catalogue, tables, and the label values as they were before anything escaped them."""

    metrics: tuple[Metric, ...]
    tables: list[Table] = field(default_factory=list)
    rows: dict[tuple[str, int], str] = field(default_factory=dict)
    parents: list[str | None] = field(default_factory=list)

    @property
    def blocks(self) -> list[bytes | None]:
        return [
            None if value is None else label_block([("parent", str(i)), ("id", value)])
            for i, value in enumerate(self.parents)
        ]

    def labels(self, table: Table, row: int) -> dict[str, str] | None:
        """Labels of a row without the constant ones, None where the parent has gone."""
        parent = table.parent(row)
        if parent is None:
            return {"table": table.name, "row": str(row), "value": self.rows[table.name, row]}
        value = self.parents[parent] if parent < len(self.parents) else None
        return None if value is None else {"parent": str(parent), "id": value}

    def lines(self) -> Iterator[tuple[str, frozenset[tuple[str, str]], Fraction]]:
        """Name, labels as a reader has to get them, and exact value of every line."""
        for metric in self.metrics:
            for sample in metric.samples:
                column = sample.columns[-1]
                table = next(table for table in self.tables if table.name == column.table)
                for row in range(len(table)):
                    value = table.get(row, column.key)
                    minus = table.get(row, sample.minus[-1].key) if sample.minus else 0
                    plus = table.get(row, sample.plus[-1].key) if sample.plus else 0
                    when = table.get(row, sample.when[-1].key) if sample.when else 0
                    labels = self.labels(table, row)
                    if None in (value, minus, plus, when, labels):
                        continue
                    value = max(0, value - minus) if sample.minus else value
                    value = (value + plus) % 2**64
                    if column.unit.signed and value >= 2**63:
                        value -= 2**64
                    labels = dict(sample.labels) | labels
                    shown = frozenset((key, readable(text)) for key, text in labels.items())
                    yield metric.name, shown, Fraction(number(value, column.unit))


@st.composite
def worlds(draw):
    widths = draw(st.lists(st.sampled_from([1, 3, 66]), min_size=1, max_size=3))
    world = World(draw(catalogues(widths)), parents=draw(st.lists(st.none() | label_values, max_size=3)))
    for i, width in enumerate(widths):
        table = Table(f"t{i}", [f"c{j}" for j in range(width)])
        if draw(st.booleans()):
            table.grow(draw(st.integers(0, len(world.parents) + 1)))
        else:
            for row in range(draw(st.integers(0, 4))):
                world.rows[table.name, row] = draw(label_values)
                table.add_row([("table", table.name), ("row", str(row)), ("value", world.rows[table.name, row])])
        for row in range(len(table)):
            table.fill(row, draw(st.lists(cells, max_size=width)), draw(st.integers(0, width - 1)))
        world.tables.append(table)
    return world
