"""Metric families of other programs: parsed from the text format 0.0.4, merged, and written again.

The native parser accepts what the format's definition accepts, with three exceptions. It refuses a time stamp (a series
of pymon is as old as the scrape), a label name that begins with two underscores, and lines of a histogram or summary
without a valid bound. Histograms and summaries are completed, as Prometheus's own libraries write them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

from pymon._native.exposition import Exposition, number, read_labels, unescaped
from pymon.exposition.compile import label_block
from pymon.exposition.header import openmetrics_header, text_header

KINDS = ("counter", "gauge", "histogram", "summary", "untyped")

Labels = tuple[tuple[str, str], ...]
SeriesKey = tuple[str, frozenset[tuple[str, str]]]


class ExpositionError(ValueError):
    """The text is not a valid exposition. The message is one line with the place and what was expected."""


class Sample(NamedTuple):
    """A sample line. suffix: what follows the family's name, such as ``_bucket``. value: the number as written."""

    suffix: str
    labels: Labels
    value: str


class Family(NamedTuple):
    """A metric family. kind: one of `KINDS`. help: None without a HELP line."""

    name: str
    kind: str
    help: str | None
    samples: Sequence[Sample]


class Written(NamedTuple):
    """A family with its sample lines already written: `text` in format 0.0.4, `openmetrics` in OpenMetrics."""

    name: str
    kind: str
    help: str | None
    text: Sequence[bytes]
    openmetrics: Sequence[bytes]


# --- parsing -----------------------------------------------------------------------------------

_is_name = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*").fullmatch
_AT_ONCE = 1024
"""The number of families or samples that are converted to objects in one native call, which holds the GIL."""

_PROBLEMS = {
    "newline": "expected a newline at its end",
    "nul": "expected text, got a NUL",
    "name": "expected the name of a metric, got {what}",
    "metadata": "expected the name of a metric after {name}, got {what}",
    "help_twice": "{name}: a second HELP",
    "type_twice": "{name}: a second TYPE, or one after samples",
    "kind": f"{{name}}: expected a type of {', '.join(KINDS)}, got {{what}}",
    "escape": "expected \\\\ or \\n behind a backslash, got {what}",
    "label": 'expected label="value" or a brace, got {what}',
    "label_twice": "label {bare}: given twice",
    "label_reserved": "label {bare}: the name is reserved",
    "nothing": "{name}: expected a number, got nothing",
    "number": "expected a number, got {what}",
    "large": "expected a number, got {what}",
    "trailing": "{name}: expected the end of the line, got {what}; no time stamps",
    "suffix": "{name}: expected _bucket, _sum or _count behind the name of a histogram",
    "le": "{name}: expected a label le with a number",
    "quantile": "{name}: expected a label quantile with a number",
    "false_le": "{name}: expected no label le but in buckets",
    "false_quantile": "{name}: expected no label quantile but in quantiles",
}


def parse_text(data: bytes, repeated: list[tuple[str, Sample]] | None = None) -> list[Family]:
    """Parse the text format 0.0.4. Returns the families that have samples, in the order of their first appearance.

    repeated: gets (family name, sample) for each duplicate series; if None, duplicates stay in the result. The GIL is
    held for about a thousand samples at a time. Raises ExpositionError that names the line.
    """
    text = Exposition(data, allow_repeated=True)
    text.run()
    raise_problem(text)
    heads: list[tuple[str, str, str | None]] = []
    samples: list[list[Sample]] = []
    for start in range(0, text.family_count, _AT_ONCE):
        for name, kind, help, *_ in text.families(start, start + _AT_ONCE):
            heads.append((name.decode(), kind.decode(), None if help is None else unescaped(help)))
            samples.append([])
    for start in range(0, text.sample_count, _AT_ONCE):
        for family, suffix, labels, value, was_there in text.samples(start, start + _AT_ONCE):
            sample = Sample(suffix, labels, value)
            if was_there and repeated is not None:
                repeated.append((heads[family][0], sample))
            else:
                samples[family].append(sample)
    return [_finished(*head, found) for head, found in zip(heads, samples, strict=True) if found]


def raise_problem(text: Exposition) -> None:
    """Raise ExpositionError, which names the line, if a text that was parsed has a problem."""
    if text.problem:
        reason, line, _, _, what, name = text.problem
        if reason == "utf8":
            raise ExpositionError(f"line {line}: expected UTF-8, got byte 0x{what[0]:02x}")
        raise ExpositionError(f"line {line}: {_problem(reason, what, name)}")


def valid_name(name: str) -> bool:
    """Return whether every version of Prometheus accepts this metric name."""
    return _is_name(name) is not None


def parse_value(text: str) -> str:
    """Return a number with infinities and NaN in their usual spelling. Raises ExpositionError if it is malformed."""
    found = number(text.encode())
    if found is None:
        raise ExpositionError(_problem("number", text.encode()))
    return found


def parse_labels(text: str) -> tuple[Labels, str]:
    """Parse labels. text: starts after the opening brace. Returns the labels and the rest after the closing brace.

    Raises ExpositionError.
    """
    data = text.encode()
    labels, end, problem = read_labels(data, 0)
    if problem:
        raise ExpositionError(_problem(*problem))
    return labels, data[end:].decode()


def series_key(sample: Sample) -> SeriesKey:
    """Return the identity of a series in its family. Empty labels and the order of labels do not count."""
    return sample.suffix, frozenset(pair for pair in sample.labels if pair[1])


def _problem(reason: str, what: bytes, name: bytes = b"") -> str:
    bare = what[:_SHOWN].decode("ascii", "backslashreplace")
    return _PROBLEMS[reason].format(what=_shown(what), bare=bare, name=name[:_SHOWN].decode("ascii"))


