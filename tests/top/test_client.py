"""The requests of `pymon top`, and what it says when they fail."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from pathlib import Path

import pytest
import trustme

from pymon.top import client as module
from pymon.top.client import AskError, Client, Target
from tests.top.summaries import Summaries, served


async def asked(target: Target) -> bytes:
    async with Client(target) as client:
        return await client.summary()


async def problem(target: Target) -> str:
    with pytest.raises(AskError) as raised:
        await asked(target)
    text = str(raised.value)
    assert text.isprintable()
    assert len(text) <= 1000
    return text


@pytest.fixture
def summaries():
    with served(Summaries("web")) as found:
        yield found


async def test_the_body_of_the_summary(summaries) -> None:
    async with Client(Target(summaries.url)) as client:
        assert b'"web"' in await client.summary()
        assert b'"web"' in await client.summary()
    assert all("Authorization" not in seen and seen["Accept-Encoding"] == "identity" for seen in summaries.seen)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "{url} answers 401: go away (expected --token-file, or --cert-file and --key-file)"),
        (404, "{url} answers 404: go away (an agent or proxy of an earlier version has no summary)"),
        (302, "{url} answers 302: go away"),
        (503, "{url} answers 503: go away"),
    ],
)
async def test_an_error_is_told_in_one_line(summaries, status: int, expected: str) -> None:
    summaries.status, summaries.body = status, b"go away\nand more" + b"x" * 1_000_000
    summaries.headers = {"Location": "http://127.0.0.1:1/"}
    assert await problem(Target(summaries.url)) == expected.format(url=summaries.url)


async def test_what_a_server_says_is_shown_as_text_and_its_pause_is_kept(summaries) -> None:
    summaries.status, summaries.body = 429, "\x1b[2J\u202eslow".encode()
    summaries.headers = {"Retry-After": "7", "X-Request-Id": "0123456789abcdef"}
    with pytest.raises(AskError) as raised:
        await asked(Target(summaries.url))
    assert str(raised.value) == rf"{summaries.url} answers 429: \x1b[2J\u202eslow (request 0123456789abcdef)"
    assert raised.value.pause == 7
    for given, pause in (("1e99", module.MAX_PAUSE_SECONDS), ("-5", 0), ("nan", 0), ("soon", 0)):
        summaries.headers = {"Retry-After": given}
        with pytest.raises(AskError) as raised:
            await asked(Target(summaries.url))
        assert raised.value.pause == pause, given


async def test_an_answer_without_end_or_time_is_given_up(summaries, monkeypatch: pytest.MonkeyPatch) -> None:
    summaries.body = b" " * (module.MAX_BYTES + 1)
    assert await problem(Target(summaries.url)) == f"the answer of {summaries.url} has more than 16 MiB"
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    summaries.gate.clear()
    assert await problem(Target(summaries.url)) == f"no answer from {summaries.url} within 0 s"


async def test_bytes_that_are_no_http(tmp_path: Path) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert (await problem(Target(url))).startswith(f"the connection to {url} ended: ")
    server.close()
    assert await problem(Target(url)) == f"no connection to {url}: Connection refused"
    assert await problem(Target("http://no-such-host.invalid:1")) != ""


async def test_a_server_without_tls(summaries) -> None:
    url = summaries.url.replace("http:", "https:")
    assert (await problem(Target(url))).startswith(f"no TLS with {url}: ")


async def test_a_token_is_read_for_each_request(summaries, tmp_path: Path) -> None:
    file = tmp_path / "token"
    target = Target(summaries.url, token_file=file)
    async with Client(target) as client:
        for token in ("one", "two"):
            file.write_text(f"{token}\n")
            await client.summary()
        assert [seen["Authorization"] for seen in summaries.seen] == ["Bearer one", "Bearer two"]
        for content in (b"", b"a\nb", b"x" * 2000, b"\xff"):
            file.write_bytes(content)
            with pytest.raises(AskError, match="expected a token, on one line"):
                await client.summary()
        file.write_text("three")
        summaries.status, summaries.body = 401, b"not authenticated"
        with pytest.raises(AskError) as raised:
            await client.summary()
        assert str(raised.value).endswith(
            f"answers 401: not authenticated (the token in {file} has expired, was revoked, or is another proxy's)"
        )
    assert await problem(Target(summaries.url, token_file=tmp_path / "none")) == (
        f"{tmp_path / 'none'}: No such file or directory"
    )
    assert await problem(Target(summaries.url, token_file=tmp_path)) == f"{tmp_path}: expected a regular file"


async def test_certificates(tmp_path: Path) -> None:
    authority, ca = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    pems = {}
    for name, days in (("good", 1), ("old", -1)):
        issued = authority.issue_cert(
            f"{name}@example.org", not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        )
        pems[name] = tmp_path / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(str(pems[name]))
    with served(Summaries("web"), context) as summaries:
        url = summaries.url
        assert b'"web"' in await asked(Target(url, ca_file=ca, cert_file=pems["good"]))
        assert await problem(Target(url, cert_file=pems["good"])) == (
            f"the certificate of {url} is not trusted: self-signed certificate in certificate chain (--ca-file names "
            "its authority)"
        )
        assert (await problem(Target(url, ca_file=ca, cert_file=pems["old"]))).endswith(
            f"(the certificate {pems['old']} expired on {dt.datetime.now(dt.UTC) - dt.timedelta(days=1):%Y-%m-%d})"
        )
        assert (await problem(Target(url, ca_file=ca))).startswith(f"the connection to {url} ended: ")
        assert (await problem(Target(url, ca_file=pems["good"].with_name("none")))).startswith(f"{tmp_path / 'none'}: ")
        assert (await problem(Target(url, ca_file=ca, cert_file=ca))).startswith(f"{ca}: no certificate with its key")
        wrong = url.replace("127.0.0.1", "localhost")
        assert "is not trusted: Hostname mismatch" in await problem(Target(wrong, ca_file=ca, cert_file=pems["good"]))
