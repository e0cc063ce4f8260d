"""The operating system, from os-release(5) in /etc or /usr/lib."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from pymon._native.table import Table
from pymon.catalogue.model import SIGNED, USEC, Column, gauge
from pymon.sources.node.attributes import AttributeSource
from pymon.sources.node.kernel_text import text
from pymon.sources.node.source import INFO_FIELDS, Collector

_LABELS = (
    "build_id",
    "id",
    "id_like",
    "image_id",
    "image_version",
    "name",
    "pretty_name",
    "variant",
    "variant_id",
    "version",
    "version_codename",
    "version_id",
)
_VERSION = re.compile(r"([0-9]{1,9})(?:\.([0-9]{0,6}))?")


def parse_os_release(data: bytes) -> dict[str, str]:
    """Return the variables by name in lower case. A value whose quotes do not match is left out."""
    found = {}
    for line in text(data).splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            try:
                found[name.lower()] = " ".join(shlex.split(value))
            except ValueError:
                continue
    return found


class OsRelease(AttributeSource):
    """Tables node_os with the constant 1, node_os_version {id, id_like, name} in millionths, and node_os_support in
    seconds since 1970.
    """

    name: ClassVar[str] = "os"

    def __init__(self, rootfs: Path) -> None:
        self._paths = [rootfs / "etc" / "os-release", rootfs / "usr" / "lib" / "os-release"]
        self._parsed: tuple[bytes, dict[str, str]] = (b"", {})
        self._info = Table("node_os", INFO_FIELDS)
        self._version = Table("node_os_version", ("version",))
        self._support = Table("node_os_support", ("end",))
        super().__init__((self._info, self._version, self._support))

    def _fill(self) -> None:
        data = next((data for data in map(self._attribute, self._paths) if data), None)
        if data is None:
            return
        if data != self._parsed[0]:
            self._parsed = (data, parse_os_release(data))
        release = self._parsed[1]
        if not release:
            self._misread(self._paths[0], "lines such as 'ID=debian'")
            return
        self._info.fill(self._info.add_row([(label, release.get(label, "")) for label in _LABELS]), (1,))
        if version := _VERSION.match(release.get("version_id", "")):
            labels = [(label, release.get(label, "")) for label in ("id", "id_like", "name")]
            number = int(version[1] + (version[2] or "").ljust(6, "0"))
            self._version.fill(self._version.add_row(labels), (number,))
        try:
            end = datetime.strptime(release.get("support_end", ""), "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            return
        self._support.fill(self._support.add_row(), (int(end.timestamp()),))


METRICS = (
    gauge(
        "node_os_info",
        f"A metric with a constant '1' value labeled by {', '.join(_LABELS)}.",
        "os",
        Column("node_os", "info"),
    ),
    gauge(
        "node_os_support_end_timestamp_seconds",
        "Metric containing the end-of-life date timestamp of the OS.",
        "os",
        Column("node_os_support", "end", SIGNED),
    ),
    gauge(
        "node_os_version",
        "Metric containing the major.minor part of the OS version.",
        "os",
        Column("node_os_version", "version", USEC),
    ),
)

COLLECTOR = Collector(
    OsRelease.name,
    lambda node: OsRelease(node.rootfs),
    METRICS,
    row_labels={
        "node_os": _LABELS,
        "node_os_version": ("id", "id_like", "name"),
    },
)
