"""cert: the certificates that it issues and registers, the files that it writes, and the two authorities."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from pymon.cli.prometheus import http_sd_job, own_jobs
from pymon.config import Address
from pymon.directory.authority import Authority
from tests.cli.commands import Pymon, snapshot

pytestmark = pytest.mark.usefixtures("data_dir")


def test_a_client_certificate(pymon: Pymon, data_dir: Path, tmp_path: Path) -> None:
    pymon("account", "create", "alice")
    out = tmp_path / "deep" / "out"
    output = pymon("cert", "create", "alice", "--out", str(out), "--days", "30", "--label", "x")
    names = ["alice-key.pem", "alice-cert.pem", "ca-cert.pem", "prometheus.yml"]
    assert output.splitlines() == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    assert [stat.S_IMODE((out / name).stat().st_mode) for name in names] == [0o600, 0o644, 0o644, 0o644]
    found = snapshot(data_dir)
    (certificate,) = found.certificates.values()
    assert certificate.issued
    assert found.authority == Authority.load(data_dir / "authority").der
    loaded = x509.load_pem_x509_certificate((out / "alice-cert.pem").read_bytes())
    assert loaded.fingerprint(x509.base.hashes.SHA256()).hex() == certificate.fingerprint
    (one,) = json.loads(pymon("cert", "list", "alice", "--json"))
    assert (one["label"], one["state"], one["issued"]) == ("x", "active", True)
    colons = ":".join(re.findall("..", certificate.fingerprint.upper()))
    assert json.loads(pymon("cert", "show", colons, "--json")) == one
    pymon("cert", "delete", colons)
    assert json.loads(pymon("cert", "show", certificate.fingerprint, "--json"))["state"] == "revoked"


def jobs(text: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A configuration whose live job is the one in comments, and both jobs: the live one, the other."""
    (live,) = yaml.safe_load(text)["scrape_configs"]
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("  # Instead"))
    uncommented = "\n".join(["scrape_configs:", *(line.replace("# ", "", 1) for line in lines[start + 1 :])])
    (other,) = yaml.safe_load(uncommented)["scrape_configs"]
    return uncommented, live, other


