"""Handshakes of real clients with the proxy's context, on both event loops."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
import os
import re
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.config import ConfigError
from pymon.proxy import tls
from pymon.proxy.tls import LiveContext, server_context
from tests.proxy.certs import Workshop, der_of, run

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
VERSIONS = {"TLSv1.2": "-tls1_2", "TLSv1.3": "-tls1_3"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server_files(workshop: Workshop) -> tuple[Path, Path]:
    key = workshop.key()
    return workshop.certificate("localhost", key, extensions="subjectAltName = DNS:localhost"), key


@pytest.fixture(scope="module")
def client_files(workshop: Workshop) -> tuple[Path, Path]:
    key = workshop.key()
    return workshop.certificate("alice", key), key


@pytest.fixture(scope="module")
def key_of(workshop: Workshop) -> Callable[[str, str], Path]:
    """A key of a kind, the same each time: RSA keys take seconds to find."""
    return functools.cache(workshop.key)


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[int]:
    """A server that answers a line with what it knows of the client."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = writer.get_extra_info("ssl_object")
        der = found.getpeercert(binary_form=True)
        said = {
            "sha256": hashlib.sha256(der).hexdigest() if der else None,
            "version": found.version(),
            "reused": found.session_reused,
            "alpn": found.selected_alpn_protocol(),
        }
        try:
            await reader.readline()
            writer.write(json.dumps(said).encode() + b"\n")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=10)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def s_client(port: int, *options: str | Path) -> tuple[dict[str, Any] | None, str]:
    """What the server said to `openssl s_client`, None when it did not come so far; and all that the client printed."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-ign_eof"),
        *map(str, options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text = (await process.communicate(b"\n"))[0].decode(errors="replace")
    said = re.search(r'{"sha256".*}\n', text)  # may be in the midst of a line: s_client buffers what it says itself
    return (json.loads(said[0]) if said else None), text


def with_server(
    loop: Callable[[], asyncio.AbstractEventLoop],
    files: tuple[Path, Path],
    client: Callable[[int], Awaitable[None]],
) -> None:
    async def main() -> None:
        async with serving(server_context(*files)) as port:
            await client(port)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


def shown_by(files: tuple[Path, Path]) -> tuple[str | Path, ...]:
    return ("-cert", files[0], "-key", files[1])


def sha256(certificate: Path) -> str:
    return hashlib.sha256(der_of(certificate)).hexdigest()


def test_any_certificate_is_taken_and_none(loop, version, server_files, client_files):
    async def client(port: int) -> None:
        said, text = await s_client(port, VERSIONS[version], "-alpn", "h2,http/1.1", *shown_by(client_files))
        assert said == {"sha256": sha256(client_files[0]), "version": version, "reused": False, "alpn": "http/1.1"}
        assert "No client certificate CA names sent" in text
        said, _ = await s_client(port, VERSIONS[version])
        assert said == {"sha256": None, "version": version, "reused": False, "alpn": None}

    with_server(loop, server_files, client)


@pytest.mark.parametrize("shown", [True, False])
def test_a_session_is_resumed_and_its_certificate_stays(shown, loop, version, server_files, client_files, tmp_path):
    session = tmp_path / "session"
    credentials = shown_by(client_files) if shown else ()

    async def client(port: int) -> None:
        first, _ = await s_client(port, VERSIONS[version], *credentials, "-sess_out", session)
        again, text = await s_client(port, VERSIONS[version], "-sess_in", session)
        assert first == {
            "sha256": sha256(client_files[0]) if shown else None,
            "version": version,
            "reused": False,
            "alpn": None,
        }
        assert again == first | {"reused": True}
        assert "\nReused, " in text

    with_server(loop, server_files, client)


def test_reconnecting_clients_resume(loop, server_files, client_files):
    async def client(port: int) -> None:
        _, text = await s_client(port, "-tls1_2", "-reconnect", *shown_by(client_files))
        assert text.count("\nNew, ") == 1
        assert text.count("\nReused, ") == 5

    with_server(loop, server_files, client)


def test_no_session_is_kept_for_clients_without_tickets(server_files, client_files):
    async def client(port: int) -> None:
        _, text = await s_client(port, "-tls1_2", "-no_ticket", "-reconnect", *shown_by(client_files))
        assert text.count("\nNew, ") == 6

    with_server(uvloop.new_event_loop, server_files, client)


@pytest.mark.parametrize(
    ("algorithm", "option"),
    [
        ("RSA", "rsa_keygen_bits:1024"),
        ("RSA", "rsa_keygen_bits:4096"),
        ("EC", "ec_paramgen_curve:P-384"),
        ("EC", "ec_paramgen_curve:P-521"),
        ("ED25519", ""),
    ],
)
def test_keys_of_any_kind(algorithm, option, version, workshop, key_of, server_files):
    key = key_of(algorithm, option)
    certificate = workshop.certificate("alice", key)

    async def client(port: int) -> None:
        security = ("-cipher", "DEFAULT@SECLEVEL=0")
        said, _ = await s_client(port, VERSIONS[version], *security, *shown_by((certificate, key)))
        assert said is not None
        assert said["sha256"] == sha256(certificate)

    with_server(uvloop.new_event_loop, server_files, client)


def test_certificates_that_nobody_would_trust(loop, version, workshop, server_files):
    key, other = workshop.key(), workshop.key()
    certificates = [
        workshop.certificate("alice", key, days=-1),
        workshop.certificate("alice", key, issuer="Unknown CA", signer=other),
        workshop.certificate("/", key),
        workshop.certificate("alice", key, extensions="basicConstraints = critical,DER:30:03:01:01:00"),
        workshop.certificate("alice", key, extensions="basicConstraints = critical,DER:FF\nkeyUsage = DER:00"),
        workshop.certificate("alice", key, extensions="subjectAltName = DER:30:80\n1.2.3.4 = critical,DER:FF"),
        workshop.certificate("alice", key, extensions="subjectAltName = DER:30:03:82:01:FF"),
        workshop.certificate("alice", key, extensions="extendedKeyUsage = DER:00:01"),
        workshop.certificate("alice", key, extensions="1.2.3.4 = DER:" + ":".join(["AB"] * 25_000)),
    ]

    async def client(port: int) -> None:
        for certificate in certificates:
            said, text = await s_client(port, VERSIONS[version], *shown_by((certificate, key)))
            assert said is not None, text
            assert said["sha256"] == sha256(certificate)

    with_server(loop, server_files, client)


def test_a_long_chain_is_taken_and_the_first_one_counts(loop, version, workshop, server_files, client_files):
    chain = workshop.new(".pem")
    others = [workshop.certificate(f"authority {i}", workshop.key()) for i in range(3)]
    chain.write_text("".join(other.read_text() for other in others) * 3)

    async def client(port: int) -> None:
        said, _ = await s_client(port, VERSIONS[version], *shown_by(client_files), "-cert_chain", chain)
        assert said is not None
        assert said["sha256"] == sha256(client_files[0])

    with_server(loop, server_files, client)


def test_a_huge_certificate_ends_the_handshake_and_nothing_else(loop, version, workshop, server_files, client_files):
    key = workshop.key()
    huge = workshop.certificate("alice", key, extensions="1.2.3.4 = DER:" + ":".join(["AB"] * 60_000))

    async def client(port: int) -> None:
        assert (await s_client(port, VERSIONS[version], *shown_by((huge, key))))[0] is None
        assert (await s_client(port, VERSIONS[version], *shown_by(client_files)))[0] is not None

    with_server(loop, server_files, client)


@pytest.mark.parametrize("options", [("-tls1_1",), ("-tls1",), ("-tls1_2", "-cipher", "AES128-GCM-SHA256")])
def test_old_versions_and_ciphers_without_forward_secrecy_are_refused(options, server_files):
    async def client(port: int) -> None:
        assert (await s_client(port, *options))[0] is None

    with_server(uvloop.new_event_loop, server_files, client)


def test_every_cipher_of_tls_1_2_has_forward_secrecy_and_authenticates(server_files):
    ciphers = [cipher for cipher in server_context(*server_files).get_ciphers() if cipher["protocol"] == "TLSv1.2"]
    assert len(ciphers) == 6
    assert all(cipher["name"].startswith("ECDHE-") and cipher["aead"] for cipher in ciphers)


def test_a_client_may_not_renegotiate(server_files, client_files):
    async def client(port: int) -> None:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", *map(str, shown_by(client_files))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        text = (await process.communicate(b"R\n"))[0].decode(errors="replace")
        assert "no renegotiation" in text

    with_server(uvloop.new_event_loop, server_files, client)


# --- bytes between the two, in memory ---


def flights(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[Callable[[], bytes], Callable[[bytes], bool]]:
    """Steps of a handshake: what the client sends next; giving it to the server, which says whether it is done."""
    to_server, to_client, from_client, from_server = (ssl.MemoryBIO() for _ in range(4))
    ours = server.wrap_bio(to_server, from_server, server_side=True)
    theirs = client.wrap_bio(to_client, from_client, server_hostname="localhost")

    def send() -> bytes:
        to_client.write(from_server.read())
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        return from_client.read()

    def receive(data: bytes) -> bool:
        to_server.write(data)
        try:
            ours.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    return send, receive


def client_context(files: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # sends its certificate in the clear
    context.load_cert_chain(*files)
    return context


def test_the_key_of_a_certificate_must_be_held(version, workshop, server_files, client_files):
    """The thief's key file holds the victim's public key, so that openssl takes the pair."""
    victim = run("openssl", "ec", "-in", client_files[1], "-outform", "DER")
    thief = run("openssl", "ec", "-in", workshop.key(), "-outform", "DER")
    pair, key = workshop.new(".der"), workshop.new(".pem")
    pair.write_bytes(thief[:-65] + victim[-65:])
    run("openssl", "ec", "-inform", "DER", "-in", pair, "-out", key)
    for file in (client_files[1], key):
        client = client_context((client_files[0], file))
        client.maximum_version = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
        send, receive = flights(server_context(*server_files), client)
        assert not receive(send())
        if file == key:
            with pytest.raises(ssl.SSLError, match="BAD_SIGNATURE"):
                receive(send())
        else:
            assert receive(send())


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_certificate_message_is_an_error_of_tls(data, server_files, client_files):
    send, receive = flights(server_context(*server_files), client_context(client_files))
    assert not receive(send())
    sent = send()
    assert der_of(client_files[0]) in sent
    flight = bytearray(sent)
    for at, bits in data.draw(st.lists(st.tuples(st.integers(0, 450), st.integers(1, 255)), min_size=1, max_size=4)):
        flight[at] ^= bits
    try:
        done = receive(bytes(flight))
    except ssl.SSLError:
        return
    assert not done or flight == sent


def test_handshakes_on_many_threads_at_once(server_files, client_files):
    """OpenSSL calls back without the GIL."""
    server, client = server_context(*server_files), client_context(client_files)
    done: list[bool] = []

    def shake() -> None:
        for _ in range(20):
            send, receive = flights(server, client)
            receive(send())
            done.append(receive(send()))

    threads = [threading.Thread(target=shake) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 160


# --- files ---


def write(path: Path, data: bytes) -> None:
    """Replace the file, so that its inode is another one."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    os.replace(new, path)  # noqa: PTH105


