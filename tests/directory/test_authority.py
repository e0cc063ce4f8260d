"""Certificates of pymon's own authority, as openssl sees them."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from pymon.config import ConfigError
from pymon.directory.authority import MACHINES, TENANTS, Authority
from pymon.directory.model import DirectoryError


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.load_or_create(tmp_path / "authority")


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_files_and_modes(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = Authority.load_or_create(tmp_path / "deep" / "authority")
    finally:
        os.umask(old)
    folder = tmp_path / "deep" / "authority"
    assert [mode(folder), mode(folder / "ca-key.pem"), mode(folder / "ca-cert.pem")] == [0o700, 0o600, 0o644]
    assert [path.name for path in folder.parent.iterdir()] == ["authority"]
    assert Authority.load_or_create(folder).der == made.der


@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_openssl_verifies(tmp_path: Path, authority: Authority, purpose: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    issue = authority.issue_client("alice", 30) if purpose == "sslclient" else authority.issue_server(["a.b"], 30)
    (tmp_path / "cert.pem").write_bytes(issue[0])
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", "authority/ca-cert.pem", "cert.pem"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "cert.pem: OK\n", done.stderr


def test_a_client_certificate_names_the_account_and_is_no_server(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue_client("al.ice@x", 30)[0])
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.subject.rfc4514_string() == "CN=al.ice@x"
    usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    days = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(days=29, hours=23) < days <= dt.timedelta(days=30)


def test_a_server_certificate_is_no_client(tmp_path: Path, authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue_server(["node1.example"], 30)[0])
    usage = certificate.extensions.get_extension_for_oid(ExtensionOID.EXTENDED_KEY_USAGE).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize("kind", [TENANTS, MACHINES])
def test_an_authority_says_whose_it_is(tmp_path: Path, kind: str) -> None:
    made = Authority.load_or_create(tmp_path / "ca", kind)
    assert made.certificate.subject.rfc4514_string().startswith(f"CN=pymon {kind} ")
    assert not made.issued_for_both_sides


def test_a_certificate_ends_with_its_authority(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.issue_client("alice", 3650)[0])
    assert certificate.not_valid_after_utc <= authority.certificate.not_valid_after_utc


def test_server_names(authority: Authority) -> None:
    names = ["cmon.x", "*.cmon.x", "10.0.0.1", "::1", "a" * 63 + "." + "b" * 63]
    certificate = x509.load_pem_x509_certificate(authority.issue_server(names, 1)[0])
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in found] == names


@pytest.mark.parametrize(
    "name", ["", "a b", "a\nb", "ä.example", "a..b", "-a", "*", "*.*.x", "x" * 64, "a/b", "10.0.0.0/8"]
)
def test_what_no_server_is_called(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a DNS name or an IP address"):
        authority.issue_server([name], 1)


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_days(authority: Authority, days: int) -> None:
    with pytest.raises(ConfigError, match="days: expected 1 to 3650"):
        authority.issue_client("alice", days)


@pytest.mark.parametrize("name", ["ca-key.pem", "ca-cert.pem"])
def test_a_lost_file_is_no_new_authority(tmp_path: Path, authority: Authority, name: str) -> None:
    kept = {"ca-key.pem", "ca-cert.pem"} - {name}
    (tmp_path / "authority" / name).unlink()
    with pytest.raises(DirectoryError, match=f"{name}: cannot be read"):
        Authority.load_or_create(tmp_path / "authority")
    assert {path.name for path in (tmp_path / "authority").iterdir()} == kept


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["ca-key.pem", "ca-cert.pem"])
def test_damaged_files(tmp_path: Path, authority: Authority, name: str, data: bytes) -> None:
    (tmp_path / "authority" / name).write_bytes(data)
    with pytest.raises(DirectoryError, match=f"{name}: expected a"):
        Authority.load_or_create(tmp_path / "authority")


def test_the_key_of_another_authority(tmp_path: Path, authority: Authority) -> None:
    Authority.load_or_create(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "ca-key.pem", tmp_path / "authority" / "ca-key.pem")
    with pytest.raises(DirectoryError, match=r"ca-key.pem: not the key of"):
        Authority.load(tmp_path / "authority")


def test_processes_that_make_it_at_once_make_one(tmp_path: Path) -> None:
    code = (
        "import sys, hashlib; from pathlib import Path; from pymon.directory.authority import Authority;"
        "print(hashlib.sha256(Authority.load_or_create(Path(sys.argv[1])).der).hexdigest())"
    )
    command = [sys.executable, "-c", code, tmp_path / "authority"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [error for _, error in answers] == [""] * 6
    assert len({out for out, _ in answers}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["authority"]
