"""`pymon doctor` about certificates: which to replace, and the command for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from pymon import cli
from pymon.cli.doctor import WIDTH
from pymon.directory.authority import Authority
from pymon.directory.machines import Machines


class Place:
    """A data directory and files of proxies and agents, and what the doctor says of them."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._capsys = capsys

    def server(self, authority: Authority, folder: str, *names: str) -> Path:
        """A server certificate with what goes with it in a folder."""
        made = self.folder / folder
        made.mkdir(parents=True)
        certificate, key = authority.issue_server(names or ("node1",), 30)
        (made / "server-cert.pem").write_bytes(certificate)
        (made / "server-key.pem").write_bytes(key)
        (made / "ca-cert.pem").write_bytes(authority.pem)
        return made / "server-cert.pem"

    def web(self, certificate: Path, *more: str) -> Path:
        """An agent's web configuration file."""
        lines = ("cert_file: server-cert.pem", "key_file: server-key.pem",
                 "client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca-cert.pem", *more)  # fmt: skip
        file = certificate.parent / "web.yml"
        file.write_text("tls_server_config:\n" + "".join(f"  {line}\n" for line in lines))
        return file

    def said(self, *flags: str) -> tuple[list[str], list[str]]:
        """What is said of authorities, and of what is to be replaced."""
        status = cli.main(["doctor", f"--data-dir={self.data_dir}", *flags])
        out, err = self._capsys.readouterr()
        assert (status, err) == (0, "")
        rows = [(line[:WIDTH].strip(), line[WIDTH:]) for line in out.partition("\n\n")[0].splitlines()]
        return ([f"{name}: {text}" for name, text in rows if name.endswith("authority")],
                [text for name, text in rows if name == "replace"])  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_nothing_here_nothing_said(place: Place) -> None:
    assert place.said() == ([], [])
    assert not place.data_dir.exists()


def test_what_is_new_is_right(place: Place) -> None:
    Authority.load_or_create(place.data_dir / "authority")
    machines = Machines.load_or_create(place.data_dir / "authority-machines")
    place.server(machines.authority, "data/tls", "cmon.x")
    proxy = place.server(machines.authority, "proxy", "cmon.x")
    shown = place.folder / "proxy.pem"
    shown.write_bytes(machines.issue_proxy("front1"))
    web = place.web(place.server(machines.authority, "agent"), "client_allowed_sans: [pymon:proxy:front1]")
    assert place.said(
        f"--tls.cert-file={proxy}", f"--upstream.tls-cert-file={shown}", f"--web.config.file={web}",
        f"--upstream.tls-ca-file={proxy.parent / 'ca-cert.pem'}",
    ) == (
        [
            f"tenants' authority: {place.data_dir}/authority",
            f"machines' authority: {place.data_dir}/authority-machines",
        ],
        [],
    )  # fmt: skip


def test_what_an_old_authority_issued_is_to_be_replaced(place: Place) -> None:
    old = Authority.load_or_create(place.data_dir / "authority", "authority")
    own = place.server(old, "data/tls", "cmon.x")
    proxy = place.server(old, "proxy", "cmon.x", "*.cmon.x", "10.0.0.1")
    agent = place.server(old, "agent")
    web = place.web(agent)
    ca = proxy.parent / "ca-cert.pem"
    authorities, replace = place.said(
        f"--tls.cert-file={proxy}", f"--upstream.tls-cert-file={proxy}", f"--upstream.tls-ca-file={ca}",
        f"--web.config.file={web}",
    )  # fmt: skip
    assert authorities == [
        f"tenants' authority: {place.data_dir}/authority",
        "machines' authority: none yet; the next pymon up or pymon cert server, proxy or create makes it",
    ]
    assert replace == [
        (
            f"{own}: signed by the tenants' authority; give the tenants "
            f"{place.data_dir}/authority-machines/ca-cert.pem, remove {own} and start pymon up again"
        ),
        (
            f"{proxy}: signed by the tenants' authority; give the tenants ca-cert.pem of the machines' authority, "
            "then: pymon cert server cmon.x '*.cmon.x' 10.0.0.1 --out DIR"
        ),
        f"{proxy}: signed by the tenants' authority, so no proxy's; pymon cert proxy NAME --out DIR",
        f"{ca}: holds the tenants' authority; take it out when no agent has a certificate of it",
        f"{agent}: signed by the tenants' authority; pymon cert server node1 --out DIR",
        (
            f"{web}: client_ca admits every tenant to the numbers of all; ca-cert.pem of pymon cert server, and "
            "client_allowed_sans with pymon:proxy:NAME of each proxy"
        ),
    ]


def test_an_agent_that_trusts_the_new_authority_of_tenants(place: Place) -> None:
    tenants = Authority.load_or_create(place.data_dir / "authority")
    machines = Machines.load_or_create(place.data_dir / "authority-machines")
    certificate = place.server(machines.authority, "agent")
    web = place.web(certificate)
    assert place.said(f"--web.config.file={web}")[1] == [
        f"{web}: no client_allowed_sans; add pymon:proxy:NAME of each proxy, so that one can be taken out"
    ]
    (certificate.parent / "ca-cert.pem").write_bytes(machines.authority.pem + tenants.pem)
    (line,) = place.said(f"--web.config.file={web}")[1]
    assert line.startswith(f"{web}: client_ca admits every tenant")


def test_files_that_cannot_be_read_are_no_news(place: Place) -> None:
    missing = place.folder / "missing"
    (place.data_dir / "authority").mkdir(parents=True)
    (place.data_dir / "authority" / "ca-cert.pem").write_bytes(b"\xff" * 100)
    (place.data_dir / "tls").mkdir()
    (place.data_dir / "tls" / "server-cert.pem").write_text("none")
    assert place.said(f"--tls.cert-file={missing}", f"--upstream.tls-ca-file={place.folder}")[1] == []
    (line,) = place.said(f"--web.config.file={missing}")[1]
    assert line == f"{missing}: cannot be read: No such file or directory"
