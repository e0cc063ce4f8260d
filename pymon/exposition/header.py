"""The HELP and TYPE lines of a metric family."""

from __future__ import annotations

RESERVED_SUFFIXES = ("_total", "_created", "_bucket", "_count", "_sum", "_gcount", "_gsum", "_info")
"""Suffixes that OpenMetrics 1.0.0 keeps for the samples of some types ("Suffixes", sections of each type)."""

_UNITS = b"amperes bytes celsius grams hertz joules meters ratio seconds volts watts".split()
"""Units that end the name of a family, before the suffix of its type."""

_TEXT_KINDS = {"unknown": "untyped", "info": "gauge"}
_SUFFIX_OF_KIND = {b"counter": b"_total", b"info": b"_info"}


def text_lines(name: bytes, kind: bytes, help: bytes | None) -> bytes:
    """The lines of the text format 0.0.4, without the last line end. help: as it is written, None for no HELP line."""
    described = b"" if help is None else b"# HELP %b %b\n" % (name, help)
    return b"%b# TYPE %b %b" % (described, name, kind)


def text_header(name: str, kind: str, help: str | None) -> bytes:
    """The lines of the text format 0.0.4. kind: a type of either format. help: None for no HELP line."""
    escaped = None if help is None else _escaped(help).encode()
    return text_lines(name.encode(), _TEXT_KINDS.get(kind, kind).encode(), escaped) + b"\n"


def openmetrics_header(name: str, kind: str, help: str | None) -> bytes:
    """The lines of OpenMetrics 1.0.0. A family whose name breaks a rule there keeps it and is of type unknown."""
    escaped = None if help is None else _escaped(help).encode()
    return openmetrics_lines(name.encode(), kind.encode(), escaped) + b"\n"


def openmetrics_lines(name: bytes, kind: bytes, help: bytes | None) -> bytes:
    """The same without the last line end. help: as it is written in the text format, None for no HELP line."""
    bare = openmetrics_name(name, kind)
    if bare == name and (kind in _SUFFIX_OF_KIND or kind == b"untyped" or (kind == b"gauge" and _is_reserved(name))):
        kind = b"unknown"
    described = b"" if help is None else b"\n# HELP %b %b" % (bare, help.replace(b'"', b'\\"'))
    return b"# TYPE %b %b%b" % (bare, kind, described)


def openmetrics_name(name: bytes, kind: bytes) -> bytes:
    """Return the name of a family in OpenMetrics, where counters and infos have no suffix."""
    return name.removesuffix(_SUFFIX_OF_KIND.get(kind, b""))


def openmetrics2_header(name: str, kind: str, help: str | None) -> bytes:
    """The lines of OpenMetrics 2.0.0-rc0, where a family has the name of its samples. kind: a type of either format."""
    escaped = None if help is None else _escaped(help).encode()
    return openmetrics2_lines(name.encode(), kind.encode(), escaped) + b"\n"


def openmetrics2_lines(name: bytes, kind: bytes, help: bytes | None) -> bytes:
    """The same without the last line end. help: as it is written in the text format, None for no HELP line."""
    if kind == b"untyped" or (kind == b"info" and not name.endswith(b"_info")):
        kind = b"unknown"
    stem, _, unit = name.removesuffix(_SUFFIX_OF_KIND.get(kind, b"")).rpartition(b"_")
    measured = b"\n# UNIT %b %b" % (name, unit) if stem and unit in _UNITS and kind != b"info" else b""
    described = b"" if help is None else b"\n# HELP %b %b" % (name, help.replace(b'"', b'\\"'))
    return b"# TYPE %b %b%b%b" % (name, kind, measured, described)


def _is_reserved(name: bytes) -> bool:
    return name.endswith(tuple(suffix.encode() for suffix in RESERVED_SUFFIXES))


def _escaped(help: str) -> str:
    return help.replace("\\", "\\\\").replace("\n", "\\n")
