from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from pymon._native.renderer import Body, FamilyLines, Labels, Renderer, SampleLine, decimal, escape
from pymon._native.table import Table
from pymon.catalogue import model
from pymon.catalogue.cadvisor import METRICS
from pymon.catalogue.model import Column, Kind, Metric, Sample, Unit
from pymon.exposition.compile import compile_catalogue, label_block
from pymon.sources.cgroup import columns_of
from pymon.sources.node import NODE_METRICS
from tests.e2e.prometheus import check_metrics
from tests.oracle import number, parse, render_text

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


def native(world, *, openmetrics=False):
    compiled = compile_catalogue(world.metrics, {table.name: table.columns for table in world.tables})
    body = Body()
    lines = compiled.renderer.render(body, world.tables, Labels(world.blocks), openmetrics=openmetrics)
    assert lines == sum(not line.startswith(b"#") for line in bytes(body).split(b"\n") if line)
    if openmetrics:
        body.append(b"# EOF\n")
    return bytes(body)


@given(worlds(), st.booleans())
def test_the_same_bytes_as_the_oracle(world, openmetrics):
    assert native(world, openmetrics=openmetrics) == render_text(world.metrics, world.tables, openmetrics, world.blocks)


@given(worlds(), st.booleans())
def test_prometheus_reads_it_back(world, openmetrics):
    families = (openmetrics_families if openmetrics else text_families)(native(world, openmetrics=openmetrics).decode())
    got = {
        (line.name, frozenset(line.labels.items())): float(line.value) for family in families for line in family.samples
    }
    expected = {(name, labels): float(value) for name, labels, value in world.lines()}
    if not openmetrics:  # where the parser gives every counter the suffix
        counters = {metric.name for metric in world.metrics if metric.kind is Kind.COUNTER}
        expected = {
            (f"{name.removesuffix('_total')}_total" if name in counters else name, labels): value
            for (name, labels), value in expected.items()
        }
    assert got == expected


@given(worlds())
def test_no_digit_is_lost(world):
    got = sorted((name, value) for (name, _), value in parse(native(world)).items())
    assert got == sorted((name, value) for name, _, value in world.lines())


