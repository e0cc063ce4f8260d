"""check-config: both formats, relative names, exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trustme

from pymon.cli import main
from pymon.config import shown


def test_agent_file(tmp_path: Path, capsys) -> None:
    file = tmp_path / "agent.yml"
    file.write_text("web: {max-requests: 3}\ncollector: {disable-defaults: true}\n")
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: ok\n"
    file.write_text("web: {max-request: 3}\n")
    assert main(["check-config", str(file)]) == 2
    assert capsys.readouterr().err == (f"pymon: {file}: web.max-request: unknown key, did you mean web.max-requests?\n")


def test_web_file_through_agent_file(tmp_path: Path, capsys) -> None:
    agent, web = tmp_path / "agent.yml", tmp_path / "web.yml"
    agent.write_text(f"web: {{config: {{file: {web}}}}}\n")
    web.write_text("tls_server_config: {cert_file: c.pem, key_file: k.pem}\n")
    assert main(["check-config", str(agent)]) == 2
    assert f"{web}: tls_server_config.cert_file: {tmp_path}/c.pem cannot be read" in capsys.readouterr().err
    pair = trustme.CA().issue_cert("localhost")
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "c.pem"))
    pair.private_key_pem.write_to_path(str(tmp_path / "k.pem"))
    assert main(["check-config", str(agent), str(web)]) == 0


def complaints(file: Path, text: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is said of a file that holds this, a line for each error."""
    file.write_text(text)
    assert main(["check-config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return [line.removeprefix("pymon: ") for line in err.splitlines()]


def test_every_error_of_an_agents_file_is_a_line(tmp_path: Path, capsys) -> None:
    file, web = tmp_path / "agent.yaml", tmp_path / "web.yaml"
    web.write_text(
        "basic_auth_users: {a: b, c: d}\nrate_limit: {interval: x}\nspeed: 1\n"
        "tls_server_config: {cert_file: c, key_file: k, min_version: TLS9, cipher_suites: [x], extra: 1}\n"
        "http_server_config: {http2: 3, headers: {X-Frame-Options: no, X-Other: y}}\n"
    )
    lines = complaints(
        file,
        f"""\
web: {{max-request: 3, max-requests: x, config: {{file: {web}}}}}
source: ebpf
container:
  pattern: /tenants/(?P<acount>[^/]+)/.*
owners:
- label: who
- slice: t-(?P<acount>.*)
- namspace: true
- account: a b
""",
        capsys,
    )
    starts = [
        f"{file}: web.max-request: unknown key, did you mean web.max-requests?",
        f"{file}: web.max-requests: expected an integer, got 'x'",
        f"{file}: source: expected one of auto, bpf, cgroupfs, kstat, got 'ebpf'",
        f"{file}: container.pattern: expected no named groups but name and account, got '/tenants/(?P<acount>",
        f"{file}: owners[1].slice: 't-(?P<acount>.*)', expected a group (?P<account>…), or an account beside it",
        f"{file}: owners[2]: unknown key 'namspace'",
        f"{file}: owners[3].account: 'a b', expected the name of an account",
        f"{web}: basic_auth_users.a: expected a bcrypt hash",
        f"{web}: basic_auth_users.c: expected a bcrypt hash",
        f"{web}: rate_limit.interval: expected a duration",
        f"{web}: speed: unknown key",
        f"{web}: tls_server_config.min_version: expected one of",
        f"{web}: tls_server_config.cipher_suites: 'x' is no secure cipher suite",
        f"{web}: tls_server_config.extra: unknown key",
        f"{web}: http_server_config.http2: expected true or false",
        f"{web}: http_server_config.headers.X-Frame-Options: expected one of",
        f"{web}: http_server_config.headers.X-Other: expected one of",
    ]
    assert [line[: len(start)] for line, start in zip(lines, starts, strict=True)] == starts


def test_every_error_of_a_proxys_file_is_a_line(tmp_path: Path, capsys) -> None:
    lines = complaints(
        tmp_path / "proxy.yaml",
        """\
zone: x y
tls.cert-file: c
upstream: {tls-key-file: k}
terminator.listen-address: ":9000"
dns: {secondary: [192.0.2.1 a., 192.0.2.2 b.], reverse: [10.0.0.0/8, 10.1.0.0/16]}
directory: mysql://x
""",
        capsys,
    )
    keys = [re.split(": (?=expected)", line)[0].removeprefix(f"{tmp_path}/proxy.yaml: ") for line in lines]
    assert keys[:7] == [
        "zone", "tls.key-file", "upstream.tls-cert-file", "terminator.trust", "directory", "dns.secondary",
        "dns.secondary",
    ]  # fmt: skip


def test_a_file_of_up_has_keys_of_both(tmp_path: Path, capsys) -> None:
    file = tmp_path / "up.yaml"
    good = """\
zone: example.com
data-dir: /srv/pymon
proxy.listen-address: 10.0.0.1:9163
dns.listen-address: 10.0.0.1:9153
owners: [{label: who}]
collector.zfs: false
"""
    file.write_text(good)
    assert main(["check-config", str(file)]) == 0, capsys.readouterr()
    assert capsys.readouterr().out == f"{file}: ok\n"
    file.write_text("zone: example.com\ndata-dir: /srv/pymon\n")
    assert main(["check-config", str(file)]) == 0, "a proxy would need a certificate, up does not"
    capsys.readouterr()
    lines = complaints(file, f"{good}web.config.file: /w\nproxy.tls: x\n", capsys)
    assert [line.removeprefix(f"{file}: ").partition(":")[0] for line in lines] == ["proxy.tls", "web.config.file"]


def test_help(capsys) -> None:
    assert main(["check-config", "--help"]) == 0
    assert "without starting" in capsys.readouterr().out


LONG_ZONE = ".".join(["a" * 60] * 3)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("zone: a_b.example", "zone: expected a host name such as cmon.example.com, got 'a_b.example'"),
        (f"zone: {LONG_ZONE}", f"zone: expected a zone of at most 120 characters, got {shown(LONG_ZONE)}"),
        ("zone: 10.in-addr.arpa", "zone: expected a zone for names, got '10.in-addr.arpa', where addresses are"),
        (
            "dns.name-server: NS.a.b\nzone: a.b",
            "dns.name-server: expected a server outside the zone a.b, which would not have its address, got 'NS.a.b'",
        ),
        (
            'web.listen-address: ":9163"',
            "dns.proxy-address: expected the addresses at which this proxy is reached, as it listens on :9163",
        ),
    ],
)
def test_names_that_no_zone_can_have(tmp_path: Path, capsys, wrong: str, line: str) -> None:
    file = tmp_path / "proxy.yml"
    listens = "" if wrong.startswith("web") else "web.listen-address: 127.0.0.1:9163\n"
    file.write_text(f"tls.cert-file: c\ntls.key-file: k\n{listens}{wrong}\n")
    assert main(["check-config", str(file)]) == 0, "without DNS it does no harm"
    file.write_text(f"{file.read_text()}dns.listen-address: 127.0.0.1:9153\n")
    assert main(["check-config", str(file)]) == 2
    assert main(["proxy", f"--config.file={file}", f"--data-dir={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"pymon: {line}\n" * 2


@pytest.mark.parametrize("argv", [[], ["--x"]])
def test_usage(argv: list[str], capsys) -> None:
    assert main(["check-config", *argv]) == 2
    assert "expected FILE" in capsys.readouterr().err


def test_missing(tmp_path: Path, capsys) -> None:
    assert main(["check-config", str(tmp_path / "no"), str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
