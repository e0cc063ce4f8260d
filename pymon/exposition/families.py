"""Families that other programs wrote: parsed from the text format 0.0.4, merged, and written again.

The parser takes what the format's definition takes, with three things more refused: a time stamp (a series of pymon
is as old as the scrape), a label name that begins with two underscores, and a histogram or summary whose lines are
of no use. Histograms and summaries come out whole, as Prometheus's own libraries write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from pymon.exposition.compile import RESERVED_SUFFIXES, label_block

KINDS = ("counter", "gauge", "histogram", "summary", "untyped")

Labels = tuple[tuple[str, str], ...]


class ExpositionError(ValueError):
    """A text that is no exposition; one line that says where and what was expected."""


class Sample(NamedTuple):
    """A line: what follows the family's name, labels in order, the number as it is written."""

    suffix: str
    labels: Labels
    value: str


class Family(NamedTuple):
    """A metric family; `kind` is one of `KINDS`, `help` is None where nobody said anything."""

    name: str
    kind: str
    help: str | None
    samples: Sequence[Sample]


class Written(NamedTuple):
    """A family whose lines have been written, in each of the formats."""

    name: str
    kind: str
    help: str | None
    text: Sequence[bytes]
    openmetrics: Sequence[bytes]


# --- parsing -----------------------------------------------------------------------------------

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INFINITY = re.compile(r"([+-]?)inf(?:inity)?", re.IGNORECASE)
_METADATA = re.compile(r"#[ \t]*(HELP|TYPE)[ \t]+(\S*)[ \t]*(.*)")
_SAMPLE_NAME = re.compile(rf"({_NAME})[ \t]*(\{{)?")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\[\\"n])*)"[ \t]*([,}])')
_LABELS_END = re.compile(r"[ \t]*\}")
_VALUE = re.compile(r"[ \t]*([^ \t]+)(?:[ \t]+(\S.*?))?[ \t]*")
_ESCAPE = re.compile(r"\\(.?)")
_ESCAPED = {"\\": "\\", '"': '"', "n": "\n"}


@dataclass(slots=True)
class _Open:
    """A family whose lines are still being read; its kind is None before the TYPE line or the first sample."""

    name: str
    kind: str | None = None
    help: str | None = None
    samples: list[Sample] = field(default_factory=list)


def parse_text(data: bytes) -> list[Family]:
    """The families that have samples, in the order in which they first appear. ExpositionError names the line."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ExpositionError(f"line {line}: expected UTF-8, got byte 0x{data[error.start]:02x}") from None
    if "\0" in text:
        raise ExpositionError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: expected text, got a NUL")
    lines = text.split("\n")
    if lines.pop():
        raise ExpositionError(f"line {len(lines) + 1}: expected a newline at its end")
    families: dict[str, _Open] = {}
    for number, whole_line in enumerate(lines, 1):
        content = whole_line.lstrip(" \t")
        try:
            if content.startswith("#"):
                _read_metadata(content, families)
            elif content:
                _read_sample(content, families)
        except ExpositionError as error:
            raise ExpositionError(f"line {number}: {error}") from None
    return [_finished(family) for family in families.values() if family.samples]


def valid_name(name: str) -> bool:
    """Whether it is a name that every Prometheus takes."""
    return re.fullmatch(_NAME, name) is not None


def parse_value(text: str) -> str:
    """A number in the format's grammar, infinities and NaN in their usual spelling. ExpositionError otherwise."""
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return text
    infinity = _INFINITY.fullmatch(text)
    if infinity:
        return f"{infinity[1] or '+'}Inf"
    if text.lower() == "nan":
        return "NaN"
    raise ExpositionError(f"expected a number, got {_shown(text)}")


def parse_labels(text: str, start: int) -> tuple[Labels, int]:
    """Labels up to the closing brace, where `start` is behind the opening one; and where they end."""
    labels: dict[str, str] = {}
    position = start
    while not (end := _LABELS_END.match(text, position)):
        pair = _LABEL.match(text, position)
        if not pair:
            raise ExpositionError(f'expected label="value" or a brace, got {_shown(text[position:])}')
        name, value, separator = pair.groups()
        if name in labels or name.startswith("__"):
            raise ExpositionError(f"label {name}: " + ("given twice" if name in labels else "the name is reserved"))
        labels[name] = _unescaped(value)
        position = pair.end()
        if separator == "}":
            return tuple(labels.items()), position
    return tuple(labels.items()), end.end()


