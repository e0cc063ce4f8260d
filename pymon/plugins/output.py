r"""What a plugin prints, in one of two forms. Pure.

Lines of fields with tabs between them, the help being optional:

    requests{code="200"}<TAB>counter<TAB>17<TAB>Requests answered.
    ttl<TAB>option<TAB>30

Or, when the plugin's path contains ``.prom``, the text format 0.0.4 with the options first:

    # OPTION ttl 30
    # TYPE requests counter
    requests{code="200"} 17

Every metric is called ``plugin_<plugin>_<name>``. One bad line costs the whole output.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pymon.exposition.families import (
    ExpositionError,
    Family,
    Labels,
    Sample,
    parse_labels,
    parse_text,
    parse_value,
    valid_name,
)

_TAB_KINDS = ("counter", "gauge")
_TEXT_KINDS = ("counter", "gauge", "histogram")
_OPTION_LINE = re.compile(r"# OPTION(?: (\S+) (\S+))?[ \t]*")
_TTL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
RESERVED = ("metrics_available_boolean", "metrics_cached_boolean", "metrics_timer_seconds")
"""What pymon says itself about every plugin."""


class Output(NamedTuple):
    """Families with their whole names, and the TTL that the output asks for."""

    families: tuple[Family, ...]
    ttl_seconds: float | None


def parse_output(plugin: str, path: str, data: bytes) -> Output:
    """The metrics that a plugin printed. ExpositionError, one line, on anything that is not of its form."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ExpositionError(f"expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from None
    prefix = f"plugin_{plugin}_"
    output = _parse_text_format(prefix, text) if ".prom" in path else _parse_tabs(prefix, text)
    for family in output.families:
        if family.name.removeprefix(prefix) in RESERVED:
            raise ExpositionError(f"{family.name}: expected another name, this one is pymon's")
        seen = set()
        for sample in family.samples:
            series = (sample.suffix, frozenset(sample.labels))
            if series in seen:
                raise ExpositionError(f"{family.name}{sample.suffix}: the same labels twice")
            seen.add(series)
    return output


def _parse_tabs(prefix: str, text: str) -> Output:
    families: dict[str, Family] = {}
    samples: dict[str, list[Sample]] = {}
    ttl_seconds = None
    for number, line in enumerate(text.split("\n"), 1):
        content = line.strip()
        if not content:
            continue
        try:
            fields = _tab_fields(content)
            if fields[1] == "option":
                ttl_seconds = _option(fields[0], fields[2])
                continue
            family, sample = _tab_sample(prefix, fields, families)
            samples.setdefault(family.name, []).append(sample)
        except ExpositionError as error:
            raise ExpositionError(f"line {number}: {error}") from None
    return Output(tuple(family._replace(samples=samples[name]) for name, family in families.items()), ttl_seconds)


def _tab_fields(line: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) not in (3, 4):
        raise ExpositionError(f"expected name, type, value and perhaps a help, got {len(fields)} fields")
    fields[2] = fields[2].strip(" ")  # wc of illumos aligns its numbers
    return fields


def _tab_sample(prefix: str, fields: list[str], families: dict[str, Family]) -> tuple[Family, Sample]:
    head, kind, number = fields[:3]
    bare, brace, _ = head.partition("{")
    name = prefix + bare
    if kind not in _TAB_KINDS:
        raise ExpositionError(f"{bare}: expected the type counter, gauge or option, got {kind!a}")
    if not valid_name(name):
        raise ExpositionError(f"expected a name of letters, digits, _ and :, got {bare!a}")
    labels: Labels = ()
    if brace:
        labels, end = parse_labels(head, len(bare) + 1)
        if end != len(head):
            raise ExpositionError(f"{bare}: expected nothing behind the closing brace, got {head[end:]!a}")
    value = parse_value(number)
    if value == "NaN":
        raise ExpositionError(f"{bare}: expected a number, got {number!a}")
    family = families.setdefault(name, Family(name, kind, (fields[3:] or [bare])[0], ()))
    if family.kind != kind:
        raise ExpositionError(f"{bare}: expected the type {family.kind} as before, got {kind}")
    return family, Sample("", labels, value)


def _parse_text_format(prefix: str, text: str) -> Output:
    ttl_seconds = None
    for line in text.split("\n"):
        option = _OPTION_LINE.fullmatch(line)
        if option:
            ttl_seconds = _option(option[1] or "", option[2] or "")
        elif line.startswith("# OPTION"):
            raise ExpositionError(f"expected # OPTION ttl N, got {line!a}")
        elif line:
            break
    whole = text if text.endswith("\n") else text + "\n"
    families = []
    for family in parse_text(whole.encode()):
        if family.kind not in _TEXT_KINDS:
            raise ExpositionError(f"{family.name}: expected a TYPE of {', '.join(_TEXT_KINDS)}, got {family.kind}")
        help = family.name if family.help is None else family.help
        families.append(family._replace(name=prefix + family.name, help=help))
    return Output(tuple(families), ttl_seconds)


def _option(name: str, value: str) -> float:
    """Seconds of the one option there is."""
    if name != "ttl":
        raise ExpositionError(f"expected the option ttl, got {name!a}")
    if not _TTL.fullmatch(value):
        raise ExpositionError(f"ttl: expected seconds, got {value!a}")
    return float(value)
