"""Zones of illumos: what /etc/zones says of one, and on SmartOS the tags and labels beside its root.

`/etc/zones/index` has a line for each: ``web:installed:/zones/web:54f1cc77-68f1-42ab-acac-5c4f64f5d6e0``; a path with a
colon stands in double quotes. `/etc/zones/NAME.xml` is its configuration (zonecfg(8)):

    <zone name="web" zonepath="/zones/web" brand="joyent">
      <network physical="net0" global-nic="external"><net-attr name="network_uuid" value="…"/></network>
      <attr name="owner-uuid" type="string" value="…"/>
    </zone>

SmartOS names zones by their UUID, keeps the alias in base64, and tags in `ZONEPATH/config/tags.json`, one JSON object.
The directory of a zone belongs to root and is closed to the zone itself, which sees `ZONEPATH/root` only.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from xml.parsers import expat

from .files import UnreadableError, mapping, read_bytes, read_json, shown, text

XML_LIMIT = 1 << 20
"""Bytes of a zone's configuration at most."""

STATES = ("configured", "incomplete", "installed")
"""States that are written down. Whether a zone runs only the kernel knows."""

STATUS_LABEL = "triton.cns.status"
"""Of SmartOS's customer metadata: whether services may name the zone."""

DOCKER_LABEL = "docker:label:"
"""What SmartOS puts before the labels of a container that came by its Docker API."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_INDEX_FIELD = re.compile(r'(?:"([^"]*)"[^:]*|([^:]*))(?::|$)')
_INDEX_FIELDS = 4
_AUTO = "auto"


class IndexEntry(NamedTuple):
    """A line of the index. uuid: "" without one."""

    state: str
    path: str
    uuid: str


@dataclass(frozen=True, slots=True)
class ZoneDetails:
    """What the files say of a zone; "" and empty where they do not.

    uuid: of the index, or the name if that is one. owner: UUID of the account. alias: the name that people gave.
    image: UUID of the image. state: of `STATES`. labels: SmartOS's tags, Docker labels under their own name too, and
    `STATUS_LABEL`. nics: of each link by its name in the zone, the labels nic_tag and network_uuid.
    addresses: fixed ones, without prefix. stamp: `zone_stamp` when it was read.
    reason: one line that says what could not be read, or "".
    """

    uuid: str = ""
    brand: str = ""
    owner: str = ""
    alias: str = ""
    image: str = ""
    state: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    nics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    stamp: tuple[int, ...] = ()
    reason: str = ""


def read_index(root: Path) -> dict[str, IndexEntry]:
    """The zones that are configured below a root directory, by name. UnreadableError when there is no index."""
    data = read_bytes(root / "etc/zones/index")
    return parse_index(data.decode("utf-8", "replace"))


def parse_index(index: str) -> dict[str, IndexEntry]:
    """The lines of an index that are ones; libzonecfg passes over the others too."""
    entries: dict[str, IndexEntry] = {}
    for line in index.splitlines():
        if line.startswith("#"):
            continue
        fields = [quoted or plain for quoted, plain in _INDEX_FIELD.findall(line)]
        name, state, path, uuid = (fields + [""] * _INDEX_FIELDS)[:_INDEX_FIELDS]
        if _NAME.fullmatch(name) and state in STATES:
            entries[name] = IndexEntry(state, path, uuid.lower() if _UUID.fullmatch(uuid) else "")
    return entries


def outline_zone(name: str, index: Mapping[str, IndexEntry]) -> ZoneDetails:
    """What the index alone says of a zone: which one it is. Its stamp is that of no file."""
    entry = index.get(name)
    return ZoneDetails(uuid=_zone_uuid(name, entry), state=entry.state if entry else "")


def describe_zone(root: Path, name: str, index: Mapping[str, IndexEntry] | None = None) -> ZoneDetails:
    """What is known of a zone by its full name. Never raises: `reason` says what could not be read.

    index: what `read_index` gave, for who describes many.
    """
    if not _NAME.fullmatch(name):
        return ZoneDetails(reason=f"zone {shown(name)}: not a name of a zone")
    reasons: list[str] = []
    entry = None
    try:
        entry = (read_index(root) if index is None else index).get(name)
        if entry is None:
            reasons.append(f"{root / 'etc/zones/index'}: no zone {name}")
    except UnreadableError as error:
        reasons.append(str(error))
    files = _files(root, name, entry.path if entry else "")
    stamp = _stamp(files)
    config = _Config()
    try:
        config.parse(read_bytes(files[0], limit=XML_LIMIT), files[0])
    except UnreadableError as error:
        reasons.append(str(error))
    labels = _labels((files if entry else _files(root, name, config.path))[1:], reasons)
    return ZoneDetails(
        uuid=_zone_uuid(name, entry),
        brand=config.brand,
        owner=_account(config.attrs.get("owner-uuid", "")),
        alias=_unbase64(config.attrs.get("alias", "")),
        image=_account(config.attrs.get("dataset-uuid", "")),
        state=entry.state if entry else "",
        labels=labels,
        nics=config.nics,
        addresses=tuple(config.addresses),
        stamp=stamp,
        reason="; ".join(" ".join(reason.split()) for reason in reasons),
    )


def zone_stamp(root: Path, name: str, index: Mapping[str, IndexEntry]) -> tuple[int, ...]:
    """Times of the last change of the files that describe a zone: another stamp asks for another `describe_zone`."""
    entry = index.get(name)
    return _stamp(_files(root, name, entry.path if entry else "")) if _NAME.fullmatch(name) else ()


def _zone_uuid(name: str, entry: IndexEntry | None) -> str:
    return entry.uuid if entry and entry.uuid else name.lower() if _UUID.fullmatch(name) else ""


def _files(root: Path, name: str, path: str) -> tuple[Path, ...]:
    """The configuration, and below a path that stays below the root tags and metadata."""
    xml = root / "etc/zones" / f"{name}.xml"
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        return (xml,)
    config = root / path.lstrip("/") / "config"
    return xml, config / "tags.json", config / "metadata.json"


def _stamp(files: tuple[Path, ...]) -> tuple[int, ...]:
    return tuple(_mtime_ns(path) for path in files)


def _mtime_ns(path: Path) -> int:
    try:
        return path.lstat().st_mtime_ns
    except OSError:
        return 0


def _labels(files: tuple[Path, ...], reasons: list[str]) -> dict[str, str]:
    """Tags are strings, numbers and booleans. Without a file there are none."""
    documents: list[Mapping[str, object]] = []
    for path in files:
        try:
            documents.append(mapping(read_json(path)))
        except UnreadableError as error:
            documents.append({})
            if not error.missing:
                reasons.append(str(error))
    tags, metadata = documents or ({}, {})
    labels = {text(key): _tag(value) for key, value in tags.items() if isinstance(value, str | int | float)}
    for key, value in list(labels.items()):
        if key.startswith(DOCKER_LABEL):
            labels.setdefault(key.removeprefix(DOCKER_LABEL), value)
    status = text(mapping(metadata.get("customer_metadata")).get(STATUS_LABEL))
    if status:
        labels[STATUS_LABEL] = status
    return labels


def _tag(value: str | float) -> str:
    return text(value) if isinstance(value, str) else json.dumps(value)


def _account(uuid: str) -> str:
    """A UUID; a SmartOS that no Triton runs has one of zeros for "nobody"."""
    return uuid.lower() if _UUID.fullmatch(uuid) and uuid != _NOBODY else ""


def _unbase64(value: str) -> str:
    """SmartOS encodes what people type. What does not decode to text stands for itself."""
    try:
        decoded = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value
    return decoded if decoded.isprintable() else value


class _Config:
    """The parts of a configuration that matter, gathered while expat reads it."""

    def __init__(self) -> None:
        self.brand = ""
        self.path = ""
        self.attrs: dict[str, str] = {}
        self.nics: dict[str, dict[str, str]] = {}
        self.addresses: dict[str, None] = {}
        self._open: list[str] = []
        self._network: dict[str, str] = {}

    def parse(self, data: bytes, path: Path) -> None:
        """Take in a document. UnreadableError when it is not one, or brings a grammar or entities of its own.

        Every real one names a document type outside, which nothing here follows.
        """

        def refuse(_name: str, _system: str | None, _public: str | None, internal: int) -> None:
            if internal:
                raise UnreadableError(path, "a document type with declarations of its own")

        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise UnreadableError(path, f"not valid XML: {error}") from None

    def _start(self, element: str, attributes: dict[str, str]) -> None:
        self._open.append(element)
        if self._open == ["zone"]:
            self.brand = attributes.get("brand", "")
            self.path = attributes.get("zonepath", "")
        elif self._open == ["zone", "attr"]:
            self.attrs.setdefault(attributes.get("name", ""), attributes.get("value", ""))
        elif self._open == ["zone", "network"]:
            self._network = dict(attributes)
        elif self._open == ["zone", "network", "net-attr"]:
            self._network.setdefault(f"net-attr.{attributes.get('name', '')}", attributes.get("value", ""))

    def _end(self, _element: str) -> None:
        if self._open == ["zone", "network"]:
            self._add_network(self._network)
        self._open.pop()

    def _add_network(self, network: Mapping[str, str]) -> None:
        tag = network.get("global-nic", "")
        labels = {"nic_tag": "" if tag == _AUTO else tag, "network_uuid": network.get("net-attr.network_uuid", "")}
        if link := network.get("physical", ""):
            self.nics.setdefault(link, {label: value for label, value in labels.items() if value})
        fixed = network.get("net-attr.ips") or network.get("net-attr.ip") or network.get("address", "")
        for word in (fixed or network.get("allowed-address", "")).split(","):
            try:
                self.addresses.setdefault(str(ipaddress.ip_address(word.partition("/")[0].strip())))
            except ValueError:
                continue  # dhcp, addrconf
