"""The certificates that `pymon up` makes, keeps and makes anew."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from pymon.cli import up
from pymon.directory.authority import Authority
from pymon.directory.directory import open_directory


@pytest.fixture
def plan(tmp_path: Path) -> up._Plan:
    return up._load([f"--data-dir={tmp_path / 'data'}"], {})


def certificate_of(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def sign_anew(plan: up._Plan, authority: Authority, days: int = 300) -> Path:
    """Have the proxy's certificate signed by another authority, for the same names."""
    file = plan.tls / "server-cert.pem"
    names = certificate_of(file).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    certificate, key = authority.issue_server([str(name.value) for name in names], days)
    file.write_bytes(certificate)
    (plan.tls / "server-key.pem").write_bytes(key)
    return file


def test_each_certificate_is_of_its_authority(plan: up._Plan) -> None:
    up._prepare(plan)
    tenants, machines = (Authority.load(plan.data_dir / name) for name in ("authority", "authority-machines"))
    certificate_of(plan.tls / "server-cert.pem").verify_directly_issued_by(machines.certificate)
    certificate_of(plan.client / "admin-cert.pem").verify_directly_issued_by(tenants.certificate)
    assert (plan.client / "ca-cert.pem").read_bytes() == machines.pem
    with open_directory(str(plan.data_dir / "directory.db"), read_only=True) as directory:
        assert directory.snapshot().authority == tenants.der


def test_what_the_tenants_authority_signed_is_made_anew(plan: up._Plan) -> None:
    up._prepare(plan)
    file = sign_anew(plan, Authority.load(plan.data_dir / "authority"))
    up._prepare(plan)
    certificate_of(file).verify_directly_issued_by(Authority.load(plan.data_dir / "authority-machines").certificate)


def test_an_old_data_directory_keeps_its_server_certificate_until_it_ends(tmp_path: Path, plan: up._Plan) -> None:
    old = Authority.load_or_create(plan.data_dir / "authority", "authority")
    with open_directory(str(plan.data_dir / "directory.db"), create=True):
        pass
    up._prepare(plan)
    file = sign_anew(plan, old)
    (plan.client / "ca-cert.pem").write_bytes(old.pem)
    kept = file.read_bytes()
    up._prepare(plan)
    machines = Authority.load(plan.data_dir / "authority-machines")
    assert file.read_bytes() == kept
    assert Authority.load(plan.data_dir / "authority").der == old.der
    assert (plan.client / "ca-cert.pem").read_bytes() == machines.pem + old.pem
    sign_anew(plan, old, days=29)
    up._prepare(plan)
    made = certificate_of(file)
    made.verify_directly_issued_by(machines.certificate)
    assert made.not_valid_after_utc - dt.datetime.now(dt.UTC) > dt.timedelta(days=800)
