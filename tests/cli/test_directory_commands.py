"""account, token, cert, key, node, quota, claim and directory: what they print, what they write, how they fail."""

from __future__ import annotations

import io
import json
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon import cli
from pymon.cli.prometheus import http_sd_job, own_jobs
from pymon.config import Address
from pymon.directory.authority import Authority
from pymon.directory.directory import open_directory
from pymon.directory.model import Quota, Snapshot

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@here\n"

Pymon = Callable[..., str]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def pymon(capsys: pytest.CaptureFixture[str]) -> Pymon:
    """Run a command line that succeeds; its output."""

    def run(*words: str) -> str:
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command line that fails; its exit code and the one line it says."""

    def run(*words: str) -> tuple[int, str]:
        status = cli.main(words)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("pymon: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert err.isascii()
        assert len(err) < 600
        return status, err.removeprefix("pymon: ").rstrip("\n")

    return run


def snapshot(data_dir: Path) -> Snapshot:
    with open_directory(str(data_dir / "directory.db"), read_only=True) as directory:
        return directory.snapshot()


def test_accounts(pymon: Pymon, data_dir: Path) -> None:
    uuid = pymon("account", "create", "alice").strip()
    operator = "0f6d2f6e-8a50-4c39-9d3a-0f4c1d2e3b4a"
    assert pymon("account", "create", "--operator", "root", "--uuid", operator.upper()) == operator + "\n"
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "directory.db").stat().st_mode) == 0o600
    lines = pymon("account", "list").splitlines()
    assert re.split("  +", lines[0]) == ["NAME", "UUID", "OPERATOR", "CREATED"]
    assert re.split("  +", lines[1])[:3] == ["alice", uuid, "no"]
    assert re.split("  +", lines[2])[:3] == ["root", operator, "yes"]
    listed = json.loads(pymon("account", "list", "--json"))
    assert [(one["name"], one["uuid"], one["operator"]) for one in listed] == [
        ("alice", uuid, False), ("root", operator, True),
    ]  # fmt: skip
    one = json.loads(pymon("account", "show", "--json", uuid))
    assert one == {
        **listed[0], "certificates": 0, "keys": 0, "tokens": 0, "password": False,
        "requests_per_second": 100.0, "burst": 1000, "concurrency": 512,
    }  # fmt: skip
    assert "name                 alice\n" in pymon("account", "show", "ALICE")
    assert pymon("account", "delete", "alice") == ""
    assert list(snapshot(data_dir).accounts_by_name) == ["root"]


@pytest.mark.parametrize("line", [b"sesame\n", b"sesame\r\n", b"sesame", b"sesame\nmore\n"])
def test_passwords(pymon: Pymon, data_dir: Path, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    pymon("account", "create", "a")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    assert pymon("account", "password", "a") == ""
    (hashed,) = snapshot(data_dir).passwords.values()
    assert bcrypt.checkpw(b"sesame", hashed)
    assert pymon("account", "password", "a", "--remove") == ""
    assert not snapshot(data_dir).passwords


@pytest.mark.parametrize("line", [b"", b"\n", b"x" * 73 + b"\n", b"x" * 100_000, b"\xff\n", b"a\0\n"])
def test_what_is_no_password(pymon: Pymon, failing, monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    pymon("account", "create", "a")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    status, text = failing("account", "password", "a")
    assert status == 2
    assert text.startswith("password: expected")


def test_tokens(pymon: Pymon) -> None:
    pymon("account", "create", "alice")
    pymon("account", "create", "bob")
    text = pymon("token", "create", "alice", "--label", "grafana", "--expires=30d")
    match = re.fullmatch(r"pymon_([a-z0-9]{12})_([A-Za-z0-9_-]{43})\n", text)
    assert match
    pymon("token", "create", "bob")
    output = pymon("token", "list") + pymon("token", "show", match[1]) + pymon("token", "list", "--json")
    assert match[2] not in output
    (one,) = json.loads(pymon("token", "list", "alice", "--json"))
    assert (one["id"], one["account"], one["label"], one["state"]) == (match[1], "alice", "grafana", "active")
    assert one["expires_at"] - one["created_at"] == pytest.approx(30 * 86400, abs=60)
    pymon("token", "delete", match[1])
    assert json.loads(pymon("token", "show", match[1], "--json"))["state"] == "revoked"
    assert re.split("  +", pymon("token", "list", "alice").splitlines()[1])[2] == "revoked"


def test_keys(pymon: Pymon, tmp_path: Path, data_dir: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(ED25519)
    pymon("account", "create", "a")
    pymon("account", "create", "b")
    fingerprint = pymon("key", "add", "a", str(file)).strip()
    assert pymon("key", "create", "b", str(file)).strip() == fingerprint
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", fingerprint)
    assert [one["account"] for one in json.loads(pymon("key", "list", "--json"))] == ["a", "b"]
    (one,) = json.loads(pymon("key", "list", "b", "--json"))
    assert (one["type"], one["comment"], one["state"]) == ("ssh-ed25519", "me@here", "active")
    colons = ":".join(one["md5"][i : i + 2] for i in range(0, 32, 2))
    assert [k["account"] for k in json.loads(pymon("key", "show", f"MD5:{colons}", "--json"))] == ["a", "b"]
    assert fingerprint in pymon("key", "show", fingerprint)
    pymon("key", "delete", colons)
    revoked = [key.revoked_at for keys in snapshot(data_dir).keys.values() for key in keys]
    assert len(revoked) == 2
    assert None not in revoked


def test_a_file_that_holds_no_key_is_named(pymon: Pymon, failing, tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    pymon("account", "create", "a")
    for text, expected in (
        (f'from="10.0.0.1" {ED25519}', "expected a key of ssh-rsa, "),
        ("-----BEGIN PRIVATE KEY-----", "expected a public key, got a private one"),
        ("", "expected one line of an OpenSSH public key"),
    ):
        file.write_text(text)
        status, said = failing("key", "add", "a", str(file))
        assert status == 2
        assert said.startswith(f"{file}: {expected}")


def test_nodes(pymon: Pymon) -> None:
    pymon("account", "create", "a")
    assert pymon("node", "create", "n1", "http://10.0.0.1:9164") == ""
    pymon(
        "node", "create", "n2", "https://n2:9164", "--tls-server-name", "n2.x", "--tls-fingerprint", "AA:" * 31 + "AA"
    )
    lines = pymon("node", "list").splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["NAME", "UUID", "OFFERED UUID", "URL", "TLS SERVER NAME", "ACCOUNTS"],
        ["n1", "-", "-", "http://10.0.0.1:9164", "-", "all"],
        ["n2", "-", "-", "https://n2:9164", "n2.x", "all"],
    ]
    assert json.loads(pymon("node", "show", "n2", "--json")) == {
        "name": "n2", "uuid": None, "offered_uuid": None, "url": "https://n2:9164", "tls_server_name": "n2.x",
        "tls_fingerprint": "aa" * 32, "accounts": None,
    }  # fmt: skip
    pymon("node", "delete", "n1")
    assert [node["name"] for node in json.loads(pymon("node", "list", "--json"))] == ["n2"]


def test_quotas(pymon: Pymon, data_dir: Path) -> None:
    pymon("account", "create", "a")
    pymon("quota", "set", "a", "--requests-per-second", "2.5")
    pymon("quota", "create", "a", "--burst=7")
    assert json.loads(pymon("quota", "show", "a", "--json")) == {
        "account": "a", "requests_per_second": 2.5, "burst": 7, "concurrency": 512,
    }  # fmt: skip
    assert re.split("  +", pymon("quota", "list").splitlines()[1]) == ["a", "2.5", "7", "512"]
    pymon("quota", "delete", "a")
    assert snapshot(data_dir).accounts_by_name["a"].quota == Quota()


# --- certificates ----------------------------------------------------------------------------------


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


# --- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["account"], "account: expected one of create, list, show, delete, password, got nothing"),
        (["key", "ad"], "key: expected one of add, create, list, show, delete, got 'ad', did you mean add?"),
        (["account", "create"], "expected pymon account create NAME, got 0 arguments"),
        (["account", "create", "a", "b"], "expected pymon account create NAME, got 2 arguments"),
        (["account", "list", "a"], "expected pymon account list, got 1 arguments"),
        (["token", "list", "a", "b"], "expected pymon token list [ACCOUNT], got 2 arguments"),
        (["cert", "server"], "expected pymon cert server NAME [NAME ...], got 0 arguments"),
        (["account", "list", "--jsn"], "--jsn: unknown flag, did you mean --json"),
        (["account", "create", "a", "--uuid"], "--uuid: expected one argument"),
        (["account", "create", "a", "--uuid", "x"], "--uuid: expected a UUID such as"),
        (["account", "create", "a/b"], "account: expected a name of 1 to 63 letters"),
        (["account", "create", "--", "-x"], "account: expected a name of 1 to 63 letters"),
        (["token", "create", "a", "--expires", "soon"], "--expires: expected a duration such as"),
        (["token", "create", "a", "--expires", "0"], "--expires: expected a duration above zero"),
        (["token", "create", "a", "--expires", "9000y"], "--expires: expected a duration above zero, at most 100y"),
        (["token", "create", "a", "--label", "a\x1bb"], "--label: expected at most 200 printable characters"),
        (["quota", "set", "a"], "expected --requests-per-second, --burst or --concurrency, got none of them"),
        (["quota", "set", "a", "--requests-per-second", "nan"], "--requests-per-second: expected a number"),
        (["node", "create", "n", "n:9164"], "url: expected http://HOST:PORT or https://HOST:PORT, got 'n:9164'"),
        (["cert", "create", "a", "--out", "x", "--days", "0"], "--days: expected 1 to 3650 days, got '0'"),
        (["cert", "create", "a", "--out", "x", "--zone", "a b"], "--zone: expected a domain name"),
        (["cert", "create", "a", "--out", "x", "--proxy", ":1"], "--proxy: expected HOST:PORT, got ':1'"),
        (["cert", "show", "12"], "certificate: expected the SHA-256 fingerprint of a certificate, 64 hex digits"),
        (["account", "list", "--directory", "mysql://x"], "directory: expected a path, sqlite:///PATH or postgresql"),
    ],
)  # fmt: skip
def test_bad_usage_is_exit_code_2(pymon: Pymon, failing, words: list[str], text: str) -> None:
    pymon("account", "create", "a")
    status, said = failing(*words)
    assert status == 2
    assert said.startswith(text)


@pytest.mark.parametrize(
    "words",
    [
        ["account", "show", "b"], ["account", "delete", "b"], ["account", "password", "b", "--remove"],
        ["token", "create", "b"], ["token", "list", "b"], ["token", "show", "x"], ["token", "delete", "x"],
        ["cert", "list", "b"], ["cert", "show", "0" * 64], ["cert", "delete", "0" * 64],
        ["cert", "create", "b", "--out", "/nonexistent/x"], ["key", "list", "b"], ["key", "show", "SHA256:x"],
        ["key", "delete", "x"], ["node", "show", "x"], ["node", "delete", "x"], ["quota", "show", "b"],
        ["quota", "set", "b", "--burst", "1"], ["quota", "delete", "b"],
    ],
)  # fmt: skip
def test_what_is_not_there_is_exit_code_1(pymon: Pymon, failing, words: list[str]) -> None:
    pymon("account", "create", "a")
    status, text = failing(*words)
    assert status == 1
    assert "not found" in text


def test_files_that_are_not_there(pymon: Pymon, failing, tmp_path: Path) -> None:
    pymon("account", "create", "a")
    for words in (["key", "add"], ["cert", "add"]):
        assert failing(*words, "a", str(tmp_path / "no")) == (1, f"{tmp_path}/no: No such file or directory")
        assert failing(*words, "a", str(tmp_path))[0] == 1
    assert failing("cert", "create", "a", "--out", "/proc/x")[0] == 1


@pytest.mark.parametrize("command", ["account", "token", "cert", "key", "node", "quota", "claim"])
def test_without_a_directory_only_account_create_makes_one(failing, data_dir: Path, command: str) -> None:
    assert failing(command, "list") == (
        1, f"{data_dir}/directory.db: no directory there; create one with `pymon account create`",
    )  # fmt: skip
    assert not data_dir.exists()


@pytest.mark.parametrize(
    "command", ["account", "token", "cert", "key", "node", "node token", "quota", "claim", "directory"]
)
def test_help(pymon: Pymon, command: str) -> None:
    text = pymon(*command.split(), "--help")
    assert text.startswith(f"usage: pymon {command} VERB")
    for verb in re.findall(r"^  ([a-z]+)(?! VERB)\b", text, re.MULTILINE):
        with pytest.raises(SystemExit) as caught:
            cli.main([*command.split(), verb, "--help"])
        assert caught.value.code == 0


def test_the_directory_of_a_url(pymon: Pymon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setenv("PYMON_DIRECTORY", f"sqlite://{tmp_path}/mine.db")
    pymon("account", "create", "a")
    assert (tmp_path / "mine.db").exists()
    assert not data_dir.exists()
    assert "a " in pymon("account", "list", "--directory", str(tmp_path / "mine.db"))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/x"}, "/home/x/.local/share/pymon"),
        ({"HOME": "/home/x", "XDG_DATA_HOME": "/data"}, "/data/pymon"),
        ({"HOME": "/home/x", "XDG_DATA_HOME": "data"}, "/home/x/.local/share/pymon"),
    ],
)
def test_the_data_directory_of_a_user(environ: dict[str, str], expected: str) -> None:
    from pymon.data_dir import default_data_dir  # noqa: PLC0415

    assert str(default_data_dir(environ, 1000)) == expected
    assert str(default_data_dir(environ, 0)) == "/var/lib/pymon"


def test_what_a_tenant_chose_does_not_reach_the_terminal(pymon: Pymon, tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(ED25519.replace("me@here", "\x1b]0;x\x07 \u202e"))
    pymon("account", "create", "a")
    pymon("key", "add", "a", str(file))
    text = pymon("key", "list") + pymon("key", "show", json.loads(pymon("key", "list", "--json"))[0]["fingerprint"])
    assert text.replace("\n", "").isprintable()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(["account", "token", "cert", "key", "node", "quota", "claim", "directory"]),
    verb=st.sampled_from(["create", "show", "delete", "list", "add", "set", "password"]),
    words=st.lists(
        st.text(max_size=20) | st.sampled_from(["--json", "--out", "--label", "--", "a", "'; --"]), max_size=4
    ),
)
def test_any_words_end_in_one_line(
    capsys, data_dir: Path, tmp_path: Path, command: str, verb: str, words: list[str]
) -> None:
    os.chdir(tmp_path)
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(b"x\n"))
    try:
        status = cli.main([command, verb, *words])
    except SystemExit as stop:
        status = stop.code
    finally:
        sys.stdin = stdin
    out, err = capsys.readouterr()
    assert status in (0, 1, 2)
    assert "internal error" not in err
    assert err.count("\n") == (0 if status == 0 else 1), out


def test_nodes_of_a_list(pymon: Pymon, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pymon("account", "create", "a")
    file = tmp_path / "nodes.yml"
    file.write_text("- targets: ['10.0.0.1:9164']\n  labels: {pymon_node: n1}\n- targets: ['n2:1']\n")
    assert pymon("node", "import", str(file)) == "created n1\ncreated n2\n"
    assert pymon("node", "import", str(file)) == ""
    file.write_text("- targets: ['n2:2']\n")
    assert pymon("node", "import", str(file)) == "changed n2\n"
    urls = {node["name"]: node["url"] for node in json.loads(pymon("node", "list", "--json"))}
    assert urls == {"n1": "http://10.0.0.1:9164", "n2": "http://n2:2"}
    file.write_text("- targets: 1\n")
    assert cli.main(["node", "import", str(file)]) == 2
    assert "entry 1: expected targets and labels" in capsys.readouterr().err