def _read_metadata(line: str, families: dict[str, _Open]) -> None:
    found = _METADATA.fullmatch(line)
    if not found or not found[2]:
        return
    keyword, name, text = found.groups()
    if not valid_name(name):
        raise ExpositionError(f"expected the name of a metric after {keyword}, got {_shown(name)}")
    family = families.setdefault(name, _Open(name))
    if not text:
        return
    if keyword == "HELP":
        if family.help is not None:
            raise ExpositionError(f"{name}: a second HELP")
        family.help = _unescaped(text, quotes=False)
        return
    if family.kind is not None:
        raise ExpositionError(f"{name}: a second TYPE, or one after samples")
    if text.lower() not in KINDS:
        raise ExpositionError(f"{name}: expected a type of {', '.join(KINDS)}, got {_shown(text)}")
    family.kind = text.lower()


def _read_sample(line: str, families: dict[str, _Open]) -> None:
    start = _SAMPLE_NAME.match(line)
    if not start:
        raise ExpositionError(f"expected the name of a metric, got {_shown(line)}")
    family, suffix = _family_of(start[1], families)
    labels, position = parse_labels(line, start.end()) if start[2] else ((), start.end())
    rest = _VALUE.fullmatch(line, position)
    if not rest:
        raise ExpositionError(f"{start[1]}: expected a number, got nothing")
    value = parse_value(rest[1])
    if rest[2]:
        raise ExpositionError(f"{start[1]}: expected the end of the line, got {_shown(rest[2])}; no time stamps")
    bound = _BOUNDS.get((family.kind or "", suffix))
    if bound is None and family.kind in ("histogram", "summary") and not suffix:
        raise ExpositionError(f"{start[1]}: expected _bucket, _sum or _count behind the name of a histogram")
    if bound and not _is_number(dict(labels).get(bound, "")):
        raise ExpositionError(f"{start[1]}: expected a label {bound} with a number")
    family.samples.append(Sample(suffix, labels, value))


_BOUNDS = {("histogram", "_bucket"): "le", ("summary", ""): "quantile"}
"""The label that is a number, by kind and suffix."""


def _family_of(name: str, families: dict[str, _Open]) -> tuple[_Open, str]:
    """The family that a sample of this name belongs to, and what stands behind the family's name."""
    family = families.get(name)
    if family is None:
        for suffix, kinds in (("_count", ("histogram", "summary")), ("_sum", ("histogram", "summary")),
                              ("_bucket", ("histogram",))):  # fmt: skip
            whole = families.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
            if whole is not None and whole.kind in kinds:
                return whole, suffix
        family = families[name] = _Open(name)
    family.kind = family.kind or "untyped"
    return family, ""


def _finished(family: _Open) -> Family:
    kind = family.kind or "untyped"
    samples: Sequence[Sample] = family.samples
    if kind in ("histogram", "summary"):
        samples = _whole(samples, kind)
    return Family(family.name, kind, family.help, tuple(samples))


def _whole(samples: Iterable[Sample], kind: str) -> list[Sample]:
    """Histograms or summaries by labels: bounds ascending and in one spelling, the last bucket, sum and count there."""
    bound, suffix = ("le", "_bucket") if kind == "histogram" else ("quantile", "")
    groups: dict[Labels, tuple[dict[float, str], dict[str, str]]] = {}
    for sample in samples:
        rest = tuple(pair for pair in sample.labels if pair[0] != bound or sample.suffix != suffix)
        bounds, others = groups.setdefault(rest, ({}, {}))
        if sample.suffix == suffix:
            bounds[float(dict(sample.labels)[bound])] = sample.value
        else:
            others[sample.suffix] = sample.value
    whole = []
    for labels, (bounds, others) in groups.items():
        count = others.get("_count", bounds.get(math.inf, "0"))
        if kind == "histogram":
            bounds.setdefault(math.inf, count)
        whole += [Sample(suffix, (*labels, (bound, _bound_text(at))), bounds[at]) for at in sorted(bounds)]
        whole += [Sample("_sum", labels, others.get("_sum", "0")), Sample("_count", labels, count)]
    return whole


_EXPONENT_FROM = 6
_EXPONENT_BELOW = -4


