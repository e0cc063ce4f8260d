"""Two proxies of one directory: what one asks the other, and what it believes."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509

from pymon.directory.authority import Authority, is_issued_by
from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.directory.machines import Machines
from pymon.proxy.agent_document import Document, NodeDocument
from pymon.proxy.inventory_store import MadeCopy, Stop
from pymon.proxy.peer_identity import PeerIdentity
from pymon.proxy.peer_web import encoded
from pymon.proxy.peers import _read
from tests.machines import proxy_certificate
from tests.proxy.claim_site import container as claimed
from tests.proxy.running import EXPOSITION, FakeNode, Running, Site, Tenant, container, on_uvloop, running

A, B, C, D, E = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "abcde")


async def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def site_of(folder: Path) -> Site:
    site = Site(folder)
    Machines.load_or_create(site.data_dir / MACHINES_FOLDER)
    return site


def other(site: Site, name: str = "other") -> dict[str, Any]:
    """The options of another proxy: the same directory, and a data directory with nothing but the machines' key."""
    folder = site.folder / name
    if not folder.exists():
        shutil.copytree(site.data_dir / MACHINES_FOLDER, folder / MACHINES_FOLDER)
    return {"data_dir": folder, "directory": str(site.data_dir / "directory.db")}


class Copies:
    """Other proxies that answer like this, and say that they reach every node."""

    def __init__(self, copy: Callable[..., Awaitable[Any]]) -> None:
        self.copy = copy

    def that_reach(self, _: str) -> bool:
        return True


def knows(one: Running, another: Running) -> bool:
    return another.proxy.presence.name in one.proxy.presence.alive.peers


@asynccontextmanager
async def pair(site: Site) -> AsyncIterator[tuple[Running, Running]]:
    """Two proxies that know each other."""
    async with running(site) as one, running(site, **other(site)) as two:
        await until(lambda: knows(one, two) and knows(two, one))
        yield one, two


@asynccontextmanager
async def pair_of_a_node(folder: Path) -> AsyncIterator[tuple[Running, Running, FakeNode, Tenant]]:
    """Two proxies that both reach the node n1, and alice, whose container A is there."""
    site = site_of(folder)
    alice = site.account("alice")
    async with FakeNode(container(A, str(alice.uuid))) as node:
        site.node("n1", node)
        async with pair(site) as (one, two):
            await until(lambda: one.proxy.reach.reached == two.proxy.reach.reached == {"n1"})
            yield one, two, node, alice


def disconnect(one: Running) -> Callable[[], None]:
    """Let this proxy alone reach the node n1 no more. Return what connects it again."""
    upstream = one.proxy.tenants.relay._find("n1").upstream
    port, upstream._port = upstream._port, 1
    for connection in tuple(upstream._connections):
        connection.close()
    return lambda: setattr(upstream, "_port", port)


def uuids(answer) -> set[str]:
    return {found["vm_uuid"] for found in msgspec.json.decode(answer.body)["containers"]}


