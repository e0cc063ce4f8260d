"""``pymon cert``: client certificates of accounts, server certificates of proxies and agents, client certificates of
proxies.
"""

from __future__ import annotations

import os
import pwd
import stat
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pymon.cli.new_files import NewFiles, put_file
from pymon.cli.next_step import after_certificate
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
from pymon.config import ADDRESS, INT, PATH, STR, Address, ConfigError, Option, shown
from pymon.directory.authority import CERTIFICATE_FILE, MAX_DAYS, SERVER_DAYS, Authority
from pymon.directory.directory import Directory
from pymon.directory.machines import Machines, machines_trust
from pymon.directory.model import Certificate, DirectoryError, parse_fingerprint
from pymon.proxy.certificates import RSA_MIN_BITS, parse_certificate
from pymon.proxy.options import ZONE

PROXY_PORT = 9163
_CLIENT_DAYS = 3650


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("cert", VERBS, argv)


def _create(call: Call) -> int:
    folder: Path = _out(call)
    owner = _user(call.settings["owner"], folder) if call.settings["owner"] else None
    site = call.site()
    zone: str = site.zone if site is not None and "zone" not in call.settings.given else call.settings["zone"]
    known = site.proxy if site is not None and site.zone == zone else Address(f"cmon.{zone}", PROXY_PORT)
    proxy: Address = call.settings["proxy"] or known
    made = not folder.exists()
    with call.open() as directory:
        account = find_account(directory.snapshot(), call.arguments[0])
        authority = Authority.load_or_create(call.authority_dir)
        trust = machines_trust(call.machines_dir, authority)
        directory.set_authority(authority.der)
        days, label = call.settings["days"], call.settings["label"]
        files = issue_client(directory, authority, trust, account.name, folder, days, label, zone, proxy)
    if owner is not None:
        if made:
            folder.chmod(0o755)  # regardless of the umask
        os.chown(folder / f"{account.name}-key.pem", owner.pw_uid, owner.pw_gid, follow_symlinks=False)
    _print(files)
    sys.stdout.flush()
    if site is not None:
        sys.stderr.write(after_certificate(account.name, folder, owner))
    return 0


def _user(name: str, folder: Path) -> pwd.struct_passwd:
    """Return the user who is to own the key in a folder.

    Raises ConfigError if the user does not exist or cannot reach the folder, if this process may not give files away,
    or if somebody else can change a directory on the way to the folder.
    """
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise ConfigError(f"--owner: expected a user of this machine, got {shown(name)}") from None
    here = os.geteuid()
    if here not in (0, user.pw_uid):
        raise ConfigError(f"--owner: expected to be run by root, who alone gives files to {name}")
    groups = os.getgrouplist(name, user.pw_gid)
    for directory in filter(Path.exists, (folder.absolute(), *folder.absolute().parents)):
        status = directory.stat()
        shift = 6 if status.st_uid == user.pw_uid else 3 if status.st_gid in groups else 0
        if not status.st_mode >> shift & 1 and user.pw_uid != 0:
            raise ConfigError(f"--out: expected a directory that {name} can reach, which {directory} is not")
        # Whoever can rename a directory on this path could choose which file is given to the user.
        others = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, here) or others:
            raise ConfigError(f"--out: expected a directory that only root can change, which {directory} is not")
    return user


def issue_client(
    directory: Directory,
    authority: Authority,
    trust: bytes,
    account: str,
    folder: Path,
    days: int,
    label: str,
    zone: str,
    proxy: Address,
) -> list[Path]:
    """Issue a client certificate, and add it to the account in the directory. Return the files that hold it.

    The files are new files in `folder`: the key, the certificate, `trust` and a prometheus.yml.
    authority: the tenants' authority.
    trust: the certificates, in PEM, of the authorities that sign the proxy's certificate.
    days: how long the certificate is valid.
    Raises DirectoryError if one of the files exists, and OSError.
    """
    if f"{account}-cert.pem" == CERTIFICATE_FILE:
        raise DirectoryError(f"account {account}: its certificate's file would be the authority's, {CERTIFICATE_FILE}")
    certificate, key = authority.issue_client(account, days)
    files = {
        f"{account}-key.pem": (key, 0o600),
        f"{account}-cert.pem": (certificate, 0o644),
        CERTIFICATE_FILE: (trust, 0o644),
        "prometheus.yml": (prometheus_yml(account, zone, proxy).encode(), 0o644),
    }
    with NewFiles(folder, files) as made:
        der = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
        directory.add_certificate(account, der, issued=True, label=label)
    return made


def _server(call: Call) -> int:
    folder = _out(call)
    authority = Machines.load_or_create(call.machines_dir).authority
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


def _proxy(call: Call) -> int:
    folder = _out(call)
    machines = Machines.load_or_create(call.machines_dir)
    folder.mkdir(parents=True, exist_ok=True)
    authority_file, file = folder / CERTIFICATE_FILE, folder / "proxy.pem"
    # The authority is written first, so that it is there for every reader that sees the new certificate.
    put_file(authority_file, machines.authority.pem, 0o644)
    put_file(file, machines.issue_proxy(call.arguments[0]), 0o600)
    _print([file, authority_file])
    return 0


def _revoke(call: Call) -> int:
    name = call.arguments[0]
    if not Machines.load(call.machines_dir).revoke_proxy(name):
        raise DirectoryError(f"proxy {shown(name)}: no certificate that is in force was issued here for it")
    return 0


def _crl(call: Call) -> int:
    file: Path | None = call.settings["out"]
    if file is None:
        raise ConfigError("expected --out FILE")
    put_file(file, Machines.load(call.machines_dir).revocation_list(), 0o644)
    _print([file])
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
    """Raise ConfigError if a proxy would refuse a certificate at any time. file: its name for the message."""
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
        raise DirectoryError(f"certificate {fingerprint}: not found")
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
        Option("proxy", ADDRESS, None, f"The proxy. Default: that of `pymon up` here, else cmon.ZONE:{PROXY_PORT}.",
               check=_named_proxy),
        Option("owner", STR, None, "User to give the key to: the one that Prometheus runs as, who has to read it."),
    )),
    Verb("add", "ACCOUNT FILE.pem", "register a client certificate; prints its fingerprint", _add, (LABEL,)),
    Verb("list", "[ACCOUNT]", "list the certificates", _list, (JSON,)),
    Verb("show", "FINGERPRINT", "show a certificate", _show, (JSON,)),
    Verb("delete", "FINGERPRINT", "delete a certificate, which is refused from then on", _delete),
    Verb("server", "NAME [NAME ...]", "issue a proxy's or an agent's server certificate, for DNS names and addresses, "
         "in --out DIR", _server, (_OUT, _days(SERVER_DAYS))),
    Verb("proxy", "NAME", "issue the client certificate that a proxy shows to agents, valid for 24 hours, in --out DIR",
         _proxy, (Option("out", PATH, None, "Directory to write to; its proxy.pem and ca-cert.pem are replaced."),)),
    Verb("revoke", "PROXY", "revoke every client certificate that a proxy got; crl writes the list", _revoke),
    Verb("crl", "", "write the list of revoked proxies for agents' client_crl_file to --out FILE", _crl, (
        Option("out", PATH, None, "File to write; it is replaced."),
    )),
)  # fmt: skip
