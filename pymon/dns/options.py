"""The flags of the embedded server: rows for the table of the command that runs it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

import dns.name

from pymon.config import ADDRESS, INT, PATH, STR, Address, ConfigError, Option, Settings
from pymon.dns.addresses import ReverseZones
from pymon.dns.names import absolute
from pymon.dns.tsig import Keys, key_name, load_keys

DNS_PORT = 53

_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_OWNER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECONDARY = "an IP address, a :PORT and the name of a key after a space if need be"
_NETWORK = "an IP address or a network such as 192.0.2.0/24"
_SOURCE = f"{_NETWORK}, and the name of a key after a space if need be"


@dataclass(frozen=True, slots=True)
class Secondary:
    """A server that is told of changes and may transfer. key: the one it signs with, None for any."""

    address: Address
    key: dns.name.Name | None


@dataclass(frozen=True, slots=True)
class Source:
    """Who may transfer. key: as in `Secondary`."""

    network: IPv4Network | IPv6Network
    key: dns.name.Name | None


@dataclass(frozen=True, slots=True)
class Primary:
    """A server that takes the records by RFC 2136."""

    address: Address
    key: dns.name.Name


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """What the server was told. Without listen_addresses there is none.

    proxy_addresses: at which others reach this proxy; empty is where it listens. name_servers: for NS records; empty is
    the proxies themselves. reverse: prefixes with PTR records. keys: for TSIG; when there are any, nothing is
    transferred without. responses_per_second: 0 is no limit. primaries: servers that are told the records by UPDATE.
    register_owner: whose the names there are.
    """

    listen_addresses: tuple[Address, ...] = ()
    proxy_addresses: tuple[str, ...] = ()
    name_servers: tuple[str, ...] = ()
    reverse: tuple[IPv4Network | IPv6Network, ...] = ()
    secondaries: tuple[Secondary, ...] = ()
    transfer_from: tuple[Source, ...] = ()
    keys: Keys | None = None
    responses_per_second: int = 100
    primaries: tuple[Primary, ...] = ()
    register_owner: str = "pymon"


def parse_secondary(text: str) -> Secondary:
    """``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1``, ``[2001:db8::1]:5353``, each with a key's name or without."""
    where, key = _split(text, _SECONDARY)
    match = _BRACKETS.fullmatch(where) or _WITH_PORT.fullmatch(where)
    host, port = (match[1], int(match[2] or DNS_PORT)) if match else (where, DNS_PORT)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(_SECONDARY) from None
    if not 0 < port < 1 << 16 or address.is_unspecified or address.is_multicast:
        raise ValueError(_SECONDARY)
    return Secondary(Address(str(address), port), key)


def parse_source(text: str) -> Source:
    """An address or a network, with a key's name or without."""
    where, key = _split(text, _SOURCE)
    try:
        return Source(ipaddress.ip_network(where), key)
    except ValueError:
        raise ValueError(_SOURCE) from None


def _split(text: str, expected: str) -> tuple[str, dns.name.Name | None]:
    where, _, key = text.strip().partition(" ")
    try:
        return where, key_name(key.strip()) if key else None
    except ValueError:
        raise ValueError(expected) from None


def _check_secondary(text: str) -> None:
    parse_secondary(text)


def _check_primary(text: str) -> None:
    if parse_secondary(text).key is None:
        raise ValueError("an IP address, a :PORT if need be, and the name of a key after a space")


def _check_owner(text: str) -> None:
    if not _OWNER.fullmatch(text):
        raise ValueError("letters in lower case, digits and hyphens")


def _check_source(text: str) -> None:
    parse_source(text)


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("a network such as 10.0.0.0/8") from None


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("an IP address") from None


def _check_name(text: str) -> None:
    try:
        absolute(text)
    except ValueError:
        raise ValueError("the name of a server such as ns1.example.com") from None


def _check_rate(value: int) -> None:
    if not 0 <= value <= 1_000_000:  # noqa: PLR2004
        raise ValueError("0 to 1000000")


