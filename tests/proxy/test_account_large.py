"""``/v1/account/metrics`` of large accounts: in pieces, refused or cut where it is too large, whatever a node does."""

import asyncio
import gzip
import random
from contextlib import asynccontextmanager

import pytest

from pymon.proxy import account_metrics, account_work, aggregate
from tests.proxy.agents import until
from tests.proxy.running import FakeNode, Site, answer, container, on_uvloop, running, silent
from tests.proxy.test_account_metrics import served, uuid_of
from tests.proxy.test_account_work import pieces, place, successes, work_on

COUNT = 40


def body_of(number, families=20, samples=10):
    """Some 20 KB that do not compress well, of families that all have."""
    some = random.Random(number)  # noqa: S311
    return b"".join(
        b"# HELP family_%d_total Help.\n# TYPE family_%d_total counter\n" % (n, n)
        + b"".join(
            b'family_%d_total{i="%d",x="%b"} %d\n' % (n, i, some.randbytes(20).hex().encode(), some.randrange(10**9))
            for i in range(samples)
        )
        for n in range(families)
    )


def node_of(name="n1", first=0, count=COUNT, body=body_of):
    async def scrape(peer, head):
        await peer.say(answer(body(int(head[len(b"GET /v1/") :][:8], 16))))

    return FakeNode(*(container(uuid_of(first + n), "alice") for n in range(count)), name=name, scrape=scrape)


def expected(count=COUNT):
    return b"".join(pieces(work_on([(place(n), body_of(n)) for n in range(count)])[1]))


@asynccontextmanager
async def asked(folder):
    """A proxy with a node of `COUNT` containers of alice's, and a client of hers."""
    site = Site(folder)
    alice = site.account("alice")
    async with node_of() as node:
        site.node("n1", node)
        async with running(site) as proxy, proxy.client(alice) as client:
            yield proxy, node, alice, client


@pytest.fixture
def packed(monkeypatch):
    """Everything is kept compressed, and written in small pieces."""
    monkeypatch.setattr(aggregate, "PLAIN_BYTES", 10_000)
    monkeypatch.setattr(account_work, "PLAIN_BYTES", 10_000)


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_kept_compressed_comes_out_as_it_is(packed, monkeypatch, compress):
    bodies = [(place(n), body_of(n)) for n in range(COUNT)]
    parts, work = work_on(bodies, compress=compress)
    assert sum(body.packed for body in parts.bodies.values()) == COUNT - 1
    assert parts.size < 0.7 * sum(len(body) for _, body in bodies)
    got = list(pieces(work))
    assert len(got) > 1
    assert max(map(len, got)) < 3 * account_work.PIECE_BYTES
    whole = b"".join(got)
    monkeypatch.undo()
    assert (gzip.decompress(whole) if compress else whole) == expected()


def test_families_that_clash_are_counted_while_they_are_written():
    clash = [b"# TYPE a counter\n", b"# TYPE a histogram\n"]
    lines = b"".join(b'a_count{i="%d"} 1\n' % n for n in range(5000))
    bodies = [(place(n), clash[1] + lines if n else clash[0] + b"a 1\n") for n in range(8)]
    size = sum(len(body) for _, body in bodies)
    with pytest.raises(account_work.TooLargeError, match="putting the answer together"):
        list(pieces(work_on(bodies, most=8 * size)[1]))


@on_uvloop
async def test_a_large_answer_comes_in_pieces(tmp_path, packed):
    async with asked(tmp_path) as (proxy, _, alice, client):
        got = await client.ask("/v1/account/metrics")
        assert (got.status, got["transfer-encoding"]) == (200, "chunked")
        assert got.body == expected()
        zipped = await client.ask("/v1/account/metrics", "Accept-Encoding: gzip")
        assert (gzip.decompress(zipped.body), zipped["transfer-encoding"]) == (got.body, "chunked")
        head = await client.ask("/v1/account/metrics", method="HEAD")
        assert (head.status, head["transfer-encoding"]) == (200, "chunked")
        small = await client.ask("/v1/account/metrics?shard=0&shards=40")
        assert int(small["content-length"]) == len(small.body)
        await client.send(f"GET /v1/account/metrics HTTP/1.0\r\nAuthorization: Bearer {alice.token}\r\n\r\n".encode())
        old = await client.ended()
        assert old.endswith(got.body)
        assert b"chunked" not in old[: -len(got.body)]
        assert proxy.proxy.tenants.account_metrics.room.in_use == 0


@on_uvloop
async def test_a_limit_that_is_met_later_ends_the_connection_before_the_end_of_the_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(account_work, "MAX_WRITTEN_BYTES", 600_000)
    async with asked(tmp_path) as (proxy, _, alice, client):
        with pytest.raises(asyncio.IncompleteReadError):
            await client.ask("/v1/account/metrics")
        assert await client.ended() == b""
        async with proxy.client() as old:
            await old.send(f"GET /v1/account/metrics HTTP/1.0\r\nAuthorization: Bearer {alice.token}\r\n\r\n".encode())
            with pytest.raises(ConnectionResetError):
                await old.reader.read()
        assert await proxy.metric("pymon_proxy_account_metrics_cut_total", reason="too_large") == 2
        assert (await proxy.ask("/v1/account/metrics?shard=0&shards=4", alice)).status == 200


@on_uvloop
async def test_more_containers_than_one_answer_may_have_are_refused_before_any_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(account_metrics, "MAX_CONTAINERS", 15)
    async with asked(tmp_path) as (_, node, _, client):
        got = await client.ask("/v1/account/metrics")
        told = "40 containers are more than 15: ask for parts with shard=I&shards=3"
        assert (got.status, got.line, node.scrapes) == (413, told, [])
        parts = [await client.ask(f"/v1/account/metrics?shard={n}&shards=3") for n in range(3)]
        assert sum(len(served(part.body)) for part in parts) == COUNT


@on_uvloop
async def test_a_node_that_hangs_does_not_keep_the_others_until_the_deadline(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with node_of(count=12) as node, node_of("n2", first=12, count=12) as hung:
        hung.scrape = silent
        site.node("n1", node)
        site.node("n2", hung)
        async with running(site) as proxy, proxy.client(alice) as client:
            await until(lambda: len(proxy.proxy.fleet) == 24)
            # The client itself waits for 20 seconds.
            got = await client.ask("/v1/account/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 100")
            assert (got.status, successes(got.body)) == (200, [1] * 12 + [0] * 12)
