"""The client of one agent, against agents that misbehave on purpose: TLS."""

from __future__ import annotations

import ssl

import pytest
import trustme

from pymon.proxy import upstream as module
from tests.proxy.agents import Agent, Peer, always, on_each_loop, until
from tests.proxy.upstream import OK, TLS, failure, get, told, using


@on_each_loop
async def test_an_agent_of_a_private_authority(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"
            assert agent.connections == 1


@on_each_loop
async def test_a_kept_connection_that_tls_ended_is_replaced(tls):
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        await peer.asked()
        peer.writer.transport.abort()

    async with Agent(handle, tls=tls.server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            for _ in range(3):
                assert (await get(upstream)).body == b"ok"


@on_each_loop
async def test_a_wrong_name_or_authority_is_refused_and_nothing_is_sent(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        for context, name in (
            (tls.client, ""),
            (tls.client, "b.example"),
            (TLS.trusting(trustme.CA()), "agent.example"),
        ):
            with using(agent.url, context, server_name=name) as upstream:
                error = await failure(upstream)
                assert told(error) == (502, "tls")
                assert str(error).startswith("TLS: ")
                assert told(await failure(upstream)) == (502, "tls")
    assert agent.heads == []


@on_each_loop
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_an_agent_that_wants_a_certificate(tls, version):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = server.maximum_version = version
    tls.certificate.configure_cert(server)
    tls.authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    async with Agent(always(OK), tls=server) as agent:
        with using(agent.url, tls.client, server_name="agent.example") as upstream:
            # With TLS 1.3 the client's handshake is over before the agent looks at its certificate.
            assert told(await failure(upstream)) == (502, "connect" if version is ssl.TLSVersion.TLSv1_2 else "closed")
        assert agent.heads == []
        mutual = TLS.trusting(tls.authority)
        tls.authority.issue_cert("proxy.example").configure_cert(mutual)
        with using(agent.url, mutual, server_name="agent.example") as upstream:
            assert (await get(upstream)).body == b"ok"


def pinned() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@on_each_loop
async def test_a_pinned_certificate_is_the_only_one(tls):
    async with Agent(always(OK), tls=tls.server) as agent:
        with using(agent.url, pinned(), fingerprint=tls.fingerprint) as upstream:
            assert (await get(upstream)).body == b"ok"
        heads = len(agent.heads)
        with using(agent.url, pinned(), fingerprint="0" * 64) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
            assert told(await failure(upstream)) == (502, "tls")
            await until(lambda: agent.open == upstream.connections == 0)
        assert len(agent.heads) == heads


@on_each_loop
async def test_a_pinned_certificate_is_never_taken_from_plain_http(tls):
    async with Agent(always(OK)) as agent:
        with using(agent.url, fingerprint=tls.fingerprint) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
        assert agent.heads == []


@on_each_loop
async def test_what_is_no_tls_is_refused(tls, monkeypatch):

    async def handle(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(OK)

    async with Agent(handle) as agent:
        with using(agent.url.replace("http:", "https:"), tls.client) as upstream:
            assert told(await failure(upstream)) == (502, "tls")
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    async with Agent(lambda peer: peer.closed()) as agent:
        with using(agent.url.replace("http:", "https:"), tls.client) as upstream:
            assert told(await failure(upstream)) == (504, "connect_timeout")
            await until(lambda: agent.open == 0)
