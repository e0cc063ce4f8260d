"""``pymon cert``: client certificates of accounts, server certificates of proxies and agents."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pymon.cli.new_files import NewFiles
from pymon.cli.prometheus import prometheus_yml
from pymon.cli.show import Document, print_list, print_one
from pymon.cli.verbs import (
    JSON,
    LABEL,
    Call,
    Verb,
    account_names,
    chosen_account,
    find_account,
    read_small,
    run_verb,
    state,
)
from pymon.config import ADDRESS, INT, PATH, Address, ConfigError, Option, shown
from pymon.directory.authority import CERTIFICATE_FILE, MAX_DAYS, Authority
from pymon.directory.directory import Directory
from pymon.directory.model import Certificate, DirectoryError, parse_fingerprint
from pymon.proxy.certificates import RSA_MIN_BITS, parse_certificate
from pymon.proxy.options import ZONE

PROXY_PORT = 9163
_CLIENT_DAYS = 3650
_SERVER_DAYS = 825


def run(argv: Sequence[str]) -> int:
    """Run a verb."""
    return run_verb("cert", VERBS, argv)


def _create(call: Call) -> int:
    folder: Path = _out(call)
    zone: str = call.settings["zone"]
    proxy: Address = call.settings["proxy"] or Address(f"cmon.{zone}", PROXY_PORT)
    with call.open() as directory:
        account = find_account(directory.snapshot(), call.arguments[0])
        authority = Authority.load_or_create(call.authority_dir)
        directory.set_authority(authority.der)
        days, label = call.settings["days"], call.settings["label"]
        files = issue_client(directory, authority, account.name, folder, days, label, zone, proxy)
    _print(files)
    return 0


def issue_client(
    directory: Directory,
    authority: Authority,
    account: str,
    folder: Path,
    days: int,
    label: str,
    zone: str,
    proxy: Address,
) -> list[Path]:
    """A client certificate of an account, in force, and what goes with it, in new files of a folder."""
    if f"{account}-cert.pem" == CERTIFICATE_FILE:
        raise DirectoryError(f"account {account}: its certificate's file would be the authority's, {CERTIFICATE_FILE}")
    certificate, key = authority.issue_client(account, days)
    files = {
        f"{account}-key.pem": (key, 0o600),
        f"{account}-cert.pem": (certificate, 0o644),
        CERTIFICATE_FILE: (authority.pem, 0o644),
        "prometheus.yml": (prometheus_yml(account, zone, proxy).encode(), 0o644),
    }
    with NewFiles(folder, files) as made:
        der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
        directory.add_certificate(account, der, issued=True, label=label)
    return made


def _server(call: Call) -> int:
    folder = _out(call)
    authority = Authority.load_or_create(call.authority_dir)
    certificate, key = authority.issue_server(call.arguments, call.settings["days"])
    files = {
        "server-key.pem": (key, 0o600),
        "server-cert.pem": (certificate, 0o644),
        CERTIFICATE_FILE: (authority.pem, 0o644),
    }
    with NewFiles(folder, files) as made:
        pass
    _print(made)
    return 0


def _print(files: Iterable[Path]) -> None:
    for file in files:
        print(file)


def _add(call: Call) -> int:
    name, file = call.arguments
    try:
        found = x509.load_pem_x509_certificates(read_small(file))
        names = found[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        raise ConfigError(f"{file}: expected a certificate in PEM, got something else") from None
    if len(found) != 1:
        raise ConfigError(f"{file}: expected one certificate, got {len(found)}")
    with call.open() as directory:
        account = find_account(directory.snapshot(), name)
        if [attribute.value for attribute in names] != [account.name]:
            got = shown(names[0].value) if len(names) == 1 else f"{len(names)} of them"
            raise ConfigError(f"{file}: expected a certificate whose subject's CN is {account.name}, got {got}")
        der = found[0].public_bytes(Encoding.DER)
        _check_usable(file, der)
        added = directory.add_certificate(name, der, issued=False, label=call.settings["label"])
    print(added.fingerprint)
    return 0


def _check_usable(file: str, der: bytes) -> None:
    """Raise ConfigError for a certificate that no proxy takes, whenever it is shown."""
    try:
        certificate = parse_certificate(der)
    except ValueError as error:
        raise ConfigError(f"{file}: expected a certificate that a proxy takes: {error}") from None
    if certificate.weak:
        raise ConfigError(
            f"{file}: expected a key of RSA from {RSA_MIN_BITS} bits, an elliptic curve from 256 bits, Ed25519 or "
            "Ed448, got another one"
        )
    if not certificate.for_clients:
        raise ConfigError(f"{file}: expected a certificate for clients, got one whose extended key usage is another")


def _document(certificate: Certificate, names: Mapping[UUID, str]) -> Document:
    return {
        "fingerprint": certificate.fingerprint,
        "account": names[certificate.account],
        "label": certificate.label,
        "state": state(time.time(), certificate.revoked_at, certificate.not_after),
        "issued": certificate.issued,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "created_at": certificate.created_at,
        "revoked_at": certificate.revoked_at,
    }


def _list(call: Call) -> int:
    snapshot = call.snapshot()
    account = chosen_account(snapshot, call.arguments)
    names = account_names(snapshot)
    found = (certificate for certificate in snapshot.certificates.values() if account in (None, certificate.account))
    columns = ("fingerprint", "account", "state", "issued", "not_after", "label")
    return print_list([_document(one, names) for one in found], columns, as_json=call.settings["json"])


def _show(call: Call) -> int:
    snapshot = call.snapshot()
    try:
        fingerprint = parse_fingerprint(call.arguments[0])
    except ValueError as error:
        raise ConfigError(f"certificate: expected {error}, got {shown(call.arguments[0])}") from None
    certificate = snapshot.certificates.get(fingerprint)
    if certificate is None:
        raise DirectoryError(f"certificate {fingerprint}: there is none of that fingerprint")
    return print_one(_document(certificate, account_names(snapshot)), as_json=call.settings["json"])


def _delete(call: Call) -> int:
    with call.open() as directory:
        directory.revoke_certificate(call.arguments[0])
    return 0


def _out(call: Call) -> Path:
    folder: Path | None = call.settings["out"]
    if folder is None:
        raise ConfigError("expected --out DIR")
    return folder


# --- the table -----------------------------------------------------------------------------------


def _named_proxy(address: Address) -> None:
    if not address.host or not address.port:
        raise ValueError("HOST:PORT")


def _days(default: int) -> Option:
    return Option("days", INT, default, f"How long it is valid, at most {MAX_DAYS}.", check=_check_days)


def _check_days(days: int) -> None:
    if not 1 <= days <= MAX_DAYS:
        raise ValueError(f"1 to {MAX_DAYS} days")


_OUT = Option("out", PATH, None, "Directory to write to; files that are there already are left alone.")

VERBS = (
    Verb("create", "ACCOUNT", "issue a client certificate: key, certificate and prometheus.yml in --out DIR", _create, (
        _OUT, _days(_CLIENT_DAYS), LABEL,
        ZONE,
        Option("proxy", ADDRESS, None, f"The proxy. Default: cmon.ZONE:{PROXY_PORT}.", check=_named_proxy),
    )),
    Verb("add", "ACCOUNT FILE.pem", "register a client certificate; prints its fingerprint", _add, (LABEL,)),
    Verb("list", "[ACCOUNT]", "list the certificates", _list, (JSON,)),
    Verb("show", "FINGERPRINT", "show a certificate", _show, (JSON,)),
    Verb("delete", "FINGERPRINT", "make a certificate worthless", _delete),
    Verb("server", "NAME [NAME ...]", "issue a server certificate for DNS names and addresses in --out DIR", _server, (
        _OUT, _days(_SERVER_DAYS),
    )),
)  # fmt: skip
