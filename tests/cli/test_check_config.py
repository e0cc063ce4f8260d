"""check-config: both formats, relative names, exit codes."""

from __future__ import annotations

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
