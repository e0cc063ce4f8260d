"""Content negotiation: what real Prometheus versions send, and what nobody should."""

from __future__ import annotations

import time

import pytest

from pymon.exposition.negotiation import TEXTS, Format, content_codings, negotiate

PROMETHEUS = {
    "2.42": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "2.53": "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "3.0": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;escaping=allow-utf-8;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;escaping=allow-utf-8;q=0.3,*/*;q=0.2",
    "3.14": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "3.14 with protobuf": "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
}

TEXT, OM1, OM0 = Format.TEXT_0_0_4, Format.OPENMETRICS_1_0_0, Format.OPENMETRICS_0_0_1
OM2 = Format.OPENMETRICS_2_0_0


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
WITH_NATIVE_HISTOGRAMS = {
    "2.42": f"{PROTOBUF},application/openmetrics-text;version=1.0.0;q=0.8,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "3.14": PROMETHEUS.pop("3.14 with protobuf"),
}


@pytest.mark.parametrize("version", PROMETHEUS)
def test_prometheus_gets_openmetrics(version: str) -> None:
    assert negotiate(PROMETHEUS[version]) is OM1


@pytest.mark.parametrize("version", WITH_NATIVE_HISTOGRAMS)
def test_prometheus_with_native_histograms_gets_protocol_buffers(version: str) -> None:
    assert negotiate(WITH_NATIVE_HISTOGRAMS[version]) is Format.PROTOBUF
    assert negotiate(WITH_NATIVE_HISTOGRAMS[version], TEXTS) is OM1, "where there is only text"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROTOBUF, Format.PROTOBUF),
        (PROTOBUF.upper(), Format.PROTOBUF),
        (f"{PROTOBUF};escaping=allow-utf-8;q=0.1", Format.PROTOBUF),
        (f"{PROTOBUF};q=0.1, text/plain;q=0.2", TEXT),
        (f"text/plain;q=0.2, {PROTOBUF};q=0.2", TEXT),
        (f"{PROTOBUF};q=0", TEXT),
        ("application/vnd.google.protobuf", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", TEXT),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited, */*;q=0.1", TEXT),
        ("application/vnd.google.protobuf;proto=other;encoding=delimited, application/*;q=0.1", OM1),
    ],
)
def test_protocol_buffers_are_for_those_who_ask_for_them(accept: str, expected: Format) -> None:
    assert negotiate(accept) is expected


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("application/*", OM1),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("text/plain;version=1.0.0", TEXT),
        ("text/plain;version=1.0.0, application/openmetrics-text;version=1.0.0;q=0.1", OM1),
        ("application/openmetrics-text", OM1),
        ("application/openmetrics-text; version=0.0.1", OM0),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", OM0),
        ("application/openmetrics-text;version=2.0.0", OM2),
        ('application/openmetrics-text; Version="2.0.0"; charset=utf-8; escaping=underscores', OM2),
        ("application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0;q=0.9", OM2),
        ("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=2.0.0", OM1),
        ("application/openmetrics-text;version=2.0.0;q=0.5,application/openmetrics-text;version=1.0.0", OM1),
        ("application/openmetrics-text;version=2.0.0;q=0,application/openmetrics-text;q=0.1", OM1),
        ("application/openmetrics-text;version=2.0.0;q=0", TEXT),
        ("application/openmetrics-text;version=2.0.0-rc0", TEXT),
        ("application/openmetrics-text;version=2.1.0,application/openmetrics-text;version=0.0.1;q=0.2", OM0),
        ("application/*;version=2.0.0", OM1),
        ("*/*;version=2.0.0", TEXT),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OM1),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.5", OM1),
        ("*/*;q=0.9, text/plain;q=0.1", OM1),
        ("*/*;q=0, application/openmetrics-text;version=1.0.0", OM1),
        ("text/plain;q=0, */*", OM1),
        ("application/json", TEXT),
        ("*/*;q=0", TEXT),
        ("text/*;q=0.2, application/openmetrics-text;version=1.0.0;q=0.3", OM1),
    ],
)
def test_ranges(accept: str | None, expected: Format) -> None:
    assert negotiate(accept) is expected


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;q=abc",
        "application/openmetrics-text;q=2",
        "application/openmetrics-text;q=-1",
        "application/openmetrics-text;q=nan",
        "application/openmetrics-text;q=1e0",
        "application/openmetrics-text;q=0.1234",
        ",,,;;;===",
        '"',
        'text/plain;version="0.0.4',
        "\x00\xff\ud800",
        "a/b," * 2000,
        "application/openmetrics-text;version=2.0.0," * 1500,  # 64 kB
        "*/*;q=0.1;" * 6500,
        '";' * 4000,
        "\\" * 8000,
        ";q=1",
    ],
)
def test_hostile(accept: str) -> None:
    begin = time.perf_counter()
    assert negotiate(accept) is TEXT
    content_codings(accept, ("zstd", "gzip"))
    assert time.perf_counter() - begin < 1


def test_a_header_of_absurd_length_is_none() -> None:
    longest = "application/openmetrics-text" + "," * (2048 - 28)
    assert negotiate(longest) is OM1
    assert negotiate(longest + ",") is TEXT
    assert content_codings("gzip".ljust(2048, ","), ("gzip",)) == ("gzip", "identity")
    assert content_codings("gzip".ljust(2049, ","), ("gzip",)) == ("identity",)
    assert content_codings("identity;q=0" + ", br" * 1000, ("gzip",)) == ("identity",)


def test_malformed_quality_drops_only_its_range() -> None:
    assert negotiate("text/plain;q=abc, application/openmetrics-text;version=1.0.0;q=0.1") is OM1


def test_content_types() -> None:
    assert TEXT.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert OM1.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert (
        Format.PROTOBUF.content_type
        == "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
    )
    assert OM2.content_type == "application/openmetrics-text; version=2.0.0; charset=utf-8"
    forms = (TEXT, OM1, OM0, OM2, Format.PROTOBUF)
    assert [form.openmetrics for form in forms] == [False, True, True, False, False]
    assert [form.end for form in forms] == [b"", b"# EOF\n", b"# EOF\n", b"# EOF\n", b""]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0.5, identity;q=1", False),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("identity;q=0, gzip;q=0.1", True),
        ("br", False),
        ("gzip;q=high", False),
        ("gzipped", False),
    ],
)
def test_gzip_or_identity(header: str | None, expected: bool) -> None:
    codings = content_codings(header, ("gzip",))
    assert (codings[:1] == ("gzip",)) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip identity"),
        ("gzip, zstd", "zstd gzip identity"),
        ("*", "zstd gzip identity"),
        ("zstd;q=0.5, gzip", "gzip zstd identity"),
        ("gzip, deflate, br, zstd", "zstd gzip identity"),
        ("zstd;q=0.5, identity;q=0.7, gzip;q=0.9", "gzip identity"),
        ("gzip;q=0, *", "zstd identity"),
        ("gzip;q=0, *;q=0", ""),
        ("identity;q=0", ""),
        ("identity;q=0, br", ""),
        ("identity;q=0, br, *;q=0.1", "zstd gzip"),
        ("identity;q=0.000, zstd;q=0.001", "zstd"),
        ("*;q=0", ""),
        ("*;q=0, gzip;q=0.1", "gzip"),
        ("*;q=0, identity;q=0.1", "identity"),
        ("identity;q=zero", "identity"),
    ],
)
def test_codings(header: str | None, expected: str) -> None:
    assert content_codings(header, ("zstd", "gzip")) == tuple(expected.split())