def test_the_prometheus_configuration(pymon: Pymon, tmp_path: Path) -> None:
    pymon("account", "create", "alice")
    out = tmp_path / "out"
    pymon("cert", "create", "alice", "--out", str(out), "--zone", "example.com", "--proxy", "10.0.0.1:99")
    text = (out / "prometheus.yml").read_text()
    triton_file, http, triton = jobs(text)
    assert yaml.safe_load(text)["global"]["scrape_interval"]
    assert http["http_sd_configs"][0]["url"] == "https://10.0.0.1:99/v1/sd?via=path"
    (sd,) = triton["triton_sd_configs"]
    assert (sd["account"], sd["dns_suffix"], sd["endpoint"], sd["port"]) == (
        "alice",
        "cmon.example.com",
        "10.0.0.1",
        99,
    )
    for job in (triton, http):
        assert job["tls_config"] == {
            "ca_file": "ca-cert.pem", "cert_file": "alice-cert.pem", "key_file": "alice-key.pem",
        }  # fmt: skip
        # Prometheus renames a sample's own label where relabelling sets one of its name.
        assert "name" not in [rule["target_label"] for rule in job["relabel_configs"]]
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    (out / "triton.yml").write_text(triton_file)
    for name in ("prometheus.yml", "triton.yml"):
        done = subprocess.run(["promtool", "check", "config", out / name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_alerts_name_the_jobs_of_the_configurations() -> None:
    rules = Path(__file__).parents[2] / "deploy" / "prometheus-rules.yml"
    (group,) = [one for one in yaml.safe_load(rules.read_text())["groups"] if one["name"] == "pymon"]
    named = {rule["alert"]: re.findall(r'job="([^"]*)"', rule["expr"]) for rule in group["rules"]}
    own = yaml.safe_load(own_jobs(Address("h", 1), "/m", Address("h", 2)))
    assert [job["job_name"] for job in own] == named["PymonAgentDown"] + named["PymonProxyDown"]
    assert own[0]["metrics_path"] == "/m"
    (job,) = yaml.safe_load(http_sd_job(Address("h", 1), {}))
    assert [job["job_name"]] == named["PymonContainerDown"]
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.root
def test_the_key_is_for_its_owner(pymon: Pymon, failing, tmp_path: Path) -> None:
    pymon("account", "create", "alice")
    for name, wanted in (("no-such-user", "a user of this machine"), ("nobody", "a directory that nobody can reach")):
        status, text = failing("cert", "create", "alice", "--out", str(tmp_path / "no"), "--owner", name)
        assert status == 2
        assert wanted in text
        assert not (tmp_path / "no").exists()
    user = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        before = os.umask(0o077)
        try:
            pymon("cert", "create", "alice", "--out", f"{folder}/alice", "--owner", "nobody")
        finally:
            os.umask(before)
        assert all(path.stat().st_uid == 0 for path in Path(folder, "alice").iterdir() if path.suffix != ".pem")
        reading = "cat alice/prometheus.yml alice/alice-key.pem alice/alice-cert.pem alice/ca-cert.pem"
        done = subprocess.run(["sh", "-c", reading], cwd=folder, user=user.pw_uid, group=user.pw_gid,
                              extra_groups=[], capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "PRIVATE KEY" in done.stdout
        assert stat.S_IMODE(Path(folder, "alice", "alice-key.pem").stat().st_mode) == 0o600
        # Its user could put another file in the key's place while root gives it away.
        os.chown(folder, user.pw_uid, user.pw_gid)
        status, text = failing("cert", "create", "alice", "--out", f"{folder}/again", "--owner", "nobody")
        assert (status, text) == (2, f"--out: expected a directory that only root can change, which {folder} is not")


def test_files_that_are_there_are_left_alone_and_nothing_is_registered(
    pymon: Pymon, failing, tmp_path: Path, data_dir: Path
) -> None:
    pymon("account", "create", "a")
    for name in ("a-key.pem", "a-cert.pem", "prometheus.yml", "ca-cert.pem"):
        out = tmp_path / f"out-{name}"
        out.mkdir()
        (out / name).write_text("mine")
        status, text = failing("cert", "create", "a", "--out", str(out))
        assert (status, text) == (1, f"{out / name}: exists already; nothing was written")
        assert [path.name for path in out.iterdir()] == [name]
        assert (out / name).read_text() == "mine"
    assert not snapshot(data_dir).certificates


def test_an_account_whose_files_would_be_the_authoritys(pymon: Pymon, failing, tmp_path: Path) -> None:
    pymon("account", "create", "ca")
    status, text = failing("cert", "create", "ca", "--out", str(tmp_path / "out"))
    assert (status, text) == (1, "account ca: its certificate's file would be the authority's, ca-cert.pem")


def test_certificates_of_two_accounts_go_to_one_directory_but_for_the_configuration(
    pymon: Pymon, failing, tmp_path: Path
) -> None:
    pymon("account", "create", "a")
    pymon("account", "create", "b")
    out = str(tmp_path / "out")
    pymon("cert", "create", "a", "--out", out)
    assert "prometheus.yml: exists already" in failing("cert", "create", "b", "--out", out)[1]
    (tmp_path / "out" / "prometheus.yml").unlink()
    pymon("cert", "create", "b", "--out", out)


def test_a_certificate_of_others(pymon: Pymon, failing, tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    pem = Authority.load_or_create(tmp_path / "theirs").issue_client("alice", 30)[0]
    file.write_bytes(pem)
    pymon("account", "create", "alice")
    pymon("account", "create", "bob")
    assert failing("cert", "add", "bob", str(file)) == (
        2, f"{file}: expected a certificate whose subject's CN is bob, got 'alice'",
    )  # fmt: skip
    fingerprint = pymon("cert", "add", "alice", str(file), "--label", "own").strip()
    assert json.loads(pymon("cert", "show", fingerprint, "--json"))["issued"] is False
    assert failing("cert", "add", "alice", str(file)) == (1, f"certificate {fingerprint}: alice has it already")
    file.write_bytes(pem + pem)
    assert failing("cert", "add", "alice", str(file)) == (2, f"{file}: expected one certificate, got 2")
    for data in (b"", b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\xff" * 1000):
        file.write_bytes(data)
        status, text = failing("cert", "add", "alice", str(file))
        assert (status, text) == (2, f"{file}: expected a certificate in PEM, got something else")
    file.write_bytes(pem * 1000)
    assert "expected at most 65536 bytes" in failing("cert", "add", "alice", str(file))[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-newkey", "rsa:1024"], "a key of RSA from 2048 bits, an elliptic curve from 256 bits, Ed25519 or Ed448"),
        (["-newkey", "ed25519", "-addext", "extendedKeyUsage=serverAuth"], "a certificate for clients"),
        (["-newkey", "ed25519", "-addext", f"nsComment={'x' * 9000}"], "a certificate that a proxy takes: expected at"),
    ],
    ids=["weak", "for servers", "large"],
)
def test_a_certificate_that_no_proxy_takes_is_not_registered(
    pymon: Pymon, failing, tmp_path: Path, options: list[str], expected: str
) -> None:
    file = tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=alice", "-keyout", str(tmp_path / "key.pem")]
    subprocess.run([*command, *options, "-out", str(file)], check=True, capture_output=True)
    pymon("account", "create", "alice")
    status, text = failing("cert", "add", "alice", str(file))
    assert status == 2
    assert text.startswith(f"{file}: expected {expected}")
    assert json.loads(pymon("cert", "list", "--json")) == []


def test_a_server_certificate_needs_no_directory(pymon: Pymon, failing, tmp_path: Path, data_dir: Path) -> None:
    out = tmp_path / "out"
    output = pymon("cert", "server", "cmon.x", "*.cmon.x", "--out", str(out), "10.0.0.1")
    assert output.splitlines() == [str(out / name) for name in ("server-key.pem", "server-cert.pem", "ca-cert.pem")]
    assert stat.S_IMODE((out / "server-key.pem").stat().st_mode) == 0o600
    assert not (data_dir / "directory.db").exists()
    loaded = x509.load_pem_x509_certificate((out / "server-cert.pem").read_bytes())
    names = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["cmon.x", "*.cmon.x", "10.0.0.1"]
    assert failing("cert", "server", "--out", str(out), "a b")[0] == 2
    assert "exists already" in failing("cert", "server", "--out", str(out), "y")[1]


def test_the_two_authorities_issue_each_its_own(pymon: Pymon, tmp_path: Path, data_dir: Path) -> None:
    pymon("account", "create", "alice")
    pymon("cert", "create", "alice", "--out", str(tmp_path / "alice"))
    pymon("cert", "server", "node1", "--out", str(tmp_path / "node1"))
    pymon("cert", "proxy", "front1", "--out", str(tmp_path / "front1"))
    tenants, machines = (Authority.load(data_dir / name) for name in ("authority", "authority-machines"))
    assert snapshot(data_dir).authority == tenants.der
    for folder in ("alice", "node1", "front1"):
        assert (tmp_path / folder / "ca-cert.pem").read_bytes() == machines.pem, folder
    for file, issuer in {
        "alice/alice-cert.pem": tenants, "node1/server-cert.pem": machines, "front1/proxy.pem": machines,
    }.items():  # fmt: skip
        certificate = x509.load_pem_x509_certificates((tmp_path / file).read_bytes())[0]
        certificate.verify_directly_issued_by(issuer.certificate)


def test_a_proxys_certificate_is_replaced_where_it_is(pymon: Pymon, failing, tmp_path: Path, data_dir: Path) -> None:
    out = tmp_path / "deep" / "out"
    said = pymon("cert", "proxy", "front1", "--out", str(out))
    assert said.splitlines() == [str(out / "proxy.pem"), str(out / "ca-cert.pem")]
    assert stat.S_IMODE((out / "proxy.pem").stat().st_mode) == 0o600
    first = (out / "proxy.pem").read_bytes()
    pymon("cert", "proxy", "front1", "--out", str(out))
    assert (out / "proxy.pem").read_bytes() != first
    assert sorted(file.name for file in out.iterdir()) == ["ca-cert.pem", "proxy.pem"]
    assert not (data_dir / "directory.db").exists()
    assert failing("cert", "proxy", "front1") == (2, "expected --out DIR")
    status, text = failing("cert", "proxy", "Front 1", "--out", str(out))
    assert (status, text[:25]) == (2, "expected a proxy's name, ")


def test_the_list_of_revoked_proxies(pymon: Pymon, failing, tmp_path: Path, data_dir: Path) -> None:
    crl = tmp_path / "crl.pem"
    lost = data_dir / "authority-machines" / "ca-cert.pem"
    assert failing("cert", "crl", "--out", str(crl)) == (1, f"{lost}: cannot be read: No such file or directory")
    pymon("cert", "proxy", "front1", "--out", str(tmp_path))
    assert pymon("cert", "crl", "--out", str(crl)) == f"{crl}\n"
    assert len(x509.load_pem_x509_crl(crl.read_bytes())) == 0
    assert pymon("cert", "revoke", "front1") == ""
    assert pymon("cert", "crl", "--out", str(crl)) == f"{crl}\n"
    assert len(x509.load_pem_x509_crl(crl.read_bytes())) == 1
    assert failing("cert", "revoke", "front1") == (
        1, "proxy 'front1': no certificate that is in force was issued here for it",
    )  # fmt: skip
    assert failing("cert", "revoke", "a/b")[0] == 2
    assert failing("cert", "crl") == (2, "expected --out FILE")
    nowhere = tmp_path / "none" / "crl.pem"
    assert failing("cert", "crl", "--out", str(nowhere)) == (1, f"{nowhere}: No such file or directory")


def test_an_old_authority_becomes_the_tenants_one(pymon: Pymon, tmp_path: Path, data_dir: Path) -> None:
    old = Authority.load_or_create(data_dir / "authority", "authority")
    pymon("account", "create", "alice")
    pymon("cert", "create", "alice", "--out", str(tmp_path / "out"))
    machines = Authority.load(data_dir / "authority-machines")
    assert Authority.load(data_dir / "authority").der == old.der == snapshot(data_dir).authority
    assert (tmp_path / "out" / "ca-cert.pem").read_bytes() == machines.pem + old.pem


def test_bad_usage_makes_no_authority(failing, data_dir: Path) -> None:
    assert failing("cert", "server", "x") == (2, "expected --out DIR")
    assert not data_dir.exists()


def test_a_lost_authority_is_not_replaced_while_its_certificates_are_in_force(
    pymon: Pymon, failing, tmp_path: Path, data_dir: Path
) -> None:
    pymon("account", "create", "a")
    pymon("cert", "create", "a", "--out", str(tmp_path / "1"))
    shutil.rmtree(data_dir / "authority")
    status, text = failing("cert", "create", "a", "--out", str(tmp_path / "2"))
    assert status == 1
    assert text.startswith("authority: another one (")
    assert not (tmp_path / "2").exists()
    pymon("cert", "delete", next(iter(snapshot(data_dir).certificates)))
    pymon("cert", "create", "a", "--out", str(tmp_path / "2"))
