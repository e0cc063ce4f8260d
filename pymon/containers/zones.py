"""illumos zones: their configuration in /etc/zones and, on SmartOS, the tags and metadata beside their root.

`/etc/zones/index` has a line for each zone: ``web:installed:/zones/web:54f1cc77-68f1-42ab-acac-5c4f64f5d6e0``. A path
that contains a colon is in double quotes. `/etc/zones/NAME.xml` is the zone's configuration (zonecfg(8)):

    <zone name="web" zonepath="/zones/web" brand="joyent">
      <network physical="net0" global-nic="external"><net-attr name="network_uuid" value="…"/></network>
      <attr name="owner-uuid" type="string" value="…"/>
    </zone>

SmartOS names zones by their UUID and encodes the alias in base64. `ZONEPATH/config/tags.json` holds the tags as one
JSON object. ZONEPATH belongs to root. The zone itself cannot access it, except for `ZONEPATH/root`.
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
"""The most bytes that are read of a zone's configuration."""

STATES = ("configured", "incomplete", "installed")
"""The states in the index. Only the kernel knows whether a zone is running."""

STATUS_LABEL = "triton.cns.status"
"""The key in SmartOS's customer metadata that says whether DNS names of services include the zone."""

DOCKER_LABEL = "docker:label:"
"""The prefix that SmartOS gives to labels of containers created with its Docker API."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_NOBODY = "00000000-0000-0000-0000-000000000000"
_INDEX_FIELD = re.compile(r'(?:"([^"]*)"[^:]*|([^:]*))(?::|$)')
_INDEX_FIELDS = 4
_AUTO = "auto"
_ADMIN = "admin"
"""The NIC tag of Triton's own network, to which only the operator can connect a zone."""
_ROLE = "smartdc_role"
_PORTS = "metricPorts"
_PORTS_MAX = 8
_PORT_MAX = 65535


class IndexEntry(NamedTuple):
    """A line of the index. state: one of `STATES`. path: the zonepath. uuid: in lower case, "" without one."""

    state: str
    path: str
    uuid: str


class CoreZone(NamedTuple):
    """Where a zone of Triton itself serves metrics. address: its static address in the network `admin`."""

    address: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ZoneDetails:
    """What the files say of a zone. A field is "" or empty if they do not say it.

    uuid: the UUID in the index, or the zone's name if that is a UUID.
    owner: UUID of the account.
    alias: the name that the administrator gave to the zone.
    image: UUID of the image.
    state: one of `STATES`.
    labels: SmartOS's tags, and `STATUS_LABEL`. A Docker label is there with and without its prefix.
    nics: the labels nic_tag and network_uuid of each link, by the link's name in the zone.
    addresses: static IP addresses, without prefix length.
    core: where a zone of Triton itself serves metrics. None for any zone without the tag `smartdc_role`, without
        `metricPorts` in its metadata, or without a NIC in the network `admin`, which no tenant's zone has.
    stamp: `zone_stamp` at the time of reading.
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
    core: CoreZone | None = None
    stamp: tuple[int, ...] = ()
    reason: str = ""


def read_index(root: Path) -> dict[str, IndexEntry]:
    """Return the zones in the index below a root directory, by name. Raises UnreadableError if it cannot be read."""
    data = read_bytes(root / "etc/zones/index")
    return parse_index(data.decode("utf-8", "replace"))


def parse_index(index: str) -> dict[str, IndexEntry]:
    """Return the valid lines of an index, by the zone's name. Others are skipped, as in libzonecfg."""
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
    """Return what the index alone says of a zone: its UUID and state. The stamp is empty, as no files were read."""
    entry = index.get(name)
    return ZoneDetails(uuid=_zone_uuid(name, entry), state=entry.state if entry else "")