def dns_options() -> tuple[Option, ...]:
    """The rows."""
    return (
        Option("dns.listen-address", ADDRESS, (), "Address to answer DNS on, UDP and TCP.", repeatable=True),
        Option("dns.proxy-address", STR, (), "IP address at which others reach this proxy, for cmon.ZONE. "
               "Default: the addresses that it listens on.", repeatable=True, check=_check_address),
        Option("dns.name-server", STR, (), "Name of a server of the zone, for its NS records; outside the zone. "
               "Default: cmon.ZONE, the proxies.", repeatable=True, check=_check_name),
        Option("dns.reverse", STR, (), "Network whose containers get PTR records, in reverse zones of its own.",
               repeatable=True, check=_check_network),
        Option("dns.secondary", STR, (), "Secondary server, IP or IP:PORT: told of changes (NOTIFY), may transfer the "
               "zones. After a space, the name of its TSIG key.", repeatable=True, check=_check_secondary),
        Option("dns.transfer-from", STR, (), "Address or network that may transfer the zones, too. After a space, the "
               "name of the TSIG key it must sign with.", repeatable=True, check=_check_source),
        Option("dns.tsig-key-file", PATH, None, "TSIG keys as BIND writes them (tsig-keygen). With it, every transfer "
               "must be signed with one of them."),
        Option("dns.register", STR, (), "Primary server that is told the records by UPDATE, IP or IP:PORT and after a "
               "space the name of its TSIG key; one proxy at a time does that.", repeatable=True,
               check=_check_primary),
        Option("dns.register-owner", STR, "pymon", "Whose the names in those servers are: the same for all proxies, "
               "another than any other installation's.", check=_check_owner),
        Option("dns.responses-per-second", INT, 100, "Equal answers over UDP that a network (/24, IPv6 /56) is given; "
               "others are dropped or told to come over TCP. 0: no limit.", check=_check_rate),
    )  # fmt: skip


def typed(settings: Settings) -> DnsOptions:
    """The options of a table that has these rows. ConfigError where they do not fit together, or of the key file."""
    path = settings["dns.tsig-key-file"]
    keys = load_keys(path) if path is not None else None
    secondaries = tuple(map(parse_secondary, settings["dns.secondary"]))
    sources = tuple(map(parse_source, settings["dns.transfer-from"]))
    for name, entries in (("dns.secondary", secondaries), ("dns.transfer-from", sources)):
        for entry in entries:
            if entry.key is not None and entry.key not in (keys or {}):
                raise ConfigError(f"{name}: expected a key of dns.tsig-key-file, got {entry.key}")
    if keys is not None and len(keys) > 1:
        for secondary in secondaries:
            if secondary.key is None:
                expected = f"expected ADDRESS KEY as dns.tsig-key-file has {len(keys)} keys"
                raise ConfigError(f"dns.secondary: {expected}, got {secondary.address}")
    primaries = []
    for text in settings["dns.register"]:
        found = parse_secondary(text)
        if found.key is None or found.key not in (keys or {}):
            raise ConfigError(f"dns.register: expected a key of dns.tsig-key-file, got {found.key}")
        primaries.append(Primary(found.address, found.key))
    reverse = tuple(ipaddress.ip_network(text) for text in settings["dns.reverse"])
    try:
        ReverseZones(reverse)
    except ValueError as error:
        raise ConfigError(f"dns.reverse: {error}") from None
    return DnsOptions(
        listen_addresses=settings["dns.listen-address"],
        proxy_addresses=tuple(str(ipaddress.ip_address(text)) for text in settings["dns.proxy-address"]),
        name_servers=settings["dns.name-server"],
        reverse=reverse,
        secondaries=secondaries,
        transfer_from=sources,
        keys=keys,
        responses_per_second=settings["dns.responses-per-second"],
        primaries=tuple(primaries),
        register_owner=settings["dns.register-owner"],
    )
