import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.dns.names import MAX_ZONE_CHARACTERS, absolute, forward_zone, inside
from pymon.dns_label import label


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("web-1", "web-1"),
        ("Web_1", "web-1"),
        ("my.web..server", "my-web-server"),
        ("_-web-_", "web"),
        ("a--b", "a--b"),
        ("caf\u00e9", "caf"),
        ("\u65e5\u672c-web", "web"),
        ("\u212aelvin", "elvin"),
        ("7", "7"),
        ("a" * 63, "a" * 63),
        ("--" + "a" * 63, "a" * 63),
    ],
)
def test_a_label_is_made_of_what_dns_takes(text, made):
    assert label(text) == made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no letter or digit"),
        ("---", "has no letter or digit"),
        ("\u65e5\u672c", "has no letter or digit"),
        ("a" * 64, "has 64 characters"),
        ("x" * 300, "has 300 characters"),
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", "form of a UUID"),
        ("6BA7B810_9dad_11d1_80b4_00c04fd430c8", "form of a UUID"),
    ],
)
def test_what_cannot_be_a_label_says_why_in_one_short_line(text, why):
    with pytest.raises(ValueError, match=why) as error:
        label(text)
    assert len(str(error.value)) < 160
    assert "\n" not in str(error.value)


@given(st.text(max_size=80))
def test_a_label_is_a_label_of_itself(text):
    try:
        made = label(text)
    except ValueError:
        return
    assert label(made) == made
    assert made.isascii()
    assert 1 <= len(made) <= 63
    assert not made.startswith("-")
    assert not made.endswith("-")


def test_a_zone_is_absolute_and_in_lower_case():
    assert forward_zone("CMON.Example.com") == forward_zone("cmon.example.com.") == "cmon.example.com."


@pytest.mark.parametrize("text", ["", ".", "a..b", "a_b.com", "-a.com", "a b", "caf\u00e9.fr", "a." * 130, "x" * 64])
def test_what_is_no_host_name_is_refused(text):
    with pytest.raises(ValueError, match="expected a host name"):
        absolute(text)


def test_a_zone_leaves_room_for_the_longest_name_in_it():
    fits = f"{'a' * 60}.{'b' * (MAX_ZONE_CHARACTERS - 61)}"
    zone = forward_zone(fits)
    assert len(f"{'c' * 63}.inst.{'d' * 63}.{zone}") - 1 == 253
    with pytest.raises(ValueError, match="at most 120 characters"):
        forward_zone(f"a{fits}")


@pytest.mark.parametrize("text", ["arpa", "10.in-addr.arpa"])
def test_the_zone_of_names_is_not_where_addresses_are(text):
    with pytest.raises(ValueError, match="where addresses are"):
        forward_zone(text)


def test_a_name_is_inside_a_zone_by_whole_labels():
    assert inside("a.b.", "b.")
    assert inside("b.", "b.")
    assert not inside("ab.", "b.")