@on_uvloop
async def test_a_new_proxy_has_the_inventory_of_a_node_that_is_down_and_its_stopped_containers(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    node, up = FakeNode(container(A, str(alice.uuid)), container(B, str(bob.uuid))), FakeNode(name="n2")
    async with up, node:
        site.node("n1", node)
        site.node("n2", up)
        async with running(site, containers=2) as one:
            node.change(container(A, str(alice.uuid)))
            await until(lambda: len(one.proxy.fleet) == 1)
            await node.__aexit__()
            await until(lambda: not one.proxy.poller.up("n1"))
            async with running(site, **other(site), containers=1) as two:
                assert uuids(await two.ask("/v1/discover", alice)) == {A}
                stopped = await two.ask("/v1/discover?stopped=true", bob)
                assert uuids(stopped) == {B}
                assert stopped.body == (await one.ask("/v1/discover?stopped=true", bob)).body
                assert await two.metric("pymon_proxy_nodes_unknown") == 0
                assert await two.metric("pymon_proxy_peers") == 1
                assert (await two.ask(f"/v1/{A}/metrics", alice)).status == 502


@on_uvloop
async def test_what_is_not_known_of_a_node_is_an_error_and_no_shorter_list(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("pymon.proxy.build.FIRST_ANSWER_SECONDS", 0.0)
    site = site_of(tmp_path)
    alice, bob, root = site.account("alice"), site.account("bob"), site.account("root", operator=True)
    node, down = FakeNode(container(A, str(alice.uuid)), container(B, str(bob.uuid))), FakeNode(name="n2")
    async with node:
        site.node("n1", node)
        site.directory.create_node("n2", "http://127.0.0.1:1", uuid=down.uuid, accounts=["alice"])
        site.directory.create_node("n3", "http://127.0.0.1:1")
        async with running(site) as proxy:
            assert await proxy.metric("pymon_proxy_nodes_unknown") == 1, "n3 was never heard by anybody"
            assert proxy.proxy.unknown_nodes() is proxy.proxy.unknown_nodes(), "not looked for at each request"
            for path in ("/v1/discover", "/v1/sd", "/v1/sd?role=app", "/v1/account/metrics"):
                answer = await proxy.ask(path, alice)
                assert (answer.status, answer.line) == (503, "not ready: nothing is known of node n2"), path
                assert (await proxy.ask(path, bob)).status == 200, "n2 has nothing of bob's"
                assert (await proxy.ask(path, root)).status == 503
            for path in ("/v1/gz/discover", "/v1/sd?role=node", "/-/ready"):
                assert (await proxy.ask(path, root)).status == 200
            assert (await proxy.ask(f"/v1/{A}/metrics", alice)).status == 200
            site.directory.delete_node("n2")
            await until(lambda: not proxy.proxy.unknown_nodes())
            assert uuids(await proxy.ask("/v1/discover", alice)) == {A}


@on_uvloop
async def test_a_scrape_goes_through_the_other_that_reaches_the_node_and_back_again(tmp_path: Path) -> None:
    async with pair_of_a_node(tmp_path) as (one, two, node, alice):
        reach = one.proxy.reach
        connect = disconnect(one)
        await until(lambda: reach.lost == {"n1"} and one.proxy.peers.that_reach("n1"))
        through = await one.ask(f"/v1/{A}/metrics?name[]=a&x=1", alice, "Accept-Encoding: gzip")
        assert (through.status, through.body) == (200, EXPOSITION)
        assert node.scrapes[-1].startswith(f"GET /v1/{A}/metrics?name%5B%5D=a HTTP".encode())
        assert (await one.ask(f"/v1/{B}/metrics", alice)).status == 404
        assert await one.metric("pymon_proxy_scrapes_total", route="peer") == 1
        assert await two.metric("pymon_proxy_requests_total", route="peer", code="200") >= 1
        assert await two.metric("pymon_proxy_scrapes_total", route="peer") == 0
        account = await one.ask("/v1/account/metrics", alice)
        assert (account.status, b"pymon_container_scrape_success{" in account.body) == (200, True)
        connect()
        await until(lambda: not reach.lost)
        before = await one.metric("pymon_proxy_scrapes_total", route="direct")
        assert (await one.ask(f"/v1/{A}/metrics", alice)).status == 200
        assert await one.metric("pymon_proxy_scrapes_total", route="direct") == before + 1


@on_uvloop
async def test_a_scrape_just_after_a_node_was_lost_waits_for_what_the_other_reaches(tmp_path: Path) -> None:
    async with pair_of_a_node(tmp_path) as (one, _, _, alice):
        await until(lambda: one.proxy.peers._clients)
        disconnect(one)
        one.proxy.reach.tell("n1", "timeout")
        assert not one.proxy.peers.that_reach("n1")
        assert (await one.ask(f"/v1/{A}/metrics", alice)).status == 200


@on_uvloop
async def test_two_that_both_lost_a_node_do_not_ask_each_other_in_a_circle(tmp_path: Path) -> None:
    async with pair_of_a_node(tmp_path) as (one, two, node, alice):
        for proxy in (one.proxy, two.proxy):
            for client in proxy.peers._clients.values():
                client.reached = frozenset(("n1",))
            proxy.peers._ask_nodes = lambda _: asyncio.sleep(0)
        await node.__aexit__()
        begun = time.monotonic()
        answers = await asyncio.gather(*[one.ask(f"/v1/{A}/metrics", alice), two.ask(f"/v1/{A}/metrics", alice)])
        assert {answer.status for answer in answers} == {502}
        assert time.monotonic() - begun < 9, "long before its time is over"


@on_uvloop
async def test_a_peer_is_not_believed_about_a_node_that_was_heard(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    alice = site.account("alice")
    node = FakeNode(container(A, str(alice.uuid)))
    async with node:
        site.node("n1", node)
        async with running(site) as one:
            asked: list[str] = []

            async def copy(name: str, etag: str, max_bytes: int) -> None:
                asked.append(name)

            one.proxy.poller._copies = Copies(copy)
            await node.__aexit__()
            await until(lambda: one.proxy.poller.failures.total() > 1)
            assert asked == []
            assert uuids(await one.ask("/v1/discover", alice)) == {A}


@on_uvloop
async def test_a_hostile_peer_tells_of_nodes_never_heard_within_the_claims_and_nothing_else(tmp_path: Path) -> None:
    """It tells of a node with another UUID than the directory has, of containers of other nodes, and its ETag."""
    site = site_of(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    true = FakeNode(container(A, str(alice.uuid)), name="n1")
    late = FakeNode(container(C, str(bob.uuid)), name="n2")
    async with true, late:
        site.node("n1", true)
        site.directory.create_node("n2", "http://127.0.0.1:1", uuid=late.uuid, accounts=["bob"])
        site.directory.create_node("n3", "http://127.0.0.1:1", uuid=FakeNode(name="n3").uuid)
        false = [claimed(A, owner=str(alice.uuid), start=1e9), claimed(B, owner=str(alice.uuid))]
        mine = {"owner": str(bob.uuid), "start": 1.0}
        now = time.time()
        stops = [
            Stop(now, false[0]), Stop(now, claimed(D, uuid_name="docker:d", **mine)),
            Stop(now, claimed(true.uuid, **mine)), Stop(now, claimed(E, owner=str(alice.uuid))),
        ]  # fmt: skip
        copies = {
            "n2": MadeCopy(time.time(), '"x"', Document(NodeDocument(late.uuid, "n2"), false), stops),
            "n3": MadeCopy(time.time(), '"x"', Document(NodeDocument(true.uuid, "n3"), false), []),
        }

        async def copy(name: str, etag: str, max_bytes: int):
            return _read(await encoded(copies[name])) if name in copies else None

        async with running(site, containers=1) as one:
            one.proxy.poller._copies = Copies(copy)
            poller = one.proxy.poller
            await until(lambda: "n2" not in poller.never_heard)
            assert poller.never_heard == {"n3"}, "a UUID against the directory is refused"
            place = one.proxy.fleet.find(A)
            assert (place.node.name, one.proxy.fleet.find(B)) == ("n1", None), "nor may it claim for alice"
            assert one.proxy.fleet.stopped(alice.uuid, bob.uuid, None) == []
            site.directory.set_node("n2", url=late.url)
            await until(lambda: one.proxy.fleet.find(C))
            assert one.proxy.fleet.containers("n2").keys() == {C}, "the agent's own word replaces it"


def test_what_a_peer_sends_is_bounded_and_checked() -> None:
    for body in (b"", b"[]", b"{}", b'{"saved_at": 1e999, "etag": "", "document": {}, "stopped": []}', b"[" * 10**6):
        with pytest.raises((ValueError, RecursionError)):
            _read(body)
    good = '{"saved_at": 1, "etag": %s, "document": {}, "stopped": []}'
    assert _read((good % '"\\"a\\""').encode()).etag == '"a"'
    assert _read((good % '"a\\r\\nX: y"').encode()).etag == "", "it is sent in a header"


@on_uvloop
async def test_an_inventory_is_the_same_when_it_is_read(tmp_path: Path) -> None:
    many = [claimed(f"{number:08x}-0000-4000-8000-000000000000") for number in range(450)]
    copy = MadeCopy(1.5, '"t"', Document(NodeDocument(A, "h"), many), [Stop(2.0, many[0])])
    body = await encoded(copy)
    assert msgspec.json.decode(body, type=MadeCopy) == copy
    assert _read(body).stopped == copy.stopped


# --- who is a peer -------------------------------------------------------------------------------


def der(pem: bytes) -> bytes:
    text = pem.decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


def test_a_certificate_of_the_machines_authority_with_the_role_is_a_proxys(tmp_path: Path) -> None:
    machines, tenants = (Authority.load_or_create(tmp_path / name, name) for name in ("machines", "tenants"))
    made = Machines(tmp_path / "machines", machines)
    identity = PeerIdentity([tmp_path / "machines/ca-cert.pem", tmp_path / "missing.pem"], None)
    now = time.time()
    first = der(made.issue_proxy("front1"))
    assert identity.name_of(first, now) == "", "before the files were read"
    identity.refresh()
    assert identity.name_of(first, now) == "front1"
    assert identity.name_of(first, now + 25 * 3600) == "", "it has expired"
    for bad in (
        None, b"", b"x" * 100, first[:-1], first + b"x",
        der(proxy_certificate(machines, "front1", seconds=-10)),
        der(proxy_certificate(tenants, "front1", seconds=1000)),
        der(tenants.issue_client("pymon:proxy:front1", 1)[0]),
        der(machines.issue_client("pymon:proxy:front1", 1)[0]),
        der(machines.issue_server(["pymon.internal"], 1)[0]),
        machines.der,
    ):  # fmt: skip
        assert identity.name_of(bad, now) == "", bad


def test_one_that_is_revoked_is_no_peer_and_a_bad_list_admits_nobody(tmp_path: Path, caplog) -> None:
    made = Machines.load_or_create(tmp_path / "machines")
    crl = tmp_path / "crl.pem"
    identity = PeerIdentity([tmp_path / "machines/ca-cert.pem"], crl)
    one, two = der(made.issue_proxy("front1")), der(made.issue_proxy("front2"))

    def names() -> list[str]:
        identity.refresh()
        return [identity.name_of(certificate, time.time()) for certificate in (one, two)]

    assert names() == ["", ""], "there is no list"
    crl.write_bytes(made.revocation_list())
    assert names() == ["front1", "front2"]
    assert made.revoke_proxy("front1") == 1
    crl.write_bytes(made.revocation_list())
    assert names() == ["", "front2"]
    others = Machines.load_or_create(tmp_path / "others")
    for bad in (b"", b"no list", others.revocation_list()):
        crl.write_bytes(bad)
        assert names() == ["", ""]
        assert identity.error.startswith(f"{crl}: ")
    crl.write_bytes(made.revocation_list())
    assert names() == ["", "front2"]


def test_one_that_is_revoked_is_no_peer_while_the_list_is_read_again(tmp_path: Path, monkeypatch) -> None:
    made = Machines.load_or_create(tmp_path / "machines")
    crl = tmp_path / "crl.pem"
    crl.write_bytes(made.revocation_list())
    identity = PeerIdentity([tmp_path / "machines/ca-cert.pem"], crl)
    one, two = der(made.issue_proxy("front1")), der(made.issue_proxy("front2"))

    def name(certificate: bytes) -> str:
        return identity.name_of(certificate, time.time())

    identity.refresh()
    assert made.revoke_proxy("front1") == 1
    crl.write_bytes(made.revocation_list())
    identity.refresh()
    load, found = x509.load_pem_x509_crl, []

    def loading(pem: bytes) -> x509.CertificateRevocationList:
        found.append((name(one), name(two)))
        return load(pem)

    monkeypatch.setattr("pymon.proxy.peer_identity.x509.load_pem_x509_crl", loading)
    os.utime(crl, (1, 1))
    identity.refresh()
    assert found == [("", "front2")]
    monkeypatch.undo()

    # The list changes while the other one is looked at for the first time.
    def issued(*pair: x509.Certificate) -> bool:
        monkeypatch.undo()
        assert made.revoke_proxy("front2") == 1
        crl.write_bytes(made.revocation_list())
        identity.refresh()
        return is_issued_by(*pair)

    os.utime(crl, (2, 2))
    identity.refresh()
    monkeypatch.setattr("pymon.proxy.peer_identity.is_issued_by", issued)
    assert name(two) == "front2"
    assert name(two) == "", "what was found by the old list is not remembered"


@on_uvloop
async def test_tenants_nodes_and_strangers_get_nothing_of_a_peer(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, str(alice.uuid))) as node:
        site.node("n1", node)
        async with running(site) as one:
            made = Machines.load(site.data_dir / MACHINES_FOLDER)
            scrape = f"/v1/peer/scrape?node=n1&path=/v1/{A}/metrics"
            paths = ("/v1/peer/nodes", "/v1/peer/inventory?node=n1", scrape)
            for path in paths:
                assert (await one.ask(path)).status == 401
                assert (await one.ask(path, alice)).status == 404
                assert (await one.ask("/v1/x", alice)).body == (await one.ask(path, alice)).body
            pem = site.folder / "peer.pem"
            pem.write_bytes(made.issue_proxy("front2"))
            context = ssl.create_default_context(cafile=str(site.ca))
            context.load_cert_chain(pem)
            reader, writer = await asyncio.open_connection("127.0.0.1", one.port, ssl=context)
            client = type(await _client(one))(reader, writer)
            expected = {
                "/v1/peer/nodes": 200,
                "/v1/peer/inventory?node=n1": 200,
                "/v1/peer/inventory?node=n2": 404,
                "/v1/peer/inventory": 400,
                "/v1/peer/inventory?node=n1&node=n2": 400,
                scrape: 200,
                "/v1/peer/scrape?node=n1&path=/v1/gz/metrics": 200,
                "/v1/peer/scrape?node=n1&path=/metrics": 400,
                "/v1/peer/scrape?node=n1&path=/v1/containers": 400,
                f"/v1/peer/scrape?node=n1&path=/v1/{A}/metrics%3Fx=1": 400,
                f"/v1/peer/scrape?node=n1&path=/v1/{A}/metrics%0D%0AX:y": 400,
                f"/v1/peer/scrape?node=n9&path=/v1/{A}/metrics": 502,
                "/v1/peer/x": 404,
                "/v1/discover": 401,
                f"/v1/{A}/metrics": 401,
            }
            assert {path: (await _once(client, one, context, path)).status for path in expected} == expected
            writer.close()


async def _client(one: Running):
    async with one.client() as client:
        return client


async def _once(client, one: Running, context: ssl.SSLContext, path: str):
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port, ssl=context)
    try:
        return await type(client)(reader, writer).ask(path)
    finally:
        writer.close()
