"""Credentials, and limits of accounts and source addresses."""

import asyncio
import base64
import contextlib
import ssl

from pymon.config import Address
from pymon.proxy.web import THROTTLED_AT_ONCE
from tests.proxy.agents import until
from tests.proxy.running import (
    A,
    B,
    on_uvloop,
    silent,
)
from tests.proxy.worlds import world


@on_uvloop
async def test_the_authorization_header_decides_where_there_is_a_certificate_too(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        async with proxy.client(alice, certificate=True) as client:
            assert (await client.ask(f"/v1/{A}/metrics")).status == 200
            assert (await client.ask(f"/v1/{A}/metrics", bob.bearer)).status == 404
            assert (await client.ask(f"/v1/{B}/metrics", bob.bearer)).status == 200
            assert (await client.ask(f"/v1/{A}/metrics")).status == 200
            assert (await client.ask(f"/v1/{A}/metrics", "Authorization: Bearer nonsense")).status == 401
        for fields in (
            ("Authorization:",),
            ("Authorization: ",),
            (alice.bearer, alice.bearer),
            (alice.bearer, bob.bearer),
        ):
            for more in ((), ("Connection: keep-alive",)):
                async with proxy.client(alice, certificate=True) as client:
                    got = await client.ask(f"/v1/{A}/metrics", *fields, *more)
                    assert (got.status in (400, 401), got["connection"]) == (True, "close"), fields


@on_uvloop
async def test_a_terminator_is_believed_when_it_is_one(tmp_path, caplog):
    listen = {"terminator_addresses": (Address("127.0.0.1", 0),), "terminator_trust": frozenset(("127.0.0.2",))}
    async with world(tmp_path, **listen) as (proxy, _, alice, bob, _):
        der = base64.b64encode(ssl.PEM_cert_to_DER_cert(alice.cert.read_text())).decode()
        header = f"Client-Cert: :{der}:"
        for _ in range(3):
            async with proxy.client(part="terminator") as client:
                for path in ("/v1/discover",):
                    got = await client.ask(path, header, alice.bearer)
                    assert (got.status, got.line, got["connection"]) == (403, "not a terminator", "close")
        assert [record.getMessage() for record in caplog.records] == ["not a terminator: 127.0.0.1"]
        for fields, status in (
            ((header,), 200), ((f"Client-Cert: {der}",), 200), ((header, "X-Forwarded-For: x, 10.0.0.1"), 200),
            ((header, "X-Forwarded-For: 10.0.0.1, x"), 401), ((header, header), 401), (("Client-Cert: :x:",), 401),
            (("Client-Cert:",), 401), ((), 401), ((header, bob.bearer), 404),
        ):  # fmt: skip
            async with proxy.client(part="terminator", source="127.0.0.2") as client:
                assert (await client.ask(f"/v1/{A}/metrics", *fields)).status == status, fields
        # Who fails is who the terminator says, and the header means nothing to whoever comes through TLS.
        for n in range(21):
            fields = (f"Authorization: Bearer {n}", "X-Forwarded-For: 10.0.0.9")
            async with proxy.client(part="terminator", source="127.0.0.2") as client:
                got = await client.ask("/v1/discover", *fields)
        assert got.status == 429
        async with proxy.client(bob, part="terminator", source="127.0.0.2") as client:
            assert (await client.ask("/v1/discover", "X-Forwarded-For: 10.0.0.8")).status == 200
        assert (await proxy.ask("/v1/discover", None, header)).status == 401


@on_uvloop
async def test_who_fails_too_often_is_told_to_wait_and_nobody_else_is(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        async with proxy.client(alice, certificate=True) as known, proxy.client(bob) as token:
            assert (await known.ask("/v1/discover")).status == 200
            assert (await token.ask("/v1/discover")).status == 200
            for n in range(21):
                got = await proxy.ask("/v1/discover", None, f"Authorization: Bearer pymon_{'a' * 12}_{n:043}")
                if got.status == 429:
                    break
                assert got.status == 401
            assert n >= 19
            for _ in range(3):
                got = await proxy.ask("/v1/discover", None, "Authorization: Basic YTpi")
                assert (got.status, got.line) == (429, "too many failed authentications")
                assert int(got["retry-after"]) >= 1
            # No credential costs nothing, and who is known stays known.
            assert (await proxy.ask("/v1/discover")).status == 401
            assert (await known.ask("/v1/discover")).status == 200
            assert (await token.ask("/v1/discover")).status == 200
            # Not even when the directory has changed, so that they are judged again.
            proxy.site.account("carol")
            await until(lambda: "carol" in proxy.proxy.live.snapshot.accounts_by_name)
            assert (await known.ask("/v1/discover")).status == 200
            assert (await token.ask("/v1/discover")).status == 200
        async with proxy.client(bob, certificate=True, source="127.0.0.2") as elsewhere:
            assert (await elsewhere.ask("/v1/discover")).status == 200


@on_uvloop
async def test_an_account_above_its_rate_is_told_when_to_come_again(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _):
        proxy.site.directory.set_quota("alice", requests_per_second=0.1, burst=3)
        async with proxy.client(alice) as client, proxy.client(bob) as other:
            await until(lambda: proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.burst == 3)
            assert [(await client.ask("/nothing")).status for _ in range(3)] == [404] * 3
            got = await client.ask("/v1/discover")
            assert (got.status, got.line, got["connection"]) == (429, "too many requests a second", None)
            assert 1 <= int(got["retry-after"]) <= 10
            assert (await other.ask("/v1/discover")).status == 200
            proxy.site.directory.set_quota("alice", requests_per_second=0)
            await until(lambda: not proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.requests_per_second)
            assert (await client.ask("/v1/discover")).status == 200


@on_uvloop
async def test_an_account_with_too_many_requests_at_a_time_is_refused_until_one_ends(tmp_path):
    async with world(tmp_path) as (proxy, node, alice, bob, _):
        proxy.site.directory.set_quota("alice", concurrency=1)
        await until(lambda: proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.concurrency == 1)
        node.scrape = silent
        async with proxy.client(alice) as client, proxy.client(bob) as other:
            async with proxy.client(alice) as slow:
                asked = asyncio.create_task(slow.ask(f"/v1/{A}/metrics"))
                await until(lambda: node.scrapes)
                got = await client.ask("/v1/discover")
                assert (got.status, got.line, got["retry-after"]) == (429, "too many requests at a time", "1")
                assert (await other.ask("/v1/discover")).status == 200
                asked.cancel()
                slow.leave()
            await until(lambda: not node.open)
            assert (await client.ask("/v1/discover")).status == 200


@on_uvloop
async def test_passwords_that_cannot_be_checked_now_are_no_failure_of_who_sends_them(tmp_path, monkeypatch):
    async with world(tmp_path) as (proxy, *_):
        proxy.site.directory.set_password("alice", "secret")
        await until(lambda: proxy.proxy.live.snapshot.passwords)
        monkeypatch.setattr("pymon.service.passwords.Passwords.MAX_WAITING", 0)
        header = "Authorization: Basic " + base64.b64encode(b"alice:secret").decode()
        for _ in range(25):
            got = await proxy.ask("/v1/discover", None, header)
            assert (got.status, got["retry-after"]) == (503, "1")
        monkeypatch.undo()
        assert (await proxy.ask("/v1/discover", None, header)).status == 200


@on_uvloop
async def test_nobody_waits_for_the_refusals_of_an_account_above_its_rate(tmp_path):
    async with world(tmp_path) as (proxy, _, alice, bob, _), contextlib.AsyncExitStack() as stack:
        proxy.site.directory.set_quota("alice", requests_per_second=0.001, burst=1)
        await until(lambda: proxy.proxy.live.snapshot.accounts_by_name["alice"].quota.burst == 1)
        many = [await stack.enter_async_context(proxy.client(alice)) for _ in range(12 * THROTTLED_AT_ONCE)]
        other = await stack.enter_async_context(proxy.client(bob))
        assert (await other.ask("/v1/discover")).status == (await many[0].ask("/v1/discover")).status == 200
        order = []

        async def ask(client, status):
            assert (await client.ask("/v1/discover")).status == status
            order.append(status)

        await asyncio.gather(*(ask(client, 429) for client in many), ask(other, 200))
        assert order.index(200) < len(many) / 2
