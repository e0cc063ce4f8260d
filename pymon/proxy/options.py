"""The proxy's options: command-line flags, YAML keys and environment variables."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.config import (
    ADDRESS,
    BOOL,
    CONFIG_FILE,
    INT,
    LISTEN,
    LOG_FORMAT,
    LOG_LEVEL,
    PATH,
    SECONDS,
    STR,
    Address,
    ConfigError,
    Listen,
    Option,
    Settings,
    load,
    option,
    options_of,
    setting,
    text_kind,
    values_of,
)
from pymon.data_dir import DATA_DIR, default_data_dir
from pymon.directory.data_dir import DIRECTORY_FILE
from pymon.directory.url import identity
from pymon.peer import plain_address
from pymon.proxy.claims import MAX_CONTAINERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pymon.config import LogFormat, LogLevel

MAX_WORKERS = 64

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?")
_SRV_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ZONE_MAX = 253 - len("00000000-0000-0000-0000-000000000000.cmon.")


def _zone(text: str) -> None:
    labels = text.split(".")
    if len(text) > _ZONE_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("a domain name in lower case such as example.com")


def _trusted(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("an IP address") from None
    return plain_address(text)


def _srv(text: str) -> str:
    scheme, _, name = text.partition("://")
    if scheme not in ("http", "https") or not _SRV_NAME.fullmatch(name):
        raise ValueError("https://_SERVICE._tcp.DOMAIN, or with http")
    return text


def _header(text: str) -> None:
    if not _HEADER.fullmatch(text):
        raise ValueError("the name of a header")


def _positive(value: int) -> None:
    if value < 1:
        raise ValueError("1 or more")


def _workers(value: int) -> None:
    if not 1 <= value <= MAX_WORKERS:
        raise ValueError(f"1 to {MAX_WORKERS}")


ZONE = Option("zone", STR, "pymon.internal", "DNS zone: containers are UUID.cmon.ZONE.", check=_zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The settings of a proxy. directory: a URL or a path. terminator_trust: IP addresses in their shortest form."""

    listen_addresses: tuple[Address, ...] = option("web.listen-address", ADDRESS, (Address("", 9163),), "Address to "
        "listen on, with TLS.", repeatable=True)  # fmt: skip
    telemetry_address: Address = option("telemetry.listen-address", ADDRESS, Address("127.0.0.1", 9165), "Address of "
        "the proxy's own metrics and health, without TLS.")  # fmt: skip
    tls_cert: Path | None = option("tls.cert-file", PATH, None, "Certificate (chain) in PEM for cmon.ZONE and "
        "*.cmon.ZONE; read again when it changes. Without one, terminators alone are served.")  # fmt: skip
    tls_key: Path | None = option("tls.key-file", PATH, None, "Its key.")
    data_dir: Path = setting(DATA_DIR)
    directory: str = option("directory", STR, None, "Accounts and nodes: a file of SQLite, or postgresql://... "
        "Default: directory.db in the data directory.")  # fmt: skip
    zone: str = setting(ZONE)
    allow_expired_self_signed: bool = option("auth.allow-expired-self-signed", BOOL, False, "Take self-signed "
        "certificates of SSH keys for longer than they say, as Triton does.")  # fmt: skip
    terminator_addresses: tuple[Listen, ...] = option("terminator.listen-address", LISTEN, (), "Address or unix:PATH "
        "for TLS terminators, without TLS.", repeatable=True)  # fmt: skip
    terminator_trust: tuple[str, ...] = option("terminator.trust", text_kind(_trusted), (), "IP address of a "
        "terminator; those of unix:PATH need none.", repeatable=True)  # fmt: skip
    terminator_header: str = option("terminator.header", STR, "Client-Cert", "Header in which terminators hand over "
        "the client's certificate: RFC 9440, escaped PEM or base64 DER.", check=_header)  # fmt: skip
    connection_age_seconds: float = option("web.max-connection-age", SECONDS, 600.0, "Age of a connection, more or "
        "less, at which it is closed after an answer, so that load spreads over the proxies again. 0: no "
        "limit.")  # fmt: skip
    drain_seconds: float = option("drain", SECONDS, 5.0, "How long to go on serving after SIGTERM, out of DNS and not "
        "ready, so that clients change to another proxy without an error.")  # fmt: skip
    upstream_ca: Path | None = option("upstream.tls-ca-file", PATH, None, "Authorities of the agents' certificates, "
        "in PEM. Default: the system's.")  # fmt: skip
    upstream_cert: Path | None = option("upstream.tls-cert-file", PATH, None, "Certificate that the proxy shows to "
        "agents.")  # fmt: skip
    upstream_key: Path | None = option("upstream.tls-key-file", PATH, None, "Its key.")
    upstream_max_requests: int = option("upstream.max-requests", INT, 32, "Scrapes sent to one agent at the same "
        "time; others take turns.", check=_positive)  # fmt: skip
    node_max_containers: int = option("node.max-containers", INT, MAX_CONTAINERS, "Containers that one node may have; "
        "those that come later are left out.", check=_positive)  # fmt: skip
    workers: int = option("workers", INT, 1, "Processes that answer tenants on the same addresses. With 1, the process "
        "that follows the nodes answers itself.", check=_workers)  # fmt: skip
    node_file: Path | None = option("node.file", PATH, None, "List of nodes in the format of Prometheus's "
        "file_sd_configs, which the directory follows.")  # fmt: skip
    node_srv: str | None = option("node.srv", text_kind(_srv), None, "Name with SRV records of agents, as "
        "https://_pymon._tcp.example.com or with http, which the directory follows.")  # fmt: skip
    peer_address: Address | None = option("peer.address", ADDRESS, None, "Address at which other proxies reach "
        "this one. Default: where it listens, or else the first dns.proxy-address with that port.")  # fmt: skip
    peer_crl: Path | None = option("peer.crl-file", PATH, None, "Revocation list in PEM, from `pymon cert crl`: "
        "a proxy in it is no peer.")  # fmt: skip
    include_stopped: bool = option("discovery.include-stopped", BOOL, False, "Discovery names stopped containers too, "
        "asked for or not.")  # fmt: skip
    access_log: Path | None = option("access-log", PATH, None, "File that gets a line for each request, in the form "
        "of log.format; - is standard output. It is opened again after it was renamed.")  # fmt: skip
    log_level: LogLevel = setting(LOG_LEVEL)
    log_format: LogFormat = setting(LOG_FORMAT)


