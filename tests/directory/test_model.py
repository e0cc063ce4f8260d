"""Names and the other texts of the directory."""

from __future__ import annotations

import math
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.directory import model
from pymon.directory.model import Quota, Snapshot, SSHKey


@pytest.mark.parametrize("name", ["a", "0", "alice", "A.b_c-d@e", "x" * 63, "deadbeef", "root@example.com"])
def test_names(name: str) -> None:
    assert model.parse_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "-x", "_x", "@x", "a/b", "a b", "a\n", "a\r\nb", "a\0", "ä", "x" * 64, "a'b", 'a"b', "a;b", "a%b",
     "../x", "٣", "0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a", "0F6D2F6E8A504C399D3A0F4C1D2E3B4A"],
)  # fmt: skip
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="a name"):
        model.parse_name(name)


@given(st.text())
def test_a_name_is_a_safe_file_name_and_header_value(text: str) -> None:
    try:
        name = model.parse_name(text)
    except ValueError:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set(" /\\'\"`$;&|<>(){}[]*?!#%:=,\n\r\0")
    assert name not in (".", "..")


@pytest.mark.parametrize(
    "url", ["http://n1:9164", "https://10.0.0.1:9164", "http://[::1]:1", "https://a.b-c.example:65535"]
)
def test_node_urls(url: str) -> None:
    assert model.parse_node_url(url) == model.parse_node_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    ["", "n1:9164", "http://n1", "http://n1:0", "http://n1:65536", "http://n1:9164/x", "http://u:p@n1:9164", "ftp://n1:1",
     "http://n1:9164\r\nHost: x", "http://[zz]:1", "http://[:::]:1", "http://:1", "http://a b:1", "http://n1:9164?x",
     "http://n1:\uff11", "HTTP://n1:1"],
)  # fmt: skip
def test_what_is_no_node_url(url: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        model.parse_node_url(url)


def test_fingerprints_of_openssl_are_taken() -> None:
    digits = "0a" * 32
    assert model.parse_fingerprint(":".join(["0A"] * 32)) == model.parse_fingerprint(digits.upper()) == digits
    with pytest.raises(ValueError, match="64 hex digits"):
        model.parse_fingerprint(digits + "0")


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "x" * 201, "\ud800", "a\x00"])
def test_labels_are_printable(text: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        model.parse_label(text)


@pytest.mark.parametrize(
    "values", [(-1, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1), (1, 0, 1), (1, 1, 0), (1, 10**18, 1), (2e6, 1, 1)]
)
def test_quotas_that_make_no_sense(values: tuple[float, int, int]) -> None:
    with pytest.raises(ValueError, match="from"):
        Quota(*values)


def test_a_snapshot_cannot_be_changed() -> None:
    account = uuid4()
    key = SSHKey("SHA256:x", "00", account, "ssh-rsa x", "", 0.0, None)
    snapshot = Snapshot.of(1, keys=[key], passwords={account: b"x"})
    assert snapshot.keys == {account: (key,)}
    with pytest.raises(TypeError):
        snapshot.passwords[account] = b"y"  # type: ignore[index]
