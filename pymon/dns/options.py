"""The options of the DNS server and of registration in others: rows for the table of the command that runs them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

import dns.name

from pymon.config import (
    ADDRESS,
    INT,
    PATH,
    STR,
    Address,
    ConfigError,
    Option,
    Settings,
    option,
    options_of,
    text_kind,
    values_of,
)
from pymon.dns.addresses import ReverseZones
from pymon.dns.names import absolute
from pymon.dns.tsig import Keys, LiveKeys, key_name, load_keys

DNS_PORT = 53

_BRACKETS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([0-9.]+):([0-9]{1,5})")
_OWNER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SECONDARY = "an IP address, a :PORT and the name of a key after a space if need be"
_NETWORK = "an IP address or a network such as 192.0.2.0/24"
_SOURCE = f"{_NETWORK}, and the name of a key after a space if need be"


@dataclass(frozen=True, slots=True)
class Secondary:
    """A server that gets NOTIFY and may transfer the zones. key: the TSIG key it must sign with, None for any."""

    address: Address
    key: dns.name.Name | None


@dataclass(frozen=True, slots=True)
class Source:
    """A network that may transfer the zones. key: the TSIG key it must sign with, None for any."""

    network: IPv4Network | IPv6Network
    key: dns.name.Name | None


@dataclass(frozen=True, slots=True)
class Primary:
    """A server to which the records are sent by UPDATE (RFC 2136). key: the TSIG key of the messages."""

    address: Address
    key: dns.name.Name


def parse_secondary(text: str) -> Secondary:
    """Parse ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[2001:db8::1]:5353``.

    The name of a key may follow after a space. Raises ValueError that says what was expected.
    """
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


def parse_primary(text: str) -> Primary:
    """What `parse_secondary` takes, with a key's name."""
    found = parse_secondary(text)
    if found.key is None:
        raise ValueError("an IP address, a :PORT if need be, and the name of a key after a space")
    return Primary(found.address, found.key)


def parse_source(text: str) -> Source:
    """Parse an address or a network. The name of a key may follow after a space. Raises ValueError."""
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


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("a network such as 10.0.0.0/8") from None


def _parse_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("an IP address") from None


def _check_owner(text: str) -> None:
    if not _OWNER.fullmatch(text):
        raise ValueError("letters in lower case, digits and hyphens")


def _check_name(text: str) -> None:
    try:
        absolute(text)
    except ValueError:
        raise ValueError("the name of a server such as ns1.example.com") from None


def _check_allowed(text: str) -> None:
    try:
        absolute(text)
    except ValueError:
        raise ValueError("a domain name such as hosts.example.com") from None


def _check_rate(value: int) -> None:
    if not 0 <= value <= 1_000_000:  # noqa: PLR2004
        raise ValueError("0 to 1000000")


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """What the DNS server was told. Without listen_addresses there is none.

    proxy_addresses: empty for those that the proxy listens on. name_servers: empty for the proxies themselves. keys:
    None without a key file. responses_per_second: 0 is no limit.
    """

    listen_addresses: tuple[Address, ...] = option("dns.listen-address", ADDRESS, (), "Address to answer DNS on, UDP "
        "and TCP.", repeatable=True)  # fmt: skip
    proxy_addresses: tuple[str, ...] = option("dns.proxy-address", text_kind(_parse_address), (), "IP address at "
        "which others reach this proxy, for cmon.ZONE. Default: the addresses that it listens on.",
        repeatable=True)  # fmt: skip
    name_servers: tuple[str, ...] = option("dns.name-server", STR, (), "Name of a server of the zone, for its NS "
        "records; outside the zone. Default: cmon.ZONE, the proxies.", repeatable=True, check=_check_name)  # fmt: skip
    reverse: tuple[IPv4Network | IPv6Network, ...] = option("dns.reverse", text_kind(_parse_network), (), "Network "
        "whose containers get PTR records, in reverse zones of its own.", repeatable=True)  # fmt: skip
    reverse_ptr_allow: tuple[str, ...] = option("dns.reverse-ptr-allow", STR, (), "Name that the PTR records of any "
        "container may have as target, with all names below it, besides those of its own account (label "
        "triton.cns.reverse_ptr).", repeatable=True, check=_check_allowed)  # fmt: skip
    secondaries: tuple[Secondary, ...] = option("dns.secondary", text_kind(parse_secondary), (), "Secondary server, "
        "IP or IP:PORT, which is sent NOTIFY and may transfer the zones. After a space, the name of its TSIG key.",
        repeatable=True)  # fmt: skip
    transfer_from: tuple[Source, ...] = option("dns.transfer-from", text_kind(parse_source), (), "Address or network "
        "that may transfer the zones, too. After a space, the name of the TSIG key it must sign with.",
        repeatable=True)  # fmt: skip
    keys: Keys | None = option("dns.tsig-key-file", PATH, None, "TSIG keys as BIND writes them (tsig-keygen). With "
        "it, every transfer must be signed with one of them.")  # fmt: skip
    primaries: tuple[Primary, ...] = option("dns.register", text_kind(parse_primary), (), "Primary server to which "
        "one proxy at a time sends the records by UPDATE: IP or IP:PORT, and after a space the name of its TSIG key.",
        repeatable=True)  # fmt: skip
    register_owner: str = option("dns.register-owner", STR, "pymon", "Owner of the names in those servers: the same "
        "for all proxies, and different from that of any other installation.", check=_check_owner)  # fmt: skip
    responses_per_second: int = option("dns.responses-per-second", INT, 100, "Equal answers a second over UDP to a "
        "network (/24, IPv6 /56); others are dropped or truncated, so that clients retry over TCP. 0: no limit.",
        check=_check_rate)  # fmt: skip


def dns_options() -> tuple[Option, ...]:
    """The rows of the DNS server in the table of the command that runs it."""
    return options_of(DnsOptions)


def dns_errors(settings: Settings) -> Iterator[str]:
    """Yield one line for each error in the settings of `dns_options` and in the key file.

    If the key file cannot be read, that is the only error about keys.
    """
    path = settings["dns.tsig-key-file"]
    try:
        keys = load_keys(path) if path is not None else {}
    except ConfigError as error:
        yield str(error)
    else:
        yield from _key_errors(settings, keys)
    try:
        ReverseZones(settings["dns.reverse"])
    except ValueError as error:
        yield f"dns.reverse: {error}"


def _key_errors(settings: Settings, keys: Keys) -> Iterator[str]:
    for name in ("dns.secondary", "dns.transfer-from"):
        for entry in settings[name]:
            if entry.key is not None and entry.key not in keys:
                yield f"{name}: expected a key of dns.tsig-key-file, got {entry.key}"
    for secondary in settings["dns.secondary"]:
        if secondary.key is None and len(keys) > 1:
            expected = f"expected ADDRESS KEY as dns.tsig-key-file has {len(keys)} keys"
            yield f"dns.secondary: {expected}, got {secondary.address}"
    for primary in settings["dns.register"]:
        if primary.key not in keys:
            yield f"dns.register: expected a key of dns.tsig-key-file, got {primary.key}"


def typed(settings: Settings) -> DnsOptions:
    """Return the configuration from settings of `dns_options`. Raises ConfigError with the first error."""
    for error in dns_errors(settings):
        raise ConfigError(error)
    path = settings["dns.tsig-key-file"]
    keys = LiveKeys(path, lambda found: _key_errors(settings, found)) if path is not None else None
    return DnsOptions(**values_of(DnsOptions, settings) | {"keys": keys})
