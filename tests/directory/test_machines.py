"""The authority of machines: proxies' certificates, their notes, the list of revoked ones, and what clients trust."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from pymon.config import ConfigError
from pymon.directory import machines as module
from pymon.directory.authority import Authority
from pymon.directory.machines import Machines, machines_trust
from pymon.directory.model import DirectoryError


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines.load_or_create(tmp_path / "authority-machines")


def certificate_of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem)[0]


def serials(machines: Machines) -> set[int]:
    return {entry.serial_number for entry in x509.load_pem_x509_crl(machines.revocation_list())}


def test_a_proxys_certificate_has_its_name_for_a_day_and_is_no_server(machines: Machines) -> None:
    pem = machines.issue_proxy("front-1.example")
    certificate = certificate_of(pem)
    assert b"PRIVATE KEY" in pem
    certificate.verify_directly_issued_by(machines.authority.certificate)
    (name,) = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(name, x509.UniformResourceIdentifier)
    assert name.value == "pymon:proxy:front-1.example"
    assert certificate.subject.rfc4514_string() == "CN=pymon:proxy:front-1.example"
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    lasts = certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)
    assert dt.timedelta(hours=23, minutes=59) < lasts <= dt.timedelta(hours=24)


@pytest.mark.parametrize("name", ["", "A", "a_b", "a/b", "-a", "a-", "a b", "a\nb", "ä", "a" * 53, "..", "a:b", "*"])
def test_what_no_proxy_is_called(machines: Machines, name: str) -> None:
    for call in (machines.issue_proxy, machines.revoke_proxy):
        with pytest.raises(ConfigError, match="expected a proxy's name"):
            call(name)
    assert not (machines.folder / "issued").exists() or not list((machines.folder / "issued").iterdir())


def test_a_proxy_is_revoked_by_name_with_all_its_certificates(machines: Machines) -> None:
    longest = "a" * 52
    one, two = (certificate_of(machines.issue_proxy("front1")).serial_number for _ in range(2))
    other = certificate_of(machines.issue_proxy(longest)).serial_number
    assert serials(machines) == set()
    assert machines.revoke_proxy("front1") == 2
    assert serials(machines) == {one, two}
    assert machines.revoke_proxy("front1") == 0
    assert Machines.load(machines.folder).revoke_proxy(longest) == 1
    assert serials(machines) == {one, two, other}
    new = certificate_of(machines.issue_proxy("front1")).serial_number
    assert new not in serials(machines)
    for name in ("issued", "revoked"):
        assert stat.S_IMODE((machines.folder / name).stat().st_mode) == 0o700


def test_the_list_is_signed_and_stays_in_force_as_long_as_the_authority(machines: Machines) -> None:
    machines.issue_proxy("a")
    machines.revoke_proxy("a")
    revoked = x509.load_pem_x509_crl(machines.revocation_list())
    authority = machines.authority.certificate
    assert revoked.issuer == authority.subject
    assert revoked.is_signature_valid(machines.authority.key.public_key())
    assert revoked.next_update_utc == authority.not_valid_after_utc
    assert revoked.last_update_utc < dt.datetime.now(dt.UTC) - dt.timedelta(minutes=4)
    (entry,) = revoked
    assert abs(entry.revocation_date_utc - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    number = revoked.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    later = x509.load_pem_x509_crl(machines.revocation_list())
    assert later.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number >= number


def test_notes_go_when_their_certificates_have_expired(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.issue_proxy("a")
    machines.revoke_proxy("a")
    machines.issue_proxy("b")
    (machines.folder / "issued" / "no note").touch()
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 86_399 - 60)
    assert len(serials(machines)) == 1
    monkeypatch.setattr(module.time, "time", lambda: now + 86_401)
    assert serials(machines) == set()
    assert machines.revoke_proxy("b") == 0
    assert [file.name for file in (machines.folder / "issued").iterdir()] == ["no note"]


def test_a_certificate_that_cannot_be_noted_is_not_handed_out(machines: Machines) -> None:
    (machines.folder / "issued").write_text("a file")
    with pytest.raises(DirectoryError, match="a certificate cannot be noted: "):
        machines.issue_proxy("a")


def test_revoking_makes_no_authority(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="cannot be read: No such file"):
        Machines.load(tmp_path / "authority-machines")
    assert not list(tmp_path.iterdir())


def test_clients_trust_machines_alone(tmp_path: Path) -> None:
    tenants = Authority.load_or_create(tmp_path / "authority")
    assert machines_trust(tmp_path / "m", tenants) == Authority.load(tmp_path / "m").pem
    assert Authority.load(tmp_path / "m").certificate.subject != tenants.certificate.subject


def test_the_certificate_is_enough_where_the_key_is_elsewhere(tmp_path: Path) -> None:
    tenants = Authority.load_or_create(tmp_path / "authority")
    pem = machines_trust(tmp_path / "m", tenants)
    (tmp_path / "m" / "ca-key.pem").unlink()
    assert machines_trust(tmp_path / "m", tenants) == pem
    (tmp_path / "m" / "ca-cert.pem").write_text("none")
    with pytest.raises(DirectoryError, match=r"ca-cert\.pem: expected a certificate in PEM"):
        machines_trust(tmp_path / "m", tenants)
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["ca-cert.pem"]


def test_servers_of_an_old_authority_are_trusted_until_the_last_has_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Authority.load_or_create(tmp_path / "authority", "authority")
    assert old.issued_for_both_sides
    trust = machines_trust(tmp_path / "m", old)
    machines = Authority.load(tmp_path / "m")
    assert not machines.issued_for_both_sides
    assert trust == machines.pem + old.pem
    monkeypatch.setattr(module, "SERVER_DAYS", 0)
    assert machines_trust(tmp_path / "m", old) == machines.pem