def _finished(name: str, kind: str, help: str | None, samples: Sequence[Sample]) -> Family:
    if kind in ("histogram", "summary"):
        samples = _completed(samples, kind)
    return Family(name, kind, help, tuple(samples))


def _completed(samples: Iterable[Sample], kind: str) -> list[Sample]:
    """Complete histograms or summaries.

    Bounds are ascending and in one spelling; a missing last bucket, sum or count is added.
    """
    bound, suffix = ("le", "_bucket") if kind == "histogram" else ("quantile", "")
    groups: dict[frozenset[tuple[str, str]], tuple[Labels, dict[str, tuple[float, str]], dict[str, str]]] = {}
    for sample in samples:
        rest = tuple(pair for pair in sample.labels if pair[0] != bound or sample.suffix != suffix)
        _, bounds, others = groups.setdefault(series_key(Sample("", rest, ""))[1], (rest, {}, {}))
        if sample.suffix == suffix:
            at = float(dict(sample.labels)[bound]) + 0.0  # -0 is 0
            bounds[_bound_text(at)] = (at, sample.value)
        else:
            others[sample.suffix] = sample.value
    whole = []
    for labels, bounds, others in groups.values():
        count = others.get("_count", bounds.get("+Inf", (0, "0"))[1])
        if kind == "histogram":
            bounds.setdefault("+Inf", (math.inf, count))
        in_order = sorted(bounds.items(), key=lambda item: (math.isnan(item[1][0]), item[1][0]))
        whole += [Sample(suffix, (*labels, (bound, text)), value) for text, (_, value) in in_order]
        whole += [Sample("_sum", labels, others.get("_sum", "0")), Sample("_count", labels, count)]
    return whole


_EXPONENT_FROM = 6
_EXPONENT_BELOW = -4


def _bound_text(bound: float) -> str:
    """Return a bound in the spelling of Go's libraries, since it is part of the series' identity: 0.5, 1e+06, +Inf."""
    if not math.isfinite(bound):
        return "NaN" if math.isnan(bound) else f"{bound:+}".replace("inf", "Inf")
    sign, digits, exponent = Decimal(repr(bound)).normalize().as_tuple()
    power = len(digits) + int(exponent) - 1
    if _EXPONENT_BELOW <= power < _EXPONENT_FROM or not bound:
        return f"{Decimal(repr(bound)).normalize():f}"
    mantissa = "".join(map(str, digits))
    return f"{'-' * sign}{mantissa[0]}{'.' + mantissa[1:] if mantissa[1:] else ''}e{power:+03}"


_SHOWN = 100


def _shown(text: bytes) -> str:
    short = ascii(text[:_SHOWN].decode(errors="replace"))
    return short if len(short) <= 60 else short[:57] + "..."  # noqa: PLR2004


# --- writing -----------------------------------------------------------------------------------


def write(families: Iterable[Family | Written], *, openmetrics: bool, names: frozenset[str] | None = None) -> bytes:
    """Return the exposition of families, each of which must have no duplicate series. There is no ``# EOF`` line.

    Families with the same name are merged. The kind and help of the first one count. Families of another kind and
    duplicate series are left out. names: the families to write, None for all.
    """
    merged: dict[str, list[Family | Written]] = {}
    for family in families:
        if (family.text if isinstance(family, Written) else family.samples) and (names is None or family.name in names):
            merged.setdefault(family.name, []).append(family)
    out: list[bytes] = []
    for group in merged.values():
        first = group[0]
        header = openmetrics_header if openmetrics else text_header
        out.append(header(first.name, first.kind, first.help))
        alike = [family for family in group if family.kind == first.kind]
        if len(alike) == 1 and isinstance(first, Written):
            out += first.openmetrics if openmetrics else first.text
            continue
        lines: list[bytes] = []
        for family in alike:
            if isinstance(family, Written):
                lines += family.openmetrics if openmetrics else family.text
            else:
                lines += [
                    _series(family, sample, openmetrics=openmetrics) + sample.value.encode() + b"\n"
                    for sample in family.samples
                ]
        out.append(b"".join(lines) if len(alike) == 1 else _distinct(first, b"".join(lines)))
    return b"".join(out)


def _distinct(family: Family | Written, lines: bytes) -> bytes:
    """The lines of a family without those whose series was there before."""
    text = Exposition(text_header(family.name, family.kind, None) + lines, allow_repeated=True)
    text.run()
    repeated = set(text.repeated)
    if not repeated:
        return lines
    kept = (line for at, line in enumerate(lines.split(b"\n")[:-1]) if at not in repeated)
    return b"".join(line + b"\n" for line in kept)


def written(family: Family) -> Written:
    """Write the sample lines of a family, which must have no duplicate series."""
    text, openmetrics = (
        b"".join(_series(family, sample, openmetrics=form) + sample.value.encode() + b"\n" for sample in family.samples)
        for form in (False, True)
    )
    return Written(family.name, family.kind, family.help, (text,), (text if text == openmetrics else openmetrics,))


_BOUNDS = {("histogram", "_bucket"): "le", ("summary", ""): "quantile"}
"""(kind, suffix) -> the label whose value is a number."""


def _series(family: Family, sample: Sample, *, openmetrics: bool) -> bytes:
    labels: Iterable[tuple[str, str]] = sample.labels
    bound = _BOUNDS.get((family.kind, sample.suffix))
    if openmetrics and bound:
        # OpenMetrics 1.0.0, "Canonical numbers": a bound is written as a float.
        labels = [(name, f"{text}.0" if name == bound and text.isdigit() else text) for name, text in labels]
    block = label_block(labels)
    return f"{family.name}{sample.suffix}".encode() + (b"{" + block + b"} " if block else b" ")
