"""An agent that answers proxies only, by docs/proxy.md: who is refused, at the handshake and on a connection that is
kept; and lists of revoked certificates that are no good.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pymon import cli
from pymon.agent.access import LiveWebConfig
from pymon.agent.web_config import load_web_config, parse_web_config, read_crl
from pymon.config import ConfigError
from pymon.directory.authority import Authority
from pymon.directory.machines import Machines
from tests.agent.web_agent import run, running, until
from tests.machines import proxy_certificate

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """\
tls_server_config:
  cert_file: server-cert.pem
  key_file: server-key.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca-cert.pem
  client_allowed_sans: [pymon:proxy:front1, pymon:proxy:front2]
  client_crl_file: crl.pem
"""


class Node:
    """The files of an agent, as the commands write them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines = Machines.load_or_create(folder / "authority-machines")
        self._time = 10**9
        certificate, key = self.machines.authority.issue_server(["127.0.0.1"], 30)
        self.put("server-cert.pem", certificate)
        self.put("server-key.pem", key)
        self.put("ca-cert.pem", self.machines.authority.pem)
        self.put("crl.pem", self.machines.revocation_list())
        self.web = self.put("web.yml", CONFIG.encode())

    def put(self, name: str, data: bytes) -> Path:
        """Write a file with a time of its own, however quick the test is."""
        self._time += 1
        file = self.folder / name
        file.write_bytes(data)
        os.utime(file, (self._time, self._time))
        return file

    def client(self, pem: bytes, *, tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A context that shows this certificate."""
        context = ssl.create_default_context(cafile=str(self.folder / "ca-cert.pem"))
        context.maximum_version = tls
        context.load_cert_chain(self.put("client.pem", pem))
        return context


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


class Kept:
    """One connection to an agent, used again and again from a thread."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)

    async def get(self, path: str = "/metrics") -> int | None:
        """The status; None where the connection was refused or ended without an answer."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> int | None:
        try:
            self._connection.auto_open = int(self._connection.sock is None and not getattr(self, "used", False))
            self.used = True
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return None
        return response.status

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def kept(port: int, context: ssl.SSLContext) -> Iterator[Kept]:
    connection = Kept(port, context)
    try:
        yield connection
    finally:
        connection.close()


async def status(port: int, context: ssl.SSLContext) -> int | None:
    """Of one request on a connection of its own."""
    with kept(port, context) as connection:
        return await connection.get()


@pytest.mark.parametrize("tls", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_proxies_and_nobody_else(node: Node, tmp_path: Path, tls: ssl.TLSVersion) -> None:
    tenants = Authority.load_or_create(tmp_path / "authority")
    foreign = Machines.load_or_create(tmp_path / "foreign")
    joined = lambda pair: pair[1] + pair[0]  # noqa: E731
    cases = {
        "proxy": (node.machines.issue_proxy("front1"), 200),
        "proxy of another name": (node.machines.issue_proxy("front3"), None),
        "tenant": (joined(tenants.issue_client("alice", 30)), None),
        "agent": (joined(node.machines.authority.issue_server(["node2"], 30)), None),
        "this agent": (b"".join((node.folder / f"server-{part}.pem").read_bytes() for part in ("key", "cert")), None),
        "foreign": (foreign.issue_proxy("front1"), None),
        "expired": (proxy_certificate(node.machines.authority, "front1", seconds=-60), None),
    }  # fmt: skip

    async def main() -> None:
        async with running(web_file=node.web) as agent:
            for name, (pem, expected) in cases.items():
                assert await status(agent.port, node.client(pem, tls=tls)) == expected, name
            nothing = ssl.create_default_context(cafile=str(node.folder / "ca-cert.pem"))
            assert await status(agent.port, nothing) is None

    run(main())


def revoke_by_list(node: Node) -> None:
    node.machines.revoke_proxy("front1")
    node.put("crl.pem", node.machines.revocation_list())


def revoke_by_name(node: Node) -> None:
    node.put("web.yml", CONFIG.replace("pymon:proxy:front1, ", "").encode())


def revoke_by_authority(node: Node) -> None:
    other = Machines.load_or_create(node.folder / "other")
    node.put("crl.pem", other.revocation_list())
    node.put("ca-cert.pem", other.authority.pem)


@pytest.mark.parametrize("revoke", [revoke_by_list, revoke_by_name, revoke_by_authority])
def test_who_is_revoked_is_refused_at_the_next_request_of_a_kept_connection(
    node: Node, revoke: Callable[[Node], None]
) -> None:
    async def main() -> None:
        async with running(web_file=node.web) as agent:
            first, second = (node.client(node.machines.issue_proxy(name)) for name in ("front1", "front2"))
            with kept(agent.port, first) as one, kept(agent.port, second) as two:
                for connection in (one, two, one, two):
                    assert await connection.get() == 200
                calls = len(agent.stub.calls)
                revoke(node)
                assert await one.get() is None
                assert len(agent.stub.calls) == calls
                assert await status(agent.port, first) is None
                if revoke is revoke_by_authority:
                    return
                # Others connect again, which their clients do by themselves.
                assert await two.get() is None
                assert await status(agent.port, second) == 200

    run(main())


def test_a_long_poll_of_who_is_revoked_meanwhile_is_not_answered(node: Node) -> None:
    async def main() -> None:
        async with running(web_file=node.web) as agent:
            context = node.client(node.machines.issue_proxy("front1"))
            reader, writer = await asyncio.open_connection("127.0.0.1", agent.port, ssl=context)
            writer.write(b'GET /v1/containers?wait=60 HTTP/1.1\r\nHost: a\r\nIf-None-Match: "v%201"\r\n\r\n')
            await until(lambda: agent.stub.waits == 1)
            revoke_by_list(node)
            agent.stub.change()
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    assert await reader.read() == b""
            writer.close()

    run(main())


def test_a_certificate_that_expires_ends_its_connection(node: Node) -> None:
    async def main() -> None:
        async with running(web_file=node.web) as agent:
            context = node.client(proxy_certificate(node.machines.authority, "front1", seconds=3))
            with kept(agent.port, context) as connection:
                assert await connection.get() == 200
                async with asyncio.timeout(20):
                    while await connection.get() == 200:  # noqa: ASYNC110  # time passes, and nothing tells
                        await asyncio.sleep(0.1)
            assert await status(agent.port, context) is None
            lasting = node.client(node.machines.issue_proxy("front1"))
            with kept(agent.port, lasting) as connection:
                assert [await connection.get() for _ in range(3)] == [200] * 3

    run(main())


def test_a_list_that_goes_bad_is_one_line_and_the_last_good_one_stays(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(web_file=node.web) as agent:
            revoked, good = (node.client(node.machines.issue_proxy(name)) for name in ("front1", "front2"))
            revoke_by_list(node)
            assert await status(agent.port, revoked) is None
            for bad in (b"", b"hello", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
                node.put("crl.pem", bad)
                caplog.clear()
                for _ in range(3):
                    assert await status(agent.port, revoked) is None
                    assert await status(agent.port, good) == 200
                lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
                assert len(lines) == 1, lines
                assert "the last good one stays: " in lines[0]
                assert lines[0].endswith("crl.pem: expected a list of revoked certificates in PEM")
            (node.folder / "crl.pem").unlink()
            assert await status(agent.port, revoked) is None
            # A name that is taken out meanwhile is out.
            node.put("web.yml", CONFIG.replace(", pymon:proxy:front2", "").encode())
            assert await status(agent.port, good) is None
            node.put("web.yml", CONFIG.encode())
            node.put("crl.pem", node.machines.revocation_list())
            assert await status(agent.port, good) == 200
            assert await status(agent.port, revoked) is None

    run(main())


def test_lists_that_are_no_good_at_the_start(node: Node, tmp_path: Path) -> None:
    other = Machines.load_or_create(tmp_path / "other")
    file = node.folder / "crl.pem"
    good = file.read_bytes()
    for data, problem in {
        b"": "expected a list of revoked certificates in PEM",
        b"\xff" * 100: "expected a list of revoked certificates in PEM",
        node.machines.authority.pem: "expected a list of revoked certificates in PEM",
        other.revocation_list(): "expected a list of an authority in client_ca, got one that none of them signed",
        good
        + other.revocation_list(): "expected a list of an authority in client_ca, got one that none of them signed",
        b"x" * (4 << 20) + good: "expected at most 4194304 bytes, got more",
    }.items():
        node.put("crl.pem", data)
        with pytest.raises(ConfigError) as refused:
            LiveWebConfig(node.web)
        assert str(refused.value) == f"{node.web}: tls_server_config.client_crl_file: {file}: {problem}"
    file.unlink()
    with pytest.raises(ConfigError, match=re.escape(f"{file}: cannot be read: No such file or directory")):
        LiveWebConfig(node.web)
    node.put("crl.pem", good)
    tls = load_web_config(node.web).tls
    assert tls is not None
    now = dt.datetime.now(dt.UTC)
    for when, problem in (
        (now - dt.timedelta(days=1), "not in force before "),
        (now + dt.timedelta(days=3651), "not in force since "),
    ):
        with pytest.raises(ConfigError, match=problem):
            read_crl(tls, node.web, when)
    assert read_crl(tls, node.web, now) == good


def test_the_files_of_the_documentation_are_taken(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    deployed = (REPOSITORY / "deploy" / "agent-web.yml").read_text()
    documented = (REPOSITORY / "docs" / "proxy.md").read_text().partition("```\ntls_server_config:\n")[2]
    shown = "tls_server_config:\n" + documented.partition("```")[0]
    for text in (deployed, shown):
        node.put("web.yml", text.encode())
        assert cli.main(["check-config", str(node.web)]) == 0
        assert capsys.readouterr().out == f"{node.web}: ok\n"
    assert parse_web_config(deployed.encode(), node.web) == parse_web_config(shown.encode(), node.web)
    node.put("crl.pem", b"none")
    assert cli.main(["check-config", str(node.web)]) == 2
    assert capsys.readouterr().err.endswith("crl.pem: expected a list of revoked certificates in PEM\n")


def test_a_list_needs_clients_that_are_verified(node: Node) -> None:
    node.put(
        "web.yml", b"tls_server_config: {cert_file: server-cert.pem, key_file: server-key.pem, client_crl_file: a}"
    )
    with pytest.raises(ConfigError, match="client_crl: expected a client_auth_type that verifies, got NoClientCert"):
        load_web_config(node.web)


def test_a_list_may_stand_in_the_file(node: Node) -> None:
    node.machines.issue_proxy("front1")
    text = "\n".join(f"    {line}" for line in node.machines.revocation_list().decode().splitlines())
    node.put("web.yml", CONFIG.replace("client_crl_file: crl.pem", f"client_crl: |\n{text}").encode())
    context = LiveWebConfig(node.web).context
    assert context is not None
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
