"""The certificate that a proxy shows to agents: issued and renewed by itself, or read again from its file."""

from __future__ import annotations

import datetime as dt
import logging
import math
import os
import socket
import ssl
import time
from pathlib import Path

import pytest
from cryptography import x509

from pymon.config import ConfigError
from pymon.directory.machines import Machines
from pymon.proxy import upstream_tls as module
from pymon.proxy.options import ProxyOptions, load_proxy_options
from pymon.proxy.upstream_tls import UpstreamTLS, own_name
from tests.machines import proxy_certificate
from tests.proxy.agents import Agent, Peer, on_each_loop, until
from tests.proxy.upstream import OK, get, using

HOUR = 3600.0


def options(data_dir: Path, *flags: str) -> ProxyOptions:
    argv = ["--tls.cert-file=c.pem", "--tls.key-file=k.pem", f"--data-dir={data_dir}", *flags]
    return load_proxy_options(argv, {}, 0)[0]


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines.load_or_create(tmp_path / "authority-machines")


def issued(machines: Machines) -> list[str]:
    folder = machines.folder / "issued"
    return [file.name for file in folder.iterdir()] if folder.exists() else []


def shown(machines: Machines, context: ssl.SSLContext) -> x509.Certificate | None:
    """What a client with this context shows to a server that asks for a certificate of the machines' authority."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = machines.folder.parent / "server.pem"
    certificate, key = machines.authority.issue_server(["node1"], 1)
    chain.write_bytes(key + certificate)
    server.load_cert_chain(chain)
    server.load_verify_locations(cadata=machines.authority.pem.decode())
    server.verify_mode = ssl.CERT_OPTIONAL
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = server.wrap_bio(up, down, server_side=True)
    here = context.wrap_bio(down, up, server_hostname="node1")
    for _ in range(4):
        for side in (here, there):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = there.getpeercert(True)
    return x509.load_der_x509_certificate(der) if der else None


def test_no_authority_no_certificate(tmp_path: Path) -> None:
    tls = UpstreamTLS(options(tmp_path), time.time())
    assert tls.ends_at == math.inf
    assert not tls.refresh(time.time() + 100 * HOUR)
    machines = Machines.load_or_create(tmp_path / "authority-machines")
    (machines.folder / "ca-key.pem").rename(tmp_path / "elsewhere")
    assert tls.refresh(time.time())
    assert shown(machines, tls.pinned) is None


def test_one_of_its_own_is_renewed_after_sixteen_hours(tmp_path: Path, machines: Machines) -> None:
    now = time.time()
    tls = UpstreamTLS(options(tmp_path, f"--upstream.tls-ca-file={machines.folder / 'ca-cert.pem'}"), now)
    assert tls.ends_at == pytest.approx(now + 24 * HOUR, abs=10)
    context = tls.context
    for one in (tls.context, tls.pinned):
        certificate = shown(machines, one)
        assert certificate is not None
        assert certificate.subject.rfc4514_string() == f"CN=pymon:proxy:{own_name()}"
    assert not tls.refresh(now + 15.9 * HOUR)
    assert len(issued(machines)) == 1
    assert tls.refresh(now + 16.1 * HOUR)
    assert tls.context is not context
    renewed = shown(machines, tls.context)
    assert renewed is not None
    assert renewed.serial_number != certificate.serial_number
    assert len(issued(machines)) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["authority-machines", "server.pem"]


def test_another_authority_is_noticed(tmp_path: Path, machines: Machines) -> None:
    tls = UpstreamTLS(options(tmp_path), time.time())
    machines.folder.rename(tmp_path / "old")
    other = Machines.load_or_create(machines.folder)
    assert tls.refresh(time.time())
    certificate = shown(other, tls.pinned)
    assert certificate is not None
    certificate.verify_directly_issued_by(other.authority.certificate)


def test_an_authority_that_goes_bad_is_one_line_and_the_last_certificate_stays(
    tmp_path: Path, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    tls = UpstreamTLS(options(tmp_path), now)
    context, key = tls.context, machines.folder / "ca-key.pem"
    good = key.read_bytes()
    key.write_text("damaged")
    for second in range(200):
        assert not tls.refresh(now + second)
    assert tls.context is context
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "the last good one stays: " in line
    assert line.endswith("ca-key.pem: expected a private key in PEM, without a passphrase")
    key.write_bytes(good)
    assert tls.refresh(now + 201)
    assert tls.context is not context


def test_a_certificate_that_cannot_be_issued_at_the_start_is_tried_again(
    tmp_path: Path, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    (machines.folder / "issued").write_text("a file")
    tls = UpstreamTLS(options(tmp_path), now)
    assert shown(machines, tls.pinned) is None
    assert len(caplog.records) == 1
    (machines.folder / "issued").unlink()
    assert not tls.refresh(now + 59)
    assert tls.refresh(now + 61)
    assert shown(machines, tls.pinned) is not None


def test_a_file_is_read_again_when_it_changes(
    tmp_path: Path, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "proxy.pem"
    written = iter(range(10**9, 10**9 + 100))

    def put(data: bytes) -> None:
        file.write_bytes(data)
        at = next(written)
        os.utime(file, (at, at))

    now = time.time()
    put(proxy_certificate(machines.authority, "front1", seconds=100))
    flags = (f"--upstream.tls-cert-file={file}", f"--upstream.tls-key-file={file}")
    tls = UpstreamTLS(options(tmp_path, *flags), now)
    assert tls.ends_at == pytest.approx(now + 100, abs=5)
    assert issued(machines) == []
    put(proxy_certificate(machines.authority, "front2", seconds=500))
    assert tls.refresh(now)
    assert tls.ends_at == pytest.approx(now + 500, abs=5)
    certificate = shown(machines, tls.pinned)
    assert certificate is not None
    assert certificate.subject.rfc4514_string() == "CN=pymon:proxy:front2"
    context = tls.context
    put(b"half a fi")
    for _ in range(3):
        assert not tls.refresh(now)
    assert tls.context is context
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    file.unlink()
    assert not tls.refresh(now)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        UpstreamTLS(options(tmp_path, *flags), now)


def test_bad_authorities_keep_back_no_certificate_nor_the_other_way_round(
    tmp_path: Path, machines: Machines, caplog: pytest.LogCaptureFixture
) -> None:
    now = time.time()
    file, ca = tmp_path / "proxy.pem", tmp_path / "ca.pem"
    file.write_bytes(proxy_certificate(machines.authority, "front1", seconds=100))
    ca.write_bytes(machines.authority.pem)
    flags = [f"--upstream.tls-{what}-file={path}" for what, path in (("ca", ca), ("cert", file), ("key", file))]
    tls = UpstreamTLS(options(tmp_path, *flags), now)
    trust, identity = tls.reloads
    assert (trust.use, identity.use) == ("upstream_ca", "upstream")
    assert tls.ends()["upstream_ca"] == machines.authority.certificate.not_valid_after_utc.timestamp()
    ca.write_bytes(b"half of it")
    assert not tls.refresh(now)
    assert (trust.failures, identity.failures) == (1, 0)
    file.write_bytes(proxy_certificate(machines.authority, "front222", seconds=500))
    assert tls.refresh(now)
    (old,) = tls.context.get_ca_certs()
    assert (trust.error != "", identity.error) == (True, "")
    assert tls.ends()["upstream"] == pytest.approx(now + 500, abs=5)
    file.write_bytes(b"half")
    other = Machines.load_or_create(tmp_path / "other")
    ca.write_bytes(other.authority.pem + machines.authority.pem)
    assert tls.refresh(now)
    assert len(tls.context.get_ca_certs()) == 2
    assert old in tls.context.get_ca_certs()
    certificate = shown(machines, tls.context)
    assert certificate is not None
    assert certificate.subject.rfc4514_string() == "CN=pymon:proxy:front222"
    assert (trust.error, identity.failures) == ("", 1)
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


def test_the_authorities_of_the_system_are_read_again(
    tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.pem"
    system.write_bytes(machines.authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    tls = UpstreamTLS(options(tmp_path), time.time())
    assert len(tls.context.get_ca_certs()) == 1
    assert not tls.refresh(time.time())
    other = Machines.load_or_create(tmp_path / "other")
    system.write_bytes(machines.authority.pem + other.authority.pem)
    assert tls.refresh(time.time())
    assert len(tls.context.get_ca_certs()) == 2


def test_an_authority_of_its_own_ends_too(tmp_path: Path, machines: Machines) -> None:
    tls = UpstreamTLS(options(tmp_path), time.time())
    assert tls.ends()["machines_authority"] == machines.authority.certificate.not_valid_after_utc.timestamp()
    assert tls.ends()["upstream_ca"] == math.inf


@pytest.mark.parametrize(
    ("host", "name"),
    [("Front-1.Example", "front-1.example"), ("a_b", "a-b"), ("-", "proxy"), ("ä" * 60, "proxy"), ("x" * 64, "x" * 52)],
)
def test_the_name_of_a_host_that_is_no_name_of_a_proxy(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert module.own_name() == name
    assert machines.issue_proxy(own_name())


@on_each_loop
async def test_connections_end_when_there_is_another_certificate(tmp_path):
    machines = Machines.load_or_create(tmp_path / "authority-machines")
    now = time.time()
    tls = UpstreamTLS(options(tmp_path, f"--upstream.tls-ca-file={machines.folder / 'ca-cert.pem'}"), now)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = machines.authority.issue_server(["node1"], 1)
    (tmp_path / "server.pem").write_bytes(key + certificate)
    server.load_cert_chain(tmp_path / "server.pem")
    server.load_verify_locations(cadata=machines.authority.pem.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    serials = []

    async def handle(peer: Peer) -> None:
        der = peer.writer.get_extra_info("ssl_object").getpeercert(True)
        while not peer.reader.at_eof():
            await peer.asked()
            serials.append(x509.load_der_x509_certificate(der).serial_number)
            if len(serials) == 4:
                assert tls.refresh(now + dt.timedelta(hours=40).total_seconds())
                upstream.use(tls.context)
            await peer.say(OK)

    async with Agent(handle, tls=server) as agent:
        with using(agent.url, tls.context, server_name="node1") as upstream:
            for _ in range(2):
                await get(upstream)
            assert (len(set(serials)), agent.connections) == (1, 1)
            assert tls.refresh(now + dt.timedelta(hours=17).total_seconds())
            upstream.use(tls.context)
            await get(upstream)
            assert (len(set(serials)), agent.connections) == (2, 2)
            # The fourth is under way while the certificate changes.
            assert (await get(upstream)).status == 200
            await get(upstream)
            assert (len(set(serials)), agent.connections) == (3, 3)
            await until(lambda: agent.open == upstream.connections == 1)
