r"""Parser of the output of plugins. Does no I/O.

There are two forms. The first is lines of fields separated by tabs; the help is optional:

    requests{code="200"}<TAB>counter<TAB>17<TAB>Requests answered.
    ttl<TAB>option<TAB>30

The second, if the plugin's path contains ``.prom``, is the text format 0.0.4 with the options first:

    # OPTION ttl 30
    # TYPE requests counter
    requests{code="200"} 17

Every metric is named ``plugin_<plugin>_<name>``. If one line is malformed, the whole output is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pymon.exposition.families import (
    ExpositionError,
    Family,
    Labels,
    Sample,
    SeriesKey,
    parse_labels,
    parse_text,
    parse_value,
    series_key,
    valid_name,
)

_TAB_KINDS = ("counter", "gauge")
_TEXT_KINDS = ("counter", "gauge", "histogram")
_OPTION_LINE = re.compile(r"# OPTION(?: (\S+) (\S+))?[ \t]*")
_TTL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
RESERVED = ("metrics_available_boolean", "metrics_cached_boolean", "metrics_timer_seconds")
"""Names of the metrics that pymon itself adds for every plugin."""


class Output(NamedTuple):
    """Families with their full names, and the TTL that the output sets, None without one."""

    families: tuple[Family, ...]
    ttl_seconds: float | None


def parse_output(plugin: str, path: str, data: bytes) -> Output:
    """Parse what a plugin printed. Raises ExpositionError with one line of text."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ExpositionError(f"expected UTF-8, got byte 0x{data[error.start]:02x} at {error.start}") from None
    prefix = f"plugin_{plugin}_"
    output = _parse_text_format(prefix, text) if ".prom" in path else _parse_tabs(prefix, text)
    for family in output.families:
        if family.name.removeprefix(prefix) in RESERVED:
            raise ExpositionError(f"{family.name}: expected another name, this one is pymon's")
    return output


def _parse_tabs(prefix: str, text: str) -> Output:
    families: dict[str, Family] = {}
    samples: dict[str, dict[SeriesKey, Sample]] = {}
    repeated = ""
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
            if samples.setdefault(family.name, {}).setdefault(series_key(sample), sample) is not sample:
                repeated = repeated or family.name
        except ExpositionError as error:
            raise ExpositionError(f"line {number}: {error}") from None
    if repeated:
        raise ExpositionError(f"{repeated}: the same labels twice")
    found = (family._replace(samples=list(samples[name].values())) for name, family in families.items())
    return Output(tuple(found), ttl_seconds)


def _tab_fields(line: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) not in (3, 4):
        raise ExpositionError(f"expected name, type, value and perhaps a help, got {len(fields)} fields")
    fields[2] = fields[2].strip(" ")  # wc on illumos pads its numbers with blanks
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
        labels, rest = parse_labels(head[len(bare) + 1 :])
        if rest:
            raise ExpositionError(f"{bare}: expected nothing behind the closing brace, got {rest!a}")
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
    return Output(parse_families(prefix, text), ttl_seconds)


def parse_families(prefix: str, text: str) -> tuple[Family, ...]:
    """Parse the text format 0.0.4. Raises ExpositionError, also for types other than counter, gauge and histogram."""
    whole = text if text.endswith("\n") else text + "\n"
    families = []
    repeated: list[tuple[str, Sample]] = []
    found = parse_text(whole.encode(), repeated)
    for name, sample in repeated:
        raise ExpositionError(f"{prefix}{name}{sample.suffix}: the same labels twice")
    for family in found:
        if family.kind not in _TEXT_KINDS:
            raise ExpositionError(f"{family.name}: expected a TYPE of {', '.join(_TEXT_KINDS)}, got {family.kind}")
        help = family.name if family.help is None else family.help
        families.append(family._replace(name=prefix + family.name, help=help))
    return tuple(families)


def _option(name: str, value: str) -> float:
    """Return the seconds of the option ttl, the only one. Raises ExpositionError."""
    if name != "ttl":
        raise ExpositionError(f"expected the option ttl, got {name!a}")
    if not _TTL.fullmatch(value):
        raise ExpositionError(f"ttl: expected seconds, got {value!a}")
    return float(value)
