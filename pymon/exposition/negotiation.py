"""Negotiation of the exposition format and the content coding (RFC 9110 §12.5). Does no I/O.

A format gets the quality of the most specific media range that matches it: type and version, type, ``type/*``, ``*/*``.
The highest quality wins, then the order in the header, then the order of `Format`. Versions are chosen as client_golang
does: OpenMetrics 0.0.1 if the client prefers it, and never a version that was not asked for. An OpenMetrics range
without a version means 1.0.0, and 2.0.0 is for clients that name it. Protocol buffers are for clients that name the
message and its encoding. The parameter ``escaping`` is ignored: all names here are legacy names, so all escaping
schemes give the same bytes, and Prometheus 3 accepts an answer without the parameter.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


Coding = Literal["identity", "gzip", "zstd"]


class Format(Enum):
    """An exposition format. The value is its Content-Type."""

    TEXT_0_0_4 = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS_1_0_0 = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    OPENMETRICS_0_0_1 = "application/openmetrics-text; version=0.0.1; charset=utf-8"
    OPENMETRICS_2_0_0 = "application/openmetrics-text; version=2.0.0; charset=utf-8"
    PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"

    @property
    def content_type(self) -> str:
        """The Content-Type header of a body in this format."""
        return self.value

    @property
    def openmetrics(self) -> bool:
        """Whether the format is OpenMetrics before 2.0.0. Bodies of these two versions are the same bytes."""
        return self in {Format.OPENMETRICS_1_0_0, Format.OPENMETRICS_0_0_1}

    @property
    def end(self) -> bytes:
        """The last line of a body in this format, if it has one that is always the same."""
        return b"# EOF\n" if self.openmetrics or self is Format.OPENMETRICS_2_0_0 else b""


TEXTS = (Format.TEXT_0_0_4, Format.OPENMETRICS_1_0_0, Format.OPENMETRICS_0_0_1, Format.OPENMETRICS_2_0_0)
"""The formats that are text."""

FORMATS = (*TEXTS, Format.PROTOBUF)

_RANGES = {
    Format.TEXT_0_0_4: ("text", "plain", "0.0.4"),
    Format.OPENMETRICS_1_0_0: ("application", "openmetrics-text", "1.0.0"),
    Format.OPENMETRICS_0_0_1: ("application", "openmetrics-text", "0.0.1"),
    Format.OPENMETRICS_2_0_0: ("application", "openmetrics-text", "2.0.0"),
}
_PROTOBUF_TYPE = "application/vnd.google.protobuf"
_PROTOBUF = {"proto": "io.prometheus.client.metricfamily", "encoding": "delimited"}

_MAX_CHARACTERS = 2048
"""A longer header counts as absent. What Prometheus and browsers send has less than 500."""

_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_ITEM = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*"?)+')


class _Item(NamedTuple):
    value: str
    parameters: dict[str, str]
    quality: float


def _bounded(header: str | None) -> str:
    """Return the header, "" for one that is absent or too long: it costs no time and is not cached."""
    return header if header is not None and len(header) <= _MAX_CHARACTERS else ""


def _items(header: str) -> Iterator[_Item]:
    """Yield the elements of an Accept-like header in lower case. Elements with a malformed quality are skipped."""
    for element in _ITEM.findall(header):
        value, *rest = _PARAMETER.findall(element) or [""]
        parameters: dict[str, str] = {}
        for parameter in rest:
            name, _, text = parameter.partition("=")
            parameters.setdefault(name.strip().lower(), text.strip().strip('"').lower())
        quality = parameters.pop("q", "1")
        if _QUALITY.fullmatch(quality) and value.strip():
            yield _Item(value.strip().lower(), parameters, float(quality))


def _specificity(item: _Item, form: Format) -> int | None:
    """Return how specific a range matches: 3 type and version, 2 type, 1 ``type/*``, 0 ``*/*``, None no match."""
    if form is Format.PROTOBUF:
        return 3 if item.value == _PROTOBUF_TYPE and _PROTOBUF.items() <= item.parameters.items() else None
    kind, subtype, version = _RANGES[form]
    asked = item.parameters.get("version")
    if item.value == f"{kind}/{subtype}" and asked is not None:
        return 3 if asked == version else None
    if form is Format.OPENMETRICS_2_0_0:
        return None
    if item.value == f"{kind}/{subtype}":
        return 2
    if item.value == f"{kind}/*":
        return 1
    return 0 if item.value == "*/*" else None


def negotiate(accept: str | None, served: tuple[Format, ...] = FORMATS) -> Format:
    """Return the format for an Accept header.

    It is text 0.0.4 if the header is None, too long, malformed, or accepts none of the formats that are served.
    """
    return _format(_bounded(accept), served)


@lru_cache(maxsize=64)
def _format(accept: str, served: tuple[Format, ...]) -> Format:
    items = list(_items(accept))
    best = Format.TEXT_0_0_4
    best_rank = (0.0, 0)
    for form in served:
        matches = [
            (specificity, item.quality, -position)
            for position, item in enumerate(items)
            if (specificity := _specificity(item, form)) is not None
        ]
        if not matches:
            continue
        _, quality, position = max(matches)
        if quality > 0 and (best_rank[0] == 0 or (quality, position) > best_rank):
            best, best_rank = form, (quality, position)
    return best


def content_codings(accept_encoding: str | None, offered: tuple[Coding, ...]) -> tuple[Coding, ...]:
    """Return the codings that a client accepts, the best first, up to identity; empty if it accepts none.

    offered: codings besides identity, the one that costs least first; it decides between equal qualities. Identity is
    accepted unless it, or ``*`` without it, has quality 0. It is the last choice of a client that gives it no quality.
    """
    return _codings(_bounded(accept_encoding), offered)


@lru_cache(maxsize=64)
def _codings(accept_encoding: str, offered: tuple[Coding, ...]) -> tuple[Coding, ...]:
    qualities: dict[str, float] = {}
    for item in _items(accept_encoding):
        qualities.setdefault("gzip" if item.value == "x-gzip" else item.value, item.quality)
    others = qualities.get("*", 0.0)
    identity = qualities.get("identity", 0.0)
    ranked = sorted(offered, key=lambda coding: -qualities.get(coding, others))
    better = [coding for coding in ranked if 0 < qualities.get(coding, others) >= identity]
    refused = "identity" if "identity" in qualities else "*"
    return tuple(better) if qualities.get(refused, 1.0) == 0 else (*better, "identity")
