import pytest

from pymon._native.renderer import Body, Labels
from pymon._native.table import Table
from pymon.catalogue.model import MILLI, Column, Kind, Metric, Sample, gauge
from pymon.exposition.compile import compile_catalogue, label_block
from pymon.exposition.header import openmetrics_header, text_header


def rendered(compiled, *tables):
    """The sample lines of the tables."""
    body = Body()
    by_name = {table.name: table for table in tables}
    compiled.renderer.render(body, [by_name.get(name) for name in compiled.tables])
    return [line for line in bytes(body).decode().splitlines() if not line.startswith("#")]


def table(name, **values):
    made = Table(name, tuple(values))
    made.fill(made.add_row(), values.values())
    return made


def test_the_first_alternative_that_is_published_is_used():
    metric = gauge("a", "h", "c", Column("v2", "x"), Column("v1", "x", MILLI), Column("v1", "y"))
    v1, v2 = table("v1", x=1500, y=9), table("v2", x=7)
    for layout, line in [
        ({"v2": ("x",), "v1": ("x", "y")}, "a 7"),
        ({"v1": ("x", "y"), "v2": ("x",)}, "a 7"),
        ({"v1": ("x", "y")}, "a 1.5"),
        ({"v1": ("x", "y"), "v2": ("other",)}, "a 1.5"),
    ]:
        compiled = compile_catalogue([metric], layout)
        assert compiled.tables == tuple(layout)
        assert rendered(compiled, v1, v2 if layout.get("v2") == ("x",) else table("v2", other=3)) == [line]


def test_metrics_without_a_column_are_left_out():
    metrics = [
        gauge("a", "h", "c", Column("t", "x")),
        gauge("b", "h", "c", Column("other", "x")),
        gauge("d", "h", "c", Column("t", "gone")),
        Metric(
            "e", Kind.GAUGE, "h", "c", (Sample((Column("other", "x"),)), Sample((Column("t", "x"),), (("k", "v"),)))
        ),
        Metric("f", Kind.GAUGE, "h", "c", ()),
    ]
    compiled = compile_catalogue(metrics, {"t": ("x",)})
    assert compiled.families == ("a", "e")
    assert rendered(compiled, table("t", x=1)) == ["a 1", 'e{k="v"} 1']


@pytest.mark.parametrize("part", ["minus", "plus", "when"])
def test_columns_beside_come_from_the_same_table(part):
    beside = (Column("other", "y"), Column("t", "y"))
    sample = Sample((Column("t", "x"),), **{part: beside})
    metric = Metric("a", Kind.GAUGE, "h", "c", (sample,))
    both = compile_catalogue([metric], {"t": ("x", "y"), "other": ("y",)})
    assert rendered(both, table("t", x=7, y=2), table("other", y=5)) == [
        {"minus": "a 5", "plus": "a 9", "when": "a 7"}[part]
    ]
    assert rendered(both, table("t", x=7, y=None)) == []
    assert rendered(both, table("t", x=2, y=7)) == [{"minus": "a 0", "plus": "a 9", "when": "a 2"}[part]]
    without = compile_catalogue([metric], {"t": ("x",), "other": ("y",)})
    assert without.families == (), "a sample whose other column nobody publishes says nothing"


def test_select():
    metrics = [gauge(name, "h", "c", Column("t", "x")) for name in ("a", "b", "d")]
    compiled = compile_catalogue(metrics, {"t": ("x",)})
    assert compiled.select(frozenset({"b", "d", "unheard of"})) == b"\0\1\1"
    assert compiled.select(frozenset()) == b"\0\0\0"


def test_nothing_to_compile():
    compiled = compile_catalogue([], {})
    assert (compiled.tables, compiled.families, compiled.select(frozenset({"a"}))) == ((), (), b"")
    body = Body()
    assert compiled.renderer.render(body, [], Labels([]), selected=b"") == 0


def test_constant_labels_come_first():
    sample = Sample((Column("t", "x"),), (("k", 'a"\\\n'), ("l", "\udcff")))
    metric = Metric("a", Kind.GAUGE, "h", "c", (sample,))
    made = Table("t", ["x"])
    made.fill(made.add_row([("row", "1")]), [1])
    made.fill(made.add_row(), [2])
    assert rendered(compile_catalogue([metric], {"t": ("x",)}), made) == [
        'a{k="a\\"\\\\\\n",l="\\\\xff",row="1"} 1',
        'a{k="a\\"\\\\\\n",l="\\\\xff"} 2',
    ]


@pytest.mark.parametrize(
    ("name", "kind", "text", "openmetrics"),
    [
        ("a_total", Kind.COUNTER, ("a_total", "counter"), ("a", "counter")),
        ("a_seconds", Kind.COUNTER, ("a_seconds", "counter"), ("a_seconds", "unknown")),
        ("a_total", Kind.GAUGE, ("a_total", "gauge"), ("a_total", "unknown")),
        ("a_bytes", Kind.GAUGE, ("a_bytes", "gauge"), ("a_bytes", "gauge")),
        ("a_count", Kind.GAUGE, ("a_count", "gauge"), ("a_count", "unknown")),
        ("a_info", Kind.GAUGE, ("a_info", "gauge"), ("a_info", "unknown")),
        ("a_info", Kind.INFO, ("a_info", "gauge"), ("a", "info")),
        ("a", Kind.INFO, ("a", "gauge"), ("a", "unknown")),
        ("a_total", Kind.UNKNOWN, ("a_total", "untyped"), ("a_total", "unknown")),
        ("a", Kind.UNKNOWN, ("a", "untyped"), ("a", "unknown")),
    ],
)
def test_names_and_types(name, kind, text, openmetrics):
    assert text_header(name, kind, "h").decode() == "# HELP {0} h\n# TYPE {0} {1}\n".format(*text)
    assert openmetrics_header(name, kind, "h").decode() == "# TYPE {0} {1}\n# HELP {0} h\n".format(*openmetrics)
    assert text_header(name, kind, None).decode() == "# TYPE {} {}\n".format(*text)
    assert openmetrics_header(name, kind, None).decode() == "# TYPE {} {}\n".format(*openmetrics)


def test_help_is_escaped():
    help = 'say "x"\\\n'
    assert text_header("a_total", "counter", help).startswith(b'# HELP a_total say "x"\\\\\\n\n')
    assert openmetrics_header("a_total", "counter", help).endswith(b'# HELP a say \\"x\\"\\\\\\n\n')


def test_label_block():
    assert label_block([]) == b""
    assert label_block([("a", ""), ("b", '"'), ("c", "é\udc80")]) == 'a="",b="\\"",c="é\\\\x80"'.encode()