@pytest.fixture
def files(tmp_path: Path, server_files: tuple[Path, Path]) -> Iterator[tuple[Path, Path]]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write(cert, server_files[0].read_bytes())
    write(key, server_files[1].read_bytes())
    return cert, key


def test_files_are_read_again_when_they_change(files, client_files, caplog):
    caplog.set_level(logging.INFO)
    live = LiveContext(*files)
    first = live.context
    live.refresh()
    assert live.context is first
    write(files[0], client_files[0].read_bytes())
    live.refresh()
    live.refresh()
    assert live.context is first
    assert "KEY_VALUES_MISMATCH" in str(live.error)
    write(files[1], client_files[1].read_bytes())
    live.refresh()
    assert live.context is not first
    assert live.context is not None
    assert live.error is None
    assert live.admits(live.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True))
    files[1].unlink()
    live.refresh()
    write(files[1], client_files[1].read_bytes())
    live.refresh()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR", "INFO"]
    assert f"{files[1]}: cannot be read: No such file or directory" in caplog.text


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("cert", None, "cert.pem: cannot be read: No such file or directory"),
        ("key", None, "key.pem: cannot be read: No such file or directory"),
        ("cert", b"", "cert.pem: expected a certificate in PEM and its key in"),
        ("key", b"garbage", "cert.pem: expected a certificate in PEM and its key in"),
    ],
)
def test_files_that_cannot_be_used_are_named(name, data, expected, files):
    file = files[0] if name == "cert" else files[1]
    file.unlink()
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        LiveContext(*files)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encrypted_key_is_refused_without_asking(files):
    run("openssl", "ec", "-in", files[1], "-aes128", "-passout", "pass:secret", "-out", files[1])
    with pytest.raises(ConfigError, match="the key is encrypted"):
        LiveContext(*files)


def test_an_ssl_that_cannot_be_reached_is_told(files, monkeypatch):
    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("no way")

    monkeypatch.setattr(tls, "accept_any_certificate", unreachable)
    with pytest.raises(ConfigError, match=r"^no way; let a TLS terminator hand the certificates over instead$"):
        server_context(*files)
