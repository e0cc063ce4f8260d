"""The proxy's flags, which are its YAML keys and variables too."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pymon.config import (
    ADDRESS,
    BOOL,
    CONFIG_FILE,
    INT,
    LISTEN,
    PATH,
    STR,
    Address,
    ConfigError,
    Option,
    Settings,
    UnixAddress,
    load,
    load_file,
)
from pymon.directory.data_dir import DIRECTORY_FILE, default_data_dir
from pymon.peer import plain_address

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ZONE_MAX = 253 - len("00000000-0000-0000-0000-000000000000.cmon.")


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """What a proxy was told. directory: a URL or a path. terminator_trust: addresses of TLS terminators."""

    listen_addresses: tuple[Address, ...]
    telemetry_address: Address
    tls_cert: Path | None
    tls_key: Path | None
    data_dir: Path
    directory: str
    zone: str
    allow_expired_self_signed: bool
    terminator_addresses: tuple[Address | UnixAddress, ...]
    terminator_trust: frozenset[str]
    terminator_header: str
    upstream_ca: Path | None
    upstream_cert: Path | None
    upstream_key: Path | None
    upstream_max_requests: int
    include_stopped: bool
    log_level: Literal["debug", "info", "warn", "error"]
    log_format: Literal["logfmt", "json"]


def _zone(text: str) -> None:
    labels = text.split(".")
    if len(text) > _ZONE_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("a domain name in lower case such as example.com")


def _trust(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("an IP address") from None


def _header(text: str) -> None:
    if not _HEADER.fullmatch(text):
        raise ValueError("the name of a header")


def _positive(value: int) -> None:
    if value < 1:
        raise ValueError("1 or more")


DATA_DIR = Option(
    "data-dir", PATH, None,
    "Directory of the state: directory.db, copies of what was learned. Default: /var/lib/pymon as root, pymon in "
    "$XDG_DATA_HOME or ~/.local/share else.",
)  # fmt: skip
ZONE = Option("zone", STR, "pymon.internal", "DNS zone: containers are UUID.cmon.ZONE.", check=_zone)


def option_table() -> tuple[Option, ...]:
    """The proxy's options."""
    return (
        CONFIG_FILE,
        Option("web.listen-address", ADDRESS, (Address("", 9163),), "Address to listen on, with TLS.", repeatable=True),
        Option("telemetry.listen-address", ADDRESS, Address("127.0.0.1", 9165),
               "Address of the proxy's own metrics and health, without TLS."),
        Option("tls.cert-file", PATH, None, "Certificate (chain) in PEM for cmon.ZONE and *.cmon.ZONE; read again when "
               "it changes. Without one, terminators alone are served."),
        Option("tls.key-file", PATH, None, "Its key."),
        DATA_DIR,
        Option("directory", STR, None, "Accounts and nodes: a file of SQLite, or postgresql://... "
               "Default: directory.db in the data directory."),
        ZONE,
        Option("auth.allow-expired-self-signed", BOOL, False, "Take self-signed certificates of SSH keys for "
               "longer than they say, as Triton does."),
        Option("terminator.listen-address", LISTEN, (), "Address or unix:PATH for TLS terminators, without TLS.",
               repeatable=True),
        Option("terminator.trust", STR, (), "IP address of a terminator; those of unix:PATH need none.",
               repeatable=True, check=_trust),
        Option("terminator.header", STR, "Client-Cert", "Header in which terminators hand over the client's "
               "certificate: RFC 9440, escaped PEM or base64 DER.", check=_header),
        Option("upstream.tls-ca-file", PATH, None, "Authorities of the agents' certificates, in PEM. Default: the "
               "system's."),
        Option("upstream.tls-cert-file", PATH, None, "Certificate that the proxy shows to agents."),
        Option("upstream.tls-key-file", PATH, None, "Its key."),
        Option("upstream.max-requests", INT, 32, "Scrapes that one agent is given at the same time; more take turns.",
               check=_positive),
        Option("discovery.include-stopped", BOOL, False, "Discovery names stopped containers too, asked for or not."),
        Option("log.level", STR, "info", "Least level that is logged.", choices=("debug", "info", "warn", "error")),
        Option("log.format", STR, "logfmt", "Form of log lines.", choices=("logfmt", "json")),
    )  # fmt: skip


def _pair(settings: Settings, first: str, second: str) -> tuple[Path | None, Path | None]:
    values = settings[first], settings[second]
    if (values[0] is None) != (values[1] is None):
        missing, given = (first, second) if values[0] is None else (second, first)
        raise ConfigError(f"{missing}: expected with {given}, got nothing")
    return values


def _typed(settings: Settings, data_dir: Path) -> ProxyOptions:
    cert, key = _pair(settings, "tls.cert-file", "tls.key-file")
    upstream_cert, upstream_key = _pair(settings, "upstream.tls-cert-file", "upstream.tls-key-file")
    terminators = settings["terminator.listen-address"]
    trust = frozenset(plain_address(text) for text in settings["terminator.trust"])
    if cert is None and not terminators:
        raise ConfigError("tls.cert-file: expected a certificate or a terminator.listen-address, got neither")
    if any(isinstance(address, Address) for address in terminators) and not trust:
        raise ConfigError("terminator.trust: expected an address for the terminators that connect by TCP, got none")
    return ProxyOptions(
        listen_addresses=settings["web.listen-address"],
        telemetry_address=settings["telemetry.listen-address"],
        tls_cert=cert,
        tls_key=key,
        data_dir=data_dir,
        directory=settings["directory"] or str(data_dir / DIRECTORY_FILE),
        zone=settings["zone"],
        allow_expired_self_signed=settings["auth.allow-expired-self-signed"],
        terminator_addresses=terminators,
        terminator_trust=trust,
        terminator_header=settings["terminator.header"],
        upstream_ca=settings["upstream.tls-ca-file"],
        upstream_cert=upstream_cert,
        upstream_key=upstream_key,
        upstream_max_requests=settings["upstream.max-requests"],
        include_stopped=settings["discovery.include-stopped"],
        log_level=settings["log.level"],
        log_format=settings["log.format"],
    )


def load_proxy_options(
    argv: Sequence[str], environ: Mapping[str, str], uid: int, *, version: str = "", more: Sequence[Option] = ()
) -> tuple[ProxyOptions, Settings]:
    """The options of flags, variables and file, for a user, and all settings with those of the rows `more`.

    ConfigError on bad ones, SystemExit(0) after ``--help``.
    """
    settings = load(
        (*option_table(), *more),
        argv,
        environ,
        program="pymon proxy",
        description="Answer tenants' scrapes and discovery from the agents of many nodes.",
        version=version,
    )
    return _typed(settings, settings["data-dir"] or default_data_dir(environ, uid)), settings


def check_proxy_file(file: Path, more: Sequence[Option] = ()) -> Settings:
    """The settings of a file that a proxy would take, with the rows `more`. ConfigError when it would not."""
    table = (*option_table(), *more)
    settings = Settings({option.name: option.default for option in table} | load_file(table, file))
    _typed(settings, Path())
    return settings
