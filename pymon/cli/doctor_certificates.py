"""The lines of ``pymon doctor`` about certificates: which ones the wrong authority has issued, and the remedy for each.

The issuing authority is identified by its name, because its files may be on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from pymon.agent.web_config import load_web_config
from pymon.config import ConfigError, Settings
from pymon.directory.authority import CERTIFICATE_FILE, PROXY_PREFIX
from pymon.directory.data_dir import AUTHORITY_FOLDER, MACHINES_FOLDER

_MAX_BYTES = 1 << 20
_MACHINES = "pymon machines "
_TENANTS = ("pymon tenants ", "pymon authority ")
"""Prefixes of the names of authorities that issue certificates for accounts.

An authority with the second prefix has also issued certificates for servers.
"""


def report(settings: Settings, data_dir: Path) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a line: for each authority on this machine, and for each certificate to replace."""
    for name, folder in (("tenants' authority", AUTHORITY_FOLDER), ("machines' authority", MACHINES_FOLDER)):
        file = data_dir / folder / CERTIFICATE_FILE
        if _is_there(file):
            yield name, str(file.parent)
    tenants = _names(data_dir / AUTHORITY_FOLDER / CERTIFICATE_FILE)
    if any(name.startswith(_TENANTS[1]) for name in tenants) and not _is_there(data_dir / MACHINES_FOLDER):
        yield "machines' authority", "none yet; the next pymon up or pymon cert server, proxy or create makes it"
    for line in _to_replace(settings, data_dir):
        yield "replace", line


def _to_replace(settings: Settings, data_dir: Path) -> Iterator[str]:
    own = data_dir / "tls" / "server-cert.pem"
    if _is_of_tenants(own):
        yield (
            f"{own}: signed by the tenants' authority; give the tenants "
            f"{data_dir / MACHINES_FOLDER / CERTIFICATE_FILE}, remove {own} and start pymon up again"
        )
    served: Path | None = settings["tls.cert-file"]
    if served is not None and _is_of_tenants(served):
        yield (
            f"{served}: signed by the tenants' authority; give the tenants ca-cert.pem of the machines' authority, "
            f"then: {_server_command(served)}"
        )
    shown: Path | None = settings["upstream.tls-cert-file"]
    if shown is not None and _is_of_tenants(shown):
        yield f"{shown}: signed by the tenants' authority, so no proxy's; pymon cert proxy NAME --out DIR"
    trusted: Path | None = settings["upstream.tls-ca-file"]
    if trusted is not None and any(name.startswith(_TENANTS) for name in _names(trusted)):
        yield f"{trusted}: holds the tenants' authority; take it out when no agent has a certificate of it"
    web: Path | None = settings["web.config.file"]
    if web is not None:
        yield from _of_agent(web)


def _of_agent(file: Path) -> Iterator[str]:
    try:
        tls = load_web_config(file).tls
    except ConfigError as error:
        yield f"{error}"
        return
    if tls is None:
        return
    if isinstance(tls.cert, Path) and _is_of_tenants(tls.cert):
        yield f"{tls.cert}: signed by the tenants' authority; {_server_command(tls.cert)}"
    trusted = [] if tls.client_ca is None else _names(tls.client_ca)
    if any(name.startswith(_TENANTS) for name in trusted):
        yield (
            f"{file}: client_ca admits every tenant to the numbers of all; ca-cert.pem of pymon cert server, and "
            f"client_allowed_sans with {PROXY_PREFIX}NAME of each proxy"
        )
    elif any(name.startswith(_MACHINES) for name in trusted) and not tls.client_allowed_sans:
        yield f"{file}: no client_allowed_sans; add {PROXY_PREFIX}NAME of each proxy, so that one can be taken out"


def _server_command(file: Path) -> str:
    names = "NAME"
    for certificate in _certificates(file)[:1]:
        try:
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound):
            continue
        names = " ".join(f"'{name.value}'" if "*" in str(name.value) else str(name.value) for name in found)
    return f"pymon cert server {names} --out DIR"


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:
        return False


def _certificates(source: str | Path) -> list[x509.Certificate]:
    """Return the certificates in PEM text or in a file; an empty list if it cannot be read or holds something else."""
    try:
        if isinstance(source, str):
            data = source.encode()
        else:
            with source.open("rb") as stream:
                data = stream.read(_MAX_BYTES)
        return x509.load_pem_x509_certificates(data)
    except (OSError, ValueError):
        return []


def _names(source: str | Path) -> list[str]:
    """Return the common names of the subjects of the certificates in PEM text or in a file."""
    return [name for certificate in _certificates(source) for name in _common_names(certificate.subject)]


def _common_names(name: x509.Name) -> list[str]:
    return [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _is_of_tenants(file: Path) -> bool:
    """Return whether an authority that issues certificates for accounts has issued the first certificate in a file."""
    return any(name.startswith(_TENANTS) for one in _certificates(file)[:1] for name in _common_names(one.issuer))
