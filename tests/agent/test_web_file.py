"""The agent over real sockets, as the web configuration file says, and as it changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import trustme
from cryptography import x509

from pymon.service.server import Times
from tests.agent.web_agent import Agent, Files, descriptors, run, running, until

pytestmark = pytest.mark.usefixtures("no_errors")


async def serial(agent: Agent, context: ssl.SSLContext) -> int:
    """Serial number of the certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("127.0.0.1", agent.port, ssl=context)
    data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(data).serial_number


def test_tls_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = Files(tmp_path)
    file = files.write()

    async def main() -> None:
        ca = files.client()
        async with running(web_file=file, ca=ca) as agent:
            assert (await agent.get("/metrics"))[0] == 200
            first = await serial(agent, ca)
            assert await serial(agent, ca) == first
            files.certify()
            second = await serial(agent, ca)
            assert second != first
            assert (await agent.get("/metrics"))[0] == 200
            ends = {"use": "server"}
            assert agent.value("pymon_certificate_expiry_timestamp_seconds", **ends) > time.time()
            worked = agent.value("pymon_reload_last_success_timestamp_seconds", use="web_config")
            # broken: what was read before stays
            files.put("key.pem", b"garbage")
            for _ in range(2):
                assert (await agent.get("/metrics"))[0] == 200
            assert await serial(agent, ca) == second
            assert agent.value("pymon_reload_failures_total", use="web_config") == 1
            assert agent.value("pymon_reload_last_successful", use="web_config") == 0
            assert agent.value("pymon_reload_last_success_timestamp_seconds", use="web_config") == worked
            assert agent.value("pymon_certificate_expiry_timestamp_seconds", **ends) > time.time()
            errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
            assert len(errors) == 1
            assert f"{file}: tls_server_config: expected a certificate and its key in PEM" in errors[0]
            caplog.clear()
            files.certify()
            assert await serial(agent, ca) != second
            assert agent.value("pymon_reload_last_successful", use="web_config") == 1
            # TLS cannot go while serving
            files.put("web.yml", b"")
            assert (await agent.get("/metrics"))[0] == 200
            assert "tls_server_config: cannot come or go while serving" in caplog.text
            caplog.clear()
            files.write()
            assert (await agent.get("/metrics"))[0] == 200

    run(main())


def test_tls_hostile(tmp_path: Path) -> None:
    files = Files(tmp_path)
    file = files.write()

    async def main() -> None:
        ca = files.client()
        async with running(web_file=file, ca=ca) as agent:
            await agent.get("/metrics")
            before = descriptors()
            for data in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", os.urandom(4096)):
                reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
                writer.write(data)
                writer.write_eof()
                with contextlib.suppress(ConnectionError):
                    answer = await reader.read()
                    # Of the answer to http:// it is one line that says so, and nothing of the agent's.
                    assert answer.endswith(b"\r\n\r\nthis port answers https://, and http:// was asked for\n") or (
                        b"HTTP" not in answer
                    )
                writer.close()
            untrusting = ssl.create_default_context()
            with pytest.raises(ssl.SSLError):
                await asyncio.open_connection("127.0.0.1", agent.port, ssl=untrusting)
            old = files.client()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            old.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384")
            assert (await agent.get("/metrics", ssl=old))[0] == 200
            # the last connection is kept, and both its ends are in this process
            await until(lambda: descriptors() <= before + 2)

    run(main())


def test_handshakes_have_a_deadline(tmp_path: Path) -> None:
    file = Files(tmp_path).write()

    async def main() -> None:
        async with running(web_file=file, times=Times(handshake=0.2)) as agent:
            assert await agent.raw(b"") == b""

    run(main())


def test_client_certificates(tmp_path: Path) -> None:
    files = Files(tmp_path)
    file = files.write("  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n")

    async def main() -> None:
        async with running(web_file=file, ca=files.client("a.example")) as agent:
            assert (await agent.get("/metrics"))[0] == 200
            for stranger in (files.client(), files.client("a.example", ca=trustme.CA())):
                with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                    await agent.get("/metrics", ssl=stranger)

    run(main())


def test_allowed_names(tmp_path: Path) -> None:
    files = Files(tmp_path)
    auth = "  client_ca_file: ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n"
    file = files.write(auth + "  client_allowed_sans: [prometheus.example, 10.1.2.3, ops@example.com]\n")

    async def main() -> None:
        async with running(web_file=file) as agent:
            agent.ca = files.client("prometheus.example")
            for good in (agent.ca, files.client("x.example", "10.1.2.3"), files.client("ops@example.com")):
                async with aiohttp.ClientSession() as agent.session:
                    assert (await agent.get("/metrics", ssl=good))[0] == 200
            served = len(agent.stub.calls)
            for bad in (files.client("other.example"), files.client("a.prometheus.example"), files.client()):
                async with aiohttp.ClientSession() as agent.session:
                    with pytest.raises(aiohttp.ClientError):
                        await agent.get("/metrics", ssl=bad)
            assert len(agent.stub.calls) == served
            files.write(auth)
            async with aiohttp.ClientSession() as agent.session:
                assert (await agent.get("/metrics", ssl=files.client("other.example")))[0] == 200

    run(main())


def test_users_headers_and_their_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = Files(tmp_path)

    def users(password: bytes) -> bytes:
        hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
        return f"http_server_config: {{headers: {{X-Frame-Options: deny}}}}\nbasic_auth_users: {{a: {hashed}}}".encode()

    file = files.put("web.yml", users(b"one"))

    async def main() -> None:
        async with running(web_file=file) as agent:
            status, headers, body = await agent.get("/metrics")
            assert (status, headers["WWW-Authenticate"], body) == (401, "Basic", b"unauthorized\n")
            assert headers["X-Frame-Options"] == "deny"
            one, two = ({"Authorization": aiohttp.encode_basic_auth("a", word)} for word in ("one", "two"))
            assert (await agent.get("/metrics", headers=one))[0] == 200
            assert (await agent.get("/-/healthy", headers=two))[0] == 401
            files.put("web.yml", users(b"two"))
            assert (await agent.get("/metrics", headers=one))[0] == 401
            assert (await agent.get("/metrics", headers=two))[0] == 200
            assert agent.count("metrics", 200) == 2
            files.put("web.yml", b"basic_auth_users: []")
            assert (await agent.get("/metrics", headers=two))[0] == 200
            assert (await agent.get("/metrics", headers=one))[0] == 401
            assert "basic_auth_users: expected a mapping" in caplog.text
            caplog.clear()

    run(main())


def test_rate_limit(tmp_path: Path) -> None:
    file = Files(tmp_path).put("web.yml", b"rate_limit: {interval: 1h, burst: 2}")

    async def main() -> None:
        async with running(web_file=file) as agent:
            assert [(await agent.get("/metrics"))[0] for _ in range(3)] == [200, 200, 429]
            status, headers, _ = await agent.get("/-/healthy")
            assert status == 429
            assert 3500 < int(headers["Retry-After"]) <= 3600

    run(main())
