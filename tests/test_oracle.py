from fractions import Fraction

import pytest

from pymon._native.table import Table
from pymon.catalogue.model import MILLI, ONE, SIGNED, USEC, Column, Kind, Metric, Sample, Unit, counter, gauge
from tests.oracle import number, openmetrics_family, parse, render_text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, USEC, "0"),
        (1, USEC, "0.000001"),
        (1234567, USEC, "1.234567"),
        (1500000, USEC, "1.5"),
        (2000000, USEC, "2"),
        (10, USEC, "0.00001"),
        (2**64 - 1, ONE, "18446744073709551615"),
        (2**64 - 1, Unit(multiply=4096), str((2**64 - 1) * 4096)),
        (-500, Unit(decimals=3, signed=True), "-0.5"),
        (-7, SIGNED, "-7"),
        (5, Unit(subtract=7), "0"),
        (9999, Unit(subtract=1, multiply=262142, divide=9999, add=2), str(9998 * 262142 // 9999 + 2)),
    ],
)
def test_numbers(value, unit, text):
    assert number(value, unit) == text


@pytest.mark.parametrize(
    ("name", "kind", "family"),
    [
        ("a_total", Kind.COUNTER, ("a", "counter")),
        ("a_seconds", Kind.COUNTER, ("a_seconds", "unknown")),
        ("a_bytes", Kind.GAUGE, ("a_bytes", "gauge")),
        ("a_info", Kind.GAUGE, ("a_info", "unknown")),
        ("a_info", Kind.INFO, ("a", "info")),
        ("a_count", Kind.UNKNOWN, ("a_count", "unknown")),
        ("a_total", Kind.UNKNOWN, ("a_total", "unknown")),
    ],
)
def test_openmetrics_families(name, kind, family):
    assert openmetrics_family(Metric(name, kind, "h", "c", ())) == family


def test_lines():
    table = Table("t", ("x", "y", "z"))
    table.fill(table.add_row([("b", 'q"')]), (5, 7))
    table.fill(table.add_row([("b", "2")]), (None, 1))
    table.fill(table.add_row([("b", "3")]), (1500, 500, 0))
    metrics = (
        counter("x_total", 'say "x"\\\n', "c", Column("other", "x"), Column("t", "x", MILLI)),
        Metric("d", Kind.GAUGE, "h", "c", (Sample((Column("t", "x"),), (("a", "1"),), minus=(Column("t", "y"),)),)),
        Metric("w", Kind.GAUGE, "h", "c", (Sample((Column("t", "y"),), when=(Column("t", "z"),)),)),
        gauge("never", "h", "c", Column("other", "x")),
    )
    text = render_text(metrics, [table])
    assert text.decode() == (
        '# HELP x_total say "x"\\\\\\n\n# TYPE x_total counter\nx_total{b="q\\""} 0.005\nx_total{b="3"} 1.5\n'
        '# HELP d h\n# TYPE d gauge\nd{a="1",b="q\\""} 0\nd{a="1",b="3"} 1000\n'
        '# HELP w h\n# TYPE w gauge\nw{b="3"} 500\n'
    )
    openmetrics = render_text(metrics, [table], openmetrics=True).decode()
    assert openmetrics.startswith('# TYPE x counter\n# HELP x say \\"x\\"\\\\\\n\nx_total{b="q\\""} 0.005\n')
    assert openmetrics.endswith('w{b="3"} 500\n# EOF\n')
    assert parse(text)["x_total", frozenset({("b", "3")})] == Fraction(3, 2)


def test_a_row_without_labels_and_one_given_twice():
    table = Table("t", ("x",))
    table.fill(table.add_row(), (5,))
    metrics = [gauge("a", "h", "c", Column("t", "x"))]
    assert render_text(metrics, [table]).endswith(b"\na 5\n")
    table.fill(table.add_row(), (6,))
    with pytest.raises(AssertionError, match="given twice"):
        parse(render_text(metrics, [table]))
