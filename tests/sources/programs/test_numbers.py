import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.sources.programs.numbers import billionths, hexadecimal, hundredths, integer, unsigned

NO_NUMBERS = [
    "",
    " ",
    "-",
    "+",
    "1 ",
    " 1",
    "1,5",
    "x",
    "nan",
    "inf",
    "0b1",
    "1_000",
    "\u0661",
    "--1",
    "1\n",
    "9" * 5000,
]


@pytest.mark.parametrize(
    ("parse", "word", "value"),
    [
        (integer, "0", 0),
        (integer, "-22", -22),
        (integer, "+4", 4),
        (integer, "18446744073709551615", 2**64 - 1),
        (integer, "-9223372036854775808", -(2**63)),
        (unsigned, "18446744073709551615", 2**64 - 1),
        (hexadecimal, "0x1", 1),
        (hexadecimal, "0XfF", 255),
        (billionths, "0", 0),
        (billionths, "44.348", 44_348_000_000),
        (billionths, "-0.313", -313_000_000),
        (billionths, "+0.884", 884_000_000),
        (billionths, "-127.", -127_000_000_000),
        (billionths, "1.6e+07", 16 * 10**15),
        (billionths, "1e-09", 1),
        (billionths, "0.0000000016", 2),
        (billionths, "1e-999", 0),
        (billionths, "9223372036.854775807", 2**63 - 1),
        (hundredths, "1.53x", 153),
        (hundredths, "10.02", 1002),
        (hundredths, "0.00x", 0),
    ],
)
def test_numbers_are_exact(parse, word, value):
    assert parse(word) == value


@pytest.mark.parametrize("parse", [integer, unsigned, hexadecimal, billionths, hundredths])
@pytest.mark.parametrize("word", NO_NUMBERS)
def test_what_is_not_wholly_a_number_is_none(parse, word):
    assert parse(word) is None


@pytest.mark.parametrize(
    ("parse", "word"),
    [
        (integer, "18446744073709551616"),
        (integer, "-9223372036854775809"),
        (integer, "1.0"),
        (unsigned, "-1"),
        (unsigned, "+1"),
        (hexadecimal, "1"),
        (hexadecimal, "0x"),
        (hexadecimal, "0x10000000000000000"),
        (billionths, "9223372036.854775808"),
        (billionths, "1e999"),
        (billionths, "1e"),
        (billionths, ".5"),
        (hundredths, "1.5x"),
        (hundredths, "1.533x"),
        (hundredths, "1x"),
        (hundredths, "1.53y"),
    ],
)
def test_what_no_cell_can_hold_or_another_form_is_none(parse, word):
    assert parse(word) is None


@given(st.decimals(min_value=-9_000_000_000, max_value=9_000_000_000, places=9))
def test_nine_decimals_are_kept(value):
    assert billionths(f"{value:f}") == int(value * 10**9)


@given(st.text(max_size=50))
def test_any_text_is_a_number_that_a_cell_can_hold_or_none(word):
    for parse in (integer, unsigned, hexadecimal, billionths, hundredths):
        value = parse(word)
        assert value is None or -(2**63) <= value < 2**64
