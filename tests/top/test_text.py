"""Names and numbers as text of a terminal."""

import math

import pytest

from pymon.top import text
from pymon.top.charts import chart, line


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", "web"),
        ("[red]x[/red] <b>&amp;", "[red]x[/red] <b>&amp;"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\x1b[31mred\x07\x9b", r"\x1b[31mred\x07\x9b"),
        ("line\nbreak\ttab", r"line\nbreak\ttab"),
        ("e\u0301\u20dd", r"e\u0301\u20dd"),
        ("\u05e9\u0627\u0661", r"\u05e9\u0627\u0661"),
        ("\u3164\uffa0\u00ad\u2028\u00a0", r"\u3164\uffa0\xad\u2028\xa0"),
        ("\U000e0041\udc80\ue000", r"\U000e0041\udc80\ue000"),
        ("caf\u00e9 \u4e2d\u6587", "caf\u00e9 \u4e2d\u6587"),
    ],
)
def test_what_does_not_show_where_it_stands_is_an_escape(name, expected):
    assert text.shown(name) == expected


def test_a_locale_without_utf_8_has_ascii_alone():
    assert text.shown("caf\u00e9 \u4e2d\U0001f600", ascii_only=True) == r"caf\xe9 \u4e2d\U0001f600"


def test_a_long_name_is_cut_before_it_is_worked_on():
    assert text.shown("x" * 10_000_000) == "x" * text.MAX_CHARACTERS


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("web", 5, "web  "), ("website", 5, "webs~"),
        ("\u4e2d\u6587\u5b57", 5, "\u4e2d\u6587~"), ("\u4e2d\u6587", 2, "~ "),
        ("web", 0, ""), ("", 2, "  "), ("web", 3, "web"),
    ],
)  # fmt: skip
def test_a_cell_has_exactly_its_width(name, width, expected):
    assert text.fitted(name, width) == expected
    assert text.columns_of(expected) == width


def test_numbers_stand_at_the_right():
    assert text.fitted("1.2G", 6, right=True) == "  1.2G"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"), (0, "0B"), (999, "999B"), (1000, "1.0K"), (1536, "1.5K"), (1 << 20, "1.0M"), (123456789, "118M"),
        (5e9, "4.7G"), (2.0**70, ">999E"), (1e300, ">999E"), (-1, "-"), (math.inf, "-"), (math.nan, "-"),
    ],
)  # fmt: skip
def test_sizes(value, expected):
    assert text.size(value) == expected


@pytest.mark.parametrize("value", [None, -1e300, -1.0, 0, 0.004, 1, 99.996, 1e4, 1e9, 1e300, math.inf, math.nan])
def test_numbers_never_take_more_than_their_column(value):
    assert len(text.size(value)) <= 5
    assert len(text.cores(value)) <= 5
    assert len(text.percent(value)) <= 5
    assert len(text.count(value)) <= 7
    assert len(text.seconds(value)) <= 6


def test_cores_percentages_counts_and_times():
    assert [text.cores(value) for value in (0.016, 12.5, 128.4)] == ["0.02", "12.50", "128"]
    assert [text.percent(value) for value in (0.0, 0.256, 11)] == ["0%", "26%", ">999%"]
    assert [text.count(value) for value in (0.0, 17, 1e6)] == ["0", "17", ">999999"]
    assert [text.seconds(value) for value in (59.9, 60, 7200, 864000)] == ["59s", "1m", "2h", "10d"]


def test_a_chart_has_a_column_for_each_value_and_nothing_where_there_is_none():
    assert line([0, 0.5, 1, math.nan, 1], 6, ascii_only=False) == " ▁▄█ █"
    assert line([0, 0.5, 1, math.nan, 1], 6, ascii_only=True) == " _=# #"
    assert chart([1, 2], 2, 2, ascii_only=False) == [" █", "██"]
    assert line([1, 2, 3, 4], 2, ascii_only=True) == "*#"
    assert line([], 3, ascii_only=False) == "   "
    assert line([0.0001], 1, ascii_only=False) == "▁", "less than a hundredth is no peak"
    assert line([math.inf, 1], 2, ascii_only=False) == "██"