def option_table() -> tuple[Option, ...]:
    """Return the rows of the proxy's options."""
    return CONFIG_FILE, *options_of(ProxyOptions)


def proxy_errors(settings: Settings) -> Iterator[str]:
    """Yield an error text of one line for each conflict between the proxy's settings."""
    for pair in (("tls.cert-file", "tls.key-file"), ("upstream.tls-cert-file", "upstream.tls-key-file")):
        missing = [name for name in pair if settings[name] is None]
        if len(missing) == 1:
            given = pair[1 - pair.index(missing[0])]
            yield f"{missing[0]}: expected with {given}, got nothing"
    terminators = settings["terminator.listen-address"]
    if settings["tls.cert-file"] is None and settings["tls.key-file"] is None and not terminators:
        yield "tls.cert-file: expected a certificate or a terminator.listen-address, got neither"
    if any(isinstance(address, Address) for address in terminators) and not settings["terminator.trust"]:
        yield "terminator.trust: expected an address for the terminators that connect by TCP, got none"
    if settings["directory"] is not None:
        try:
            identity(settings["directory"])
        except ConfigError as error:
            yield str(error)


def _typed(settings: Settings, data_dir: Path) -> ProxyOptions:
    for error in proxy_errors(settings):
        raise ConfigError(error)
    derived = {"data_dir": data_dir, "directory": settings["directory"] or str(data_dir / DIRECTORY_FILE)}
    return ProxyOptions(**values_of(ProxyOptions, settings) | derived)


def load_proxy_options(
    argv: Sequence[str], environ: Mapping[str, str], uid: int, *, version: str = "", more: Sequence[Option] = ()
) -> tuple[ProxyOptions, Settings]:
    """Read the options from flags, environment variables and the configuration file.

    uid: of the user, for the default data directory. more: further option rows to accept. Return the proxy's options,
    and all settings including those of `more`. Raises ConfigError for bad options and SystemExit(0) after ``--help``.
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
