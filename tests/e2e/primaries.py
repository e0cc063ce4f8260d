"""Debian's BIND, Knot and PowerDNS as primary servers on loopback, each in a directory of its own.

with started("bind", tmp_path, {"pymon.test.": FOREIGN}) as primary:
    primary.records("pymon.test.")
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from pymon.config import Address
from tests.live.world import until

ALGORITHM = "hmac-sha256"
SECRETS = {name: base64.b64encode(name.encode() * 4).decode() for name in ("pymon-key", "admin-key", "other-key")}


def key(name: str) -> dns.tsig.Key:
    return dns.tsig.Key(name, SECRETS[name], ALGORITHM)


PYMON, ADMIN, OTHER = map(key, SECRETS)

SECONDS_FOR_A_WHOLE_TRANSFER = 90
_NOT_REGISTERED = {"SOA", "NS", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY", "TYPE65534"}


class Primary:
    """A server. `other-key` is known to it and may do nothing, `admin-key` everything, `pymon-key` what it should."""

    program = ""

    def __init__(self, folder: Path, zones: Mapping[str, str], transfers: bool, host: str) -> None:
        folder.mkdir()
        self.folder = folder
        self.zones = zones
        self.transfers = transfers
        with socket.socket() as probe:
            probe.bind((host, 0))
            self.address = Address(host, probe.getsockname()[1])
        for zone, text in zones.items():
            head = f"$ORIGIN {zone}\n$TTL 300\n@ SOA ns.invalid. admin.invalid. 1 3600 60 86400 30\n@ NS ns.invalid.\n"
            (folder / f"{zone}zone").write_text(head + text + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self) -> None:
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.folder, stdout=log, stderr=log)
        until(f"{self.program} serves its zones", self._serves)

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return all(self._ask(zone, "SOA").answer for zone in self.zones)
        except (OSError, EOFError, dns.exception.DNSException):
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def records(self, zone: str) -> set[tuple[str, str, int, str]]:
        """Name, type, TTL and data of all but SOA, NS and what signing adds, by a transfer.

        Knot ends one of a zone that changes meanwhile; the next one begins with what is there then.
        """
        deadline = time.monotonic() + SECONDS_FOR_A_WHOLE_TRANSFER
        while True:
            try:
                return self._transferred(zone)
            except (EOFError, ConnectionError):
                assert time.monotonic() < deadline, f"{zone}: no whole transfer in {SECONDS_FOR_A_WHOLE_TRANSFER} s"

    def _transferred(self, zone: str) -> set[tuple[str, str, int, str]]:
        found = set()
        messages = dns.query.xfr(
            self.address.host, zone, port=self.address.port, relativize=False, lifetime=20,
            keyring={ADMIN.name: ADMIN}, keyname=ADMIN.name, keyalgorithm=ADMIN.algorithm,
        )  # fmt: skip
        for message in messages:
            for rrset in message.answer:
                name, kind = rrset.name.to_text().lower(), dns.rdatatype.to_text(rrset.rdtype)
                if kind not in _NOT_REGISTERED:
                    found |= {(name, kind, rrset.ttl, rdata.to_text()) for rdata in rrset}
        return found

    def serial(self, zone: str) -> int:
        return self._ask(zone, "SOA").answer[0][0].serial

    def edit(self, zone: str, *lines: str) -> None:
        """Lines ``add NAME TTL TYPE DATA`` and ``delete NAME [TYPE]``, as the administrator; names are absolute."""
        message = dns.update.UpdateMessage(zone, keyring=ADMIN)
        for line in lines:
            word, name, *rest = line.split(maxsplit=4)
            if word == "add":
                message.add(dns.name.from_text(name), int(rest[0]), *rest[1:])
            else:
                message.delete(dns.name.from_text(name), *rest)
        answer = dns.query.tcp(message, self.address.host, 10, self.address.port)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def _ask(self, name: str, kind: str) -> dns.message.Message:
        return dns.query.tcp(dns.message.make_query(name, kind), self.address.host, 5, self.address.port)


class Bind(Primary):
    program = "named"

    def configure(self) -> None:
        keys = "".join(
            f'key "{name}" {{ algorithm {ALGORITHM}; secret "{secret}"; }};\n' for name, secret in SECRETS.items()
        )
        readers = 'key "admin-key"; ' + ('key "pymon-key"; ' if self.transfers else "")
        zones = "".join(
            f'zone "{zone}" {{ type primary; file "{zone}zone"; allow-transfer {{ {readers} }};\n'
            f"  {self.policy(zone)} }};\n"
            for zone in self.zones
        )
        (self.folder / "named.conf").write_text(
            f'options {{ directory "{self.folder}"; pid-file none; session-keyfile none; recursion no; notify no;\n'
            f"  listen-on port {self.address.port} {{ {self.address.host}; }}; listen-on-v6 {{ none; }};\n"
            f"  dnssec-validation no; check-integrity no; }};\ncontrols {{ }};\n{keys}{zones}"
        )

    def policy(self, zone: str) -> str:
        return 'allow-update { key "admin-key"; key "pymon-key"; };'

    def command(self) -> Sequence[str | Path]:
        return (self.program, "-g", "-c", self.folder / "named.conf")


class BindWithPolicy(Bind):
    """Lets pymon register below inst and cmon, and nothing else."""

    def policy(self, zone: str) -> str:
        accounts = [f"inst.{account}.{zone}" for account in ("alice", "00000000-0000-0000-0000-000000000007")]
        subtrees = (*accounts, f"cmon.{zone}", f"_pymon.cmon.{zone}", f"_pymon.{zone}")
        grants = "".join(f'grant "pymon-key" subdomain "{name}" ANY; ' for name in subtrees)
        return f'update-policy {{ grant "admin-key" zonesub ANY; {grants} }};'


class BindThatSigns(Bind):
    def policy(self, zone: str) -> str:
        return f"{super().policy(zone)} dnssec-policy default; inline-signing no;"


class Knot(Primary):
    program = "knotd"
    signing = "off"

    def configure(self) -> None:
        keys = "".join(
            f"  - id: {name}\n    algorithm: {ALGORITHM}\n    secret: {secret}\n" for name, secret in SECRETS.items()
        )
        zones = "".join(
            f"  - domain: {zone}\n    storage: {self.folder}\n    file: {zone}zone\n    acl: [admin, pymon]\n"
            f"    dnssec-signing: {self.signing}\n"
            for zone in self.zones
        )
        (self.folder / "db").mkdir()
        (self.folder / "knot.conf").write_text(
            f"server:\n    rundir: {self.folder}\n    listen: {self.address.host}@{self.address.port}\n"
            f"database:\n    storage: {self.folder}/db\ncontrol:\n    listen: {self.folder}/control\n"
            f"key:\n{keys}acl:\n  - id: admin\n    key: admin-key\n    action: [update, transfer]\n"
            f"  - id: pymon\n    key: pymon-key\n    action: [update{', transfer' if self.transfers else ''}]\n"
            f"zone:\n{zones}log:\n  - target: stderr\n    any: info\n"
        )

    def command(self) -> Sequence[str | Path]:
        return (self.program, "-c", self.folder / "knot.conf")


class KnotThatSigns(Knot):
    signing = "on"


class PowerDNS(Primary):
    program = "pdns_server"

    def configure(self) -> None:
        schema = Path("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
        if not schema.exists():
            pytest.skip(f"needs {schema}")
        with contextlib.closing(sqlite3.connect(self.folder / "pdns.db")) as database:
            database.executescript(schema.read_text())
        (self.folder / "pdns.conf").write_text(
            f"launch=gsqlite3\ngsqlite3-database={self.folder}/pdns.db\ngsqlite3-dnssec=yes\n"
            f"gsqlite3-pragma-synchronous=0\nlocal-address={self.address.host}\nlocal-port={self.address.port}\n"
            # Relative: a path of a socket has at most 107 bytes.
            "socket-dir=.\n"
            "daemon=no\nguardian=no\ndnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\n"
            "allow-axfr-ips=\nsecurity-poll-suffix=\n"
        )
        for name, secret in SECRETS.items():
            self._util("import-tsig-key", name, ALGORITHM, secret)
        for zone in self.zones:
            self._util("load-zone", zone, self.folder / f"{zone}zone")
            self._util("set-meta", zone, "TSIG-ALLOW-DNSUPDATE", "admin-key", "pymon-key")
            self._util("set-meta", zone, "TSIG-ALLOW-AXFR", "admin-key", *(["pymon-key"] if self.transfers else []))

    def _util(self, *words: str | Path) -> None:
        command = ["pdnsutil", f"--config-dir={self.folder}", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done

    def command(self) -> Sequence[str | Path]:
        return (self.program, f"--config-dir={self.folder}")


class PowerDNSThatSigns(PowerDNS):
    def configure(self) -> None:
        super().configure()
        for zone in self.zones:
            self._util("secure-zone", zone)


KINDS = {
    "bind": Bind,
    "bind with a policy": BindWithPolicy,
    "bind that signs": BindThatSigns,
    "knot": Knot,
    "knot that signs": KnotThatSigns,
    "powerdns": PowerDNS,
    "powerdns that signs": PowerDNSThatSigns,
}


@contextlib.contextmanager
def started(
    kind: str, folder: Path, zones: Mapping[str, str], *, transfers: bool = True, host: str = "127.0.0.1"
) -> Iterator[Primary]:
    made = KINDS[kind]
    if shutil.which(made.program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
        pytest.skip(f"needs {made.program}")
    primary = made(folder / kind.replace(" ", "-"), zones, transfers, host)
    try:
        primary.start()
        yield primary
    finally:
        primary.stop()
