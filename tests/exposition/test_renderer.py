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
from pymon.exposition.compile import compile_catalogue
from pymon.sources.cgroup import columns_of
from pymon.sources.node import NODE_METRICS
from tests.e2e.prometheus import check_metrics
from tests.exposition.worlds import LONG, SIGNED, UNSIGNED, World, label_values, readable, worlds
from tests.oracle import number, parse, render_text


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