def describe_zone(root: Path, name: str, index: Mapping[str, IndexEntry] | None = None) -> ZoneDetails:
    """Return what the files say of a zone. Never raises: `reason` says what could not be read.

    name: full name of the zone.
    index: the result of `read_index`, for callers that describe several zones; None reads it.
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
    tags, metadata = _documents((files if entry else _files(root, name, config.path))[1:], reasons)
    labels = _labels(tags, metadata)
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
        core=_core(labels, metadata, config.admin_address),
        stamp=stamp,
        reason="; ".join(" ".join(reason.split()) for reason in reasons),
    )


def zone_stamp(root: Path, name: str, index: Mapping[str, IndexEntry]) -> tuple[int, ...]:
    """Return the modification times, in nanoseconds, of the files that describe a zone; 0 for a missing file.

    If the stamp changes, `describe_zone` has to be called again.
    """
    entry = index.get(name)
    return _stamp(_files(root, name, entry.path if entry else "")) if _NAME.fullmatch(name) else ()


def _zone_uuid(name: str, entry: IndexEntry | None) -> str:
    return entry.uuid if entry and entry.uuid else name.lower() if _UUID.fullmatch(name) else ""


def _files(root: Path, name: str, path: str) -> tuple[Path, ...]:
    """Return the paths of the configuration, the tags and the metadata.

    The last two are left out if `path` is not absolute or could leave the root directory.
    """
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


def _documents(files: tuple[Path, ...], reasons: list[str]) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Return the tags and the customer's metadata. Append a line to `reasons` for each file that cannot be read.

    A missing file counts as empty.
    """
    documents: list[Mapping[str, object]] = []
    for path in files:
        try:
            documents.append(mapping(read_json(path)))
        except UnreadableError as error:
            documents.append({})
            if not error.missing:
                reasons.append(str(error))
    tags, metadata = documents or ({}, {})
    return tags, mapping(metadata.get("customer_metadata"))


def _labels(tags: Mapping[str, object], metadata: Mapping[str, object]) -> dict[str, str]:
    """Return the labels from tags, which are strings, numbers and booleans, and from the customer's metadata."""
    labels = {text(key): _tag(value) for key, value in tags.items() if isinstance(value, str | int | float)}
    for key, value in list(labels.items()):
        if key.startswith(DOCKER_LABEL):
            labels.setdefault(key.removeprefix(DOCKER_LABEL), value)
    status = text(metadata.get(STATUS_LABEL))
    if status:
        labels[STATUS_LABEL] = status
    return labels


def _core(labels: Mapping[str, str], metadata: Mapping[str, object], address: str) -> CoreZone | None:
    said = metadata.get(_PORTS)
    words = (text(said) if isinstance(said, str) else str(said)).split(",")
    ports = tuple(
        port
        for word in words[:_PORTS_MAX]
        if word.strip().isascii() and word.strip().isdigit() and 0 < (port := int(word.strip()[:6])) <= _PORT_MAX
    )
    return CoreZone(address, ports) if labels.get(_ROLE) and address and ports else None


def _tag(value: str | float) -> str:
    return text(value) if isinstance(value, str) else json.dumps(value)


def _account(uuid: str) -> str:
    """Return a UUID in lower case; "" for other text and for the nil UUID, with which SmartOS says "nobody"."""
    return uuid.lower() if _UUID.fullmatch(uuid) and uuid != _NOBODY else ""


def _unbase64(value: str) -> str:
    """Return the text that SmartOS has encoded, or `value` itself if it does not decode to printable text."""
    try:
        decoded = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value
    return decoded if decoded.isprintable() else value


class _Config:
    """The fields of a zone's configuration that are used, filled by callbacks of expat."""

    def __init__(self) -> None:
        self.brand = ""
        self.path = ""
        self.attrs: dict[str, str] = {}
        self.nics: dict[str, dict[str, str]] = {}
        self.addresses: dict[str, None] = {}
        self.admin_address = ""
        self._open: list[str] = []
        self._network: dict[str, str] = {}

    def parse(self, data: bytes, path: Path) -> None:
        """Parse a document. Raises UnreadableError if it is not valid XML, or declares a grammar or entities itself.

        Real configurations refer to an external document type, which is not loaded.
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
                address = str(ipaddress.ip_address(word.partition("/")[0].strip()))
            except ValueError:
                continue  # dhcp, addrconf
            self.addresses.setdefault(address)
            if tag == _ADMIN:
                self.admin_address = self.admin_address or address