@given(label_values)
def test_escape(value):
    raw = value.encode("utf-8", "surrogateescape")
    written = readable(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert escape(raw) == written.encode()


@given(st.integers(-(2**63), 2**64 - 1), st.sampled_from(UNSIGNED + SIGNED))
def test_decimal(value, unit):
    if not unit.signed:
        value %= 2**64
    elif value >= 2**63:
        value -= 2**64
    assert decimal(value, unit).decode() == number(value, unit)


def whole_catalogue():
    """Every metric that there is, each of its tables with one row and every cell 1."""
    layout: dict[str, dict[str, None]] = {}
    metrics = (*NODE_METRICS, *METRICS)
    for column in columns_of(metrics):
        layout.setdefault(column.table, {})[column.key] = None
    world = World(metrics)
    for name, keys in layout.items():
        table = Table(name, tuple(keys))
        world.rows[name, 0] = 'q"\\\n€\udcff'
        table.fill(table.add_row([("table", name), ("value", world.rows[name, 0])]), [1] * len(keys))
        world.tables.append(table)
    return world


def test_the_whole_catalogue_is_read_back_by_strict_parsers():
    world = whole_catalogue()
    names = [metric.name for metric in world.metrics]
    assert [family.name for family in text_families(native(world).decode())] == [
        family.removesuffix("_total") if metric.kind is Kind.COUNTER else family
        for family, metric in zip(names, world.metrics, strict=True)
    ]
    samples = [
        sample.name
        for family in openmetrics_families(native(world, openmetrics=True).decode())
        for sample in family.samples
    ]
    assert list(dict.fromkeys(samples)) == names, "a series has the same name in every format"


def test_promtool_takes_hostile_labels():
    world = World((model.gauge("a_bytes", "Of a.", "c", Column("t", "x")),))
    world.tables.append(Table("t", ["x"]))
    for row, value in enumerate(['"', "\\", "\n", "\udcff", "€", LONG]):
        world.tables[0].fill(world.tables[0].add_row([("row", str(row)), ("value", value)]), [row])
    assert check_metrics(native(world)) == (0, "")


def make(*metrics, columns=("x", "y"), row=(7, 5)):
    table = Table("t", columns)
    table.fill(table.add_row(), row)
    return compile_catalogue(metrics, {"t": columns}), table


def test_names_are_never_changed_for_openmetrics():
    counter = model.counter("a_seconds", "h", "c", Column("t", "x"))
    gauge = model.gauge("b_total", "h", "c", Column("t", "x"))
    compiled, table = make(counter, gauge, model.counter("d_total", "h", "c", Column("t", "x")))
    texts = {}
    for openmetrics in (False, True):
        body = Body()
        assert compiled.renderer.render(body, [table], openmetrics=openmetrics) == 3
        texts[openmetrics] = bytes(body).decode()
    assert texts[True] == (
        "# TYPE a_seconds unknown\n# HELP a_seconds h\na_seconds 7\n"
        "# TYPE b_total unknown\n# HELP b_total h\nb_total 7\n"
        "# TYPE d counter\n# HELP d h\nd_total 7\n"
    )
    assert texts[False] == (
        "# HELP a_seconds h\n# TYPE a_seconds counter\na_seconds 7\n"
        "# HELP b_total h\n# TYPE b_total gauge\nb_total 7\n"
        "# HELP d_total h\n# TYPE d_total counter\nd_total 7\n"
    )


def test_selected_families_and_missing_tables():
    a, b = (model.gauge(name, "h", "c", Column("t", "x")) for name in "ab")
    compiled, table = make(a, b)
    body = Body()
    assert compiled.renderer.render(body, [table], selected=compiled.select(frozenset({"b", "other"}))) == 1
    assert bytes(body) == b"# HELP b h\n# TYPE b gauge\nb 7\n"
    body.clear()
    assert compiled.renderer.render(body, [None]) == 0
    assert bytes(body) == b""
    body.append(b"kept\n")
    compiled.renderer.render(body, [table], selected=bytes([1, 0]))
    assert bytes(body).startswith(b"kept\n# HELP a h\n")


def test_what_does_not_fit_is_refused():
    compiled, table = make(model.gauge("a", "h", "c", Column("t", "y")))
    body = Body()
    for arguments, error in [
        (([],), "1 tables expected, got 0"),
        (([table, table],), "1 tables expected, got 2"),
        (([Table("narrow", ["x"])],), "table narrow: 2 columns expected"),
    ]:
        with pytest.raises(ValueError, match=error):
            compiled.renderer.render(body, *arguments)
    with pytest.raises(ValueError, match="1 families expected, got 2"):
        compiled.renderer.render(body, [table], selected=b"\1\1")
    with pytest.raises(TypeError):
        compiled.renderer.render(body, ["table"])
    with pytest.raises(TypeError):
        Labels(["text"])
    with pytest.raises(IndexError, match="no table 1"):
        Renderer([FamilyLines(b"", b"", [SampleLine(1, 0, model.ONE, b"", b"")], by_row=False)], 1)
    with pytest.raises(TypeError):
        Renderer([FamilyLines(b"", b"", [SampleLine(0, 0, model.ONE, "text", "text")], by_row=False)], 1)
    of_two_tables = [SampleLine(table, 0, model.ONE, b"", b"") for table in range(2)]
    with pytest.raises(ValueError, match="samples of one table"):
        Renderer([FamilyLines(b"", b"", of_two_tables, by_row=True)], 2)
    with pytest.raises(ValueError, match="scale"):
        decimal(1, Unit(divide=0))
    with pytest.raises(ValueError, match="scale"):
        decimal(1, Unit(decimals=19))
    assert bytes(body) == b""


def test_the_samples_of_a_histogram_are_together_for_each_row():
    columns = ["low", "all", "sum"]
    samples = (
        *(
            Sample((Column("t", key),), labels=(("le", bound),), suffix="_bucket")
            for key, bound in (("low", "0.5"), ("all", "+Inf"))
        ),
        Sample((Column("t", "sum", model.NSEC),), suffix="_sum"),
        Sample((Column("t", "all"),), suffix="_count"),
    )
    compiled = compile_catalogue([Metric("wait_seconds", Kind.HISTOGRAM, "h", "c", samples)], {"t": columns})
    table = Table("t", columns)
    for name, cells in (("a", (1, 3, 2_500_000_000)), ("b", (0, 0, 0))):
        table.fill(table.add_row([("name", name)]), cells)
    table.add_row([("name", "absent")])
    bodies = []
    for openmetrics in (False, True):
        body = Body()
        assert compiled.renderer.render(body, [table], openmetrics=openmetrics) == 8
        bodies.append(bytes(body).decode())
    lines = [line for line in bodies[0].splitlines() if not line.startswith("#")]
    assert lines[:4] == [
        'wait_seconds_bucket{le="0.5",name="a"} 1',
        'wait_seconds_bucket{le="+Inf",name="a"} 3',
        'wait_seconds_sum{name="a"} 2.5',
        'wait_seconds_count{name="a"} 3',
    ]
    assert ["b" in line for line in lines[4:]] == [True] * 4
    (family,) = openmetrics_families(bodies[1] + "# EOF\n")  # refuses what is not together
    assert (family.type, len(family.samples)) == ("histogram", 8)
    (family,) = text_families(bodies[0])
    assert (family.type, len(family.samples)) == ("histogram", 8)
    check_metrics(bodies[0].encode())


def test_a_body_that_is_lent_does_not_change():
    compiled, table = make(model.gauge("a", "h", "c", Column("t", "x")))
    body = Body()
    assert bytes(body) == b""
    body.append(b"one")
    with memoryview(body) as view:
        assert (view.readonly, view.format, view.shape, len(body)) == (True, "B", (3,), 3)
        for change in (body.clear, lambda: body.append(b"x"), lambda: compiled.renderer.render(body, [table])):
            with pytest.raises(BufferError, match="the body is lent"):
                change()
        assert view == b"one"
    body.clear()
    assert len(body) == 0