def _bound_text(bound: float) -> str:
    """A bound as Go's libraries write it, whose spelling is part of a series' name: 1, 0.5, 1e+06, +Inf."""
    if not math.isfinite(bound):
        return "NaN" if math.isnan(bound) else f"{bound:+}".replace("inf", "Inf")
    sign, digits, exponent = Decimal(repr(bound)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if _EXPONENT_BELOW <= power < _EXPONENT_FROM or not bound:
        return f"{Decimal(repr(bound)).normalize():f}"
    mantissa = "".join(map(str, digits))
    return f"{'-' * sign}{mantissa[0]}{'.' + mantissa[1:] if mantissa[1:] else ''}e{power:+03}"


def _is_number(text: str) -> bool:
    try:
        parse_value(text)
    except ExpositionError:
        return False
    return True


def _unescaped(text: str, *, quotes: bool = True) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPED or (match[1] == '"' and not quotes):
            raise ExpositionError(f"expected \\\\ or \\n behind a backslash, got {_shown(match[0])}")
        return _ESCAPED[match[1]]

    return _ESCAPE.sub(replaced, text) if "\\" in text else text


def _shown(text: str) -> str:
    short = ascii(text)
    return short if len(short) <= 60 else short[:57] + "..."  # noqa: PLR2004


# --- writing -----------------------------------------------------------------------------------


def write(families: Iterable[Family | Written], *, openmetrics: bool, names: frozenset[str] | None = None) -> bytes:
    """The exposition, in OpenMetrics without the end mark.

    Families of one name become one: it has the kind and help of the first, families of another kind are left out,
    and so is a series that was there before. names: the families that are wanted, None is all.
    """
    merged: dict[str, list[Family | Written]] = {}
    for family in families:
        if (family.text if isinstance(family, Written) else family.samples) and (names is None or family.name in names):
            merged.setdefault(family.name, []).append(family)
    out: list[bytes] = []
    for group in merged.values():
        first = group[0]
        out.append(_header(first, openmetrics=openmetrics))
        alike = [family for family in group if family.kind == first.kind]
        if len(alike) == 1 and isinstance(first, Written):
            out += first.openmetrics if openmetrics else first.text
            continue
        lines: dict[bytes, bytes] = {}
        for family in alike:
            if isinstance(family, Written):
                for line in b"".join(family.openmetrics if openmetrics else family.text).split(b"\n")[:-1]:
                    series, space, value = line.rpartition(b" ")
                    lines.setdefault(series + space, value + b"\n")
            else:
                for sample in family.samples:
                    series = _series(family, sample, openmetrics=openmetrics)
                    lines.setdefault(series, sample.value.encode() + b"\n")
        out += [series + value for series, value in lines.items()]
    return b"".join(out)


def written(family: Family) -> Written:
    """The family, none of whose series is there twice, with its lines written."""
    text, openmetrics = (
        b"".join(_series(family, sample, openmetrics=form) + sample.value.encode() + b"\n" for sample in family.samples)
        for form in (False, True)
    )
    return Written(family.name, family.kind, family.help, (text,), (text if text == openmetrics else openmetrics,))


def _header(family: Family | Written, *, openmetrics: bool) -> bytes:
    name, kind = family.name, family.kind
    help = (family.help or "").replace("\\", "\\\\").replace("\n", "\\n")
    if not openmetrics:
        help_line = f"# HELP {name} {help}\n" if family.help is not None else ""
        return f"{help_line}# TYPE {name} {kind}\n".encode()
    if kind == "counter" and name.endswith("_total"):
        name = name.removesuffix("_total")
    elif kind in ("counter", "untyped") or (kind == "gauge" and name.endswith(RESERVED_SUFFIXES)):
        kind = "unknown"
    quoted = help.replace('"', '\\"')
    help_line = f"# HELP {name} {quoted}\n" if family.help is not None else ""
    return f"# TYPE {name} {kind}\n{help_line}".encode()


def _series(family: Family, sample: Sample, *, openmetrics: bool) -> bytes:
    labels: Iterable[tuple[str, str]] = sample.labels
    bound = _BOUNDS.get((family.kind, sample.suffix))
    if openmetrics and bound:
        # "Canonical numbers" of OpenMetrics 1.0.0: a bound is written as a float.
        labels = [(name, f"{text}.0" if name == bound and text.isdigit() else text) for name, text in labels]
    block = label_block(labels)
    return f"{family.name}{sample.suffix}".encode() + (b"{" + block + b"} " if block else b" ")
