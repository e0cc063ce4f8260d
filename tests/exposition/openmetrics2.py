"""Reads OpenMetrics 2.0 as the grammar of its text has it: https://prometheus.io/docs/specs/om/open_metrics_spec_2_0/.

It is the oracle of the tests, as prometheus_client does not read this version.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

REAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER = rf"(?:{REAL}|[+-]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)|[nN][aA][nN])"
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[n"\\])*)"'
SAMPLE = re.compile(
    rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (?:({NUMBER})|\{{([^{{}} ]+)\}})( {REAL})?(?: st@({REAL}))?"
)
SPANS = r"\[((?:-?[0-9]+:[0-9]+(?:,[0-9]+:[0-9]+)*)?)\]"
NATIVE = (
    rf"schema:(-?[0-9]+),zero_threshold:({REAL}),zero_count:({NUMBER})"
    rf"(?:,positive_spans:{SPANS},positive_buckets:\[((?:{NUMBER}(?:,{NUMBER})*)?)\])?"
)
BUCKETS = rf"bucket:\[((?:(?:-Inf|{REAL}):{NUMBER},)*\+Inf:{NUMBER})\]"
HISTOGRAM = re.compile(rf"count:({NUMBER}),sum:({NUMBER}),(?:({BUCKETS})|({NATIVE})(?:,({BUCKETS}))?)")
SUMMARY = re.compile(rf"count:({NUMBER}),sum:({NUMBER}),quantile:\[((?:{REAL}:{NUMBER}(?:,{REAL}:{NUMBER})*)?)\]")
KINDS = "counter gauge histogram gaugehistogram stateset info summary unknown".split()


@dataclass
class Native:
    """The buckets of a native histogram: schema, those of zero, and counts by index."""

    schema: int
    zero_threshold: float
    zero_count: float
    counts: dict[int, float]


@dataclass
class Found:
    """A family. series: values under the names of the text format 0.0.4. starts, native: by the labels of a sample."""

    kind: str = "unknown"
    unit: str = ""
    help: str = ""
    series: dict = field(default_factory=dict)
    starts: dict = field(default_factory=dict)
    native: dict = field(default_factory=dict)


def read(body: bytes) -> dict[str, Found]:
    """The families of a body by their names. AssertionError: it breaks a rule."""
    lines = body.decode().split("\n")
    assert lines.pop() == "", "a line end at the end"
    assert lines.pop() == "# EOF"
    families: dict[str, Found] = {}
    current = ""
    seen: list[str] = []
    for line in lines:
        if line.startswith("#"):
            mark, what, name, text = line.split(" ", 3)
            assert mark == "#"
            assert re.fullmatch(NAME, name)
            if name != current:
                assert name not in families, f"{name} is interleaved"
                families[name], current, seen = Found(), name, []
            assert not families[name].series, "metadata before samples"
            seen.append(what)
            assert seen == sorted(set(seen), key="TYPE UNIT HELP".split().index)
            _describe(families[name], name, what, text)
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        assert match[1] == current, f"{match[1]} among {current}"
        _sample(families[current], current, match)
    assert all(family.series for family in families.values())
    return families


def _describe(family: Found, name: str, what: str, text: str) -> None:
    if what == "TYPE":
        assert text in KINDS
        assert text != "info" or name.endswith("_info")
        family.kind = text
    elif what == "UNIT":
        assert name.endswith((f"_{text}", f"_{text}_total")), f"{name} in {text}"
        assert family.kind not in {"info", "stateset"}
        family.unit = text
    else:
        assert re.fullmatch(r'(?:[^"\\]|\\[n"\\])*', text), text
        family.help = unescaped(text)


def _sample(family: Found, name: str, match: re.Match[str]) -> None:
    pairs = re.findall(LABEL, match[2] or "")
    labels = {key: unescaped(value) for key, value in pairs}
    assert len(labels) == len(pairs)
    number, composite, stamp, start = match[7], match[8], match[9], match[10]
    assert stamp is None, "no time stamps"
    key = frozenset((label, value) for label, value in labels.items())
    assert (family.kind in {"histogram", "summary"}) == (number is None), "one of them is a composite value"
    if start is not None:
        assert family.kind in {"counter", "histogram", "summary"}
        family.starts[key] = float(start)
    if family.kind == "histogram":
        _histogram(family, name, labels, composite)
    elif family.kind == "summary":
        _summary(family, name, labels, composite)
    else:
        assert family.kind != "counter" or not math.isnan(float(number))
        _add(family, name, labels, number)


def _histogram(family: Found, name: str, labels: dict[str, str], text: str) -> None:
    match = HISTOGRAM.fullmatch(text)
    assert match, text
    assert "le" not in labels
    count, total = match[1], match[2]
    buckets = match[4] or match[12]
    assert buckets, "classic buckets are always there"
    bounds = []
    for one in buckets.split(","):
        bound, _, value = one.partition(":")
        bounds.append(float(bound))
        assert float(value) >= 0
        _add(family, name + "_bucket", {**labels, "le": repr(float(bound))}, value)
    assert bounds == sorted(set(bounds))
    assert float(value) == float(count), "the last bucket has all"
    _add(family, name + "_sum", labels, total)
    _add(family, name + "_count", labels, count)
    if match[5]:
        native = Native(int(match[6]), float(match[7]), float(match[8]), _native_counts(match[9], match[10]))
        assert -4 <= native.schema <= 8
        assert native.zero_threshold >= 0
        assert native.zero_count + sum(native.counts.values()) == float(count)
        family.native[frozenset(labels.items())] = native


def _native_counts(spans: str | None, values: str | None) -> dict[int, float]:
    if spans is None:
        return {}
    assert spans, "there are no empty lists"
    counts = iter([float(value) for value in (values or "").split(",")])
    found: dict[int, float] = {}
    index = 0
    for number, span in enumerate(spans.split(",")):
        offset, length = map(int, span.split(":"))
        assert length > 0
        assert number == 0 or offset > 1, "one empty bucket costs less than a span"
        index += offset
        for _ in range(length):
            found[index] = next(counts)
            index += 1
    assert next(counts, None) is None
    assert found[min(found)] > 0
    assert found[max(found)] > 0
    return found


def _summary(family: Found, name: str, labels: dict[str, str], text: str) -> None:
    match = SUMMARY.fullmatch(text)
    assert match, text
    assert "quantile" not in labels
    assert float(match[1]) == int(float(match[1])) >= 0
    assert float(match[2]) >= 0
    bounds = []
    for one in match[3].split(",") if match[3] else ():
        bound, _, value = one.partition(":")
        bounds.append(float(bound))
        assert not float(value) < 0
        _add(family, name, {**labels, "quantile": repr(float(bound))}, value)
    assert bounds == sorted(set(bounds))
    assert all(0 <= bound <= 1 for bound in bounds)
    _add(family, name + "_sum", labels, match[2])
    _add(family, name + "_count", labels, match[1])


def _add(family: Found, name: str, labels: dict[str, str], value: str) -> None:
    key = name, frozenset(labels.items())
    assert key not in family.series, key
    family.series[key] = float(value)


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), text)
