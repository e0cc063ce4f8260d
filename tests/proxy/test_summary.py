"""The summary of an account through a proxy, logins, and the page's files."""

import asyncio
import json

import pytest

from pymon.proxy.cookie import COOKIE, authorization_of, set_cookie
from pymon.proxy.places import NodeView, Place
from pymon.proxy.summary import summarise
from pymon.summary_document import COLUMNS
from tests.proxy.running import A, B, C, D, FakeNode, Site, answer, container, on_uvloop, running, says

TEXTS = 7


def row(uuid, **fields):
    texts = {"name": "web", "image": "nginx", "runtime": "docker", "state": "running", "health": "", "owner": "mallory"}
    ended = {"end_seconds": None, "exit_code": None}
    items = {**dict.fromkeys(COLUMNS, 1.5), **ended, "uuid": uuid, **texts, **fields}
    return [items[column] for column in COLUMNS]


def document(*rows, columns=COLUMNS, **fields):
    node = {
        "uuid": "n", "hostname": "n1", "time": 5.0, "containers": rows, "source": "files", "collectors": {"cpu": False},
        "machine": {"cpus": 2, "memory_bytes": 1, "load": [1.0, 2.0, 3.0]}, **fields,
    }  # fmt: skip
    return json.dumps({"columns": columns, "nodes": [node]}).encode()


def tells(*rows, **fields):
    return says(answer(document(*rows, **fields), content_type="application/json"))


def taken(body, *uuids, operator=False):
    view = NodeView("n1", "n", "n1")
    mine = {}
    for uuid in uuids:
        found = type("Told", (), {"uuid": uuid, "owner": "alice"})()
        mine[uuid] = Place(found, view, None)
    steps = summarise(body, "n1", mine, operator=operator)
    while True:
        try:
            assert next(steps) == "n1"
        except StopIteration as end:
            return json.loads(end.value)


@on_uvloop
async def test_an_account_sees_its_own_containers_and_an_operator_the_machine(tmp_path):
    site = Site(tmp_path)
    alice, root, _ = site.account("alice"), site.account("root", operator=True), site.account("bob")
    node = FakeNode(
        container(A, "alice"), container(B, "bob"), container(C), scrape=tells(row(A), row(B), row(C), row(A))
    )
    async with node:
        site.node("n1", node)
        async with running(site) as proxy:
            found = await proxy.ask("/v1/summary", alice)
            assert (found.status, found["cache-control"]) == (200, "no-store")
            told = json.loads(found.body)
            assert told["account"] == "alice"
            (entry,) = told["nodes"]
            assert [one[0] for one in entry["containers"]] == [A]
            assert entry["containers"][0][TEXTS - 1] == "alice", "what the proxy knows, not what the node says"
            assert entry.keys() == {"uuid", "hostname", "time", "containers"}
            (entry,) = json.loads((await proxy.ask("/v1/summary", root)).body)["nodes"]
            assert [one[0] for one in entry["containers"]] == [C]
            assert entry["machine"]["cpus"] == 2
            assert (entry["source"], entry["collectors"]) == ("files", {"cpu": False})


@on_uvloop
async def test_those_that_have_ended_are_their_account_s_as_long_as_the_node_tells_of_them(tmp_path):
    site = Site(tmp_path)
    alice, _ = site.account("alice"), site.account("bob")
    ended = {"state": "stopped", "ended": 150.0}
    numbers = {"state": "stopped", "end_seconds": 150.0, "exit_code": 137}
    rows = (row(A), row(B, **numbers), row(C, **numbers))
    node = FakeNode(
        container(A, "alice"), container(B, "alice") | ended, container(C, "bob") | ended, scrape=tells(*rows)
    )
    async with node:
        site.node("n1", node)
        async with running(site) as proxy:

            async def told():
                (entry,) = json.loads((await proxy.ask("/v1/summary", alice)).body)["nodes"]
                rows = [dict(zip(COLUMNS, one, strict=True)) for one in entry["containers"]]
                return {one["uuid"]: (one["end_seconds"], one["exit_code"]) for one in rows}

            assert await told() == {A: (None, None), B: (150.0, 137)}


@on_uvloop
async def test_a_node_that_has_none_or_tells_nonsense_is_named_and_the_rest_is_there(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    good = FakeNode(container(A, "alice"), name="good", scrape=tells(row(A), hostname="good"))
    old = FakeNode(container(B, "alice"), name="old", scrape=says(answer(b"not found\n", "404 Not Found")))
    bad = FakeNode(container(C, "alice"), name="bad", scrape=says(answer(b"{" * 1000, content_type="application/json")))
    nested = document(row(D))[:-1] + b',"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    deep = FakeNode(container(D, "alice"), name="deep", scrape=says(answer(nested, content_type="application/json")))
    async with good, old, bad, deep:
        for node in (good, old, bad, deep):
            site.node(node.hostname, node)
        async with running(site) as proxy:
            nodes = {one["hostname"]: one for one in json.loads((await proxy.ask("/v1/summary", alice)).body)["nodes"]}
    assert [one[0] for one in nodes["good"]["containers"]] == [A]
    assert nodes["old"]["error"] == "its agent has no summary: it is of an earlier version"
    assert nodes["bad"]["error"] == nodes["deep"]["error"] == "its summary cannot be read"


def test_rows_that_are_not_as_they_should_be_are_left_out():
    wrong = [row(A)[:-1], [*row(A), 1], {"uuid": A}, A, None, [[]] * len(COLUMNS), row(B), row([]), row(A, name="x")]
    assert [one[:2] for one in taken(document(*wrong), A)["containers"]] == [[A, "x"]]


def test_texts_for_numbers_and_numbers_for_texts_are_nothing():
    (found,) = taken(document(row(A, cpu_seconds="7", name=7, image="i" * 1000)), A)["containers"]
    items = dict(zip(COLUMNS, found, strict=True))
    assert (items["cpu_seconds"], items["name"], items["image"]) == (None, "", "i" * 256)


def test_columns_are_found_by_name():
    columns = ["memory_bytes", "new", "uuid"]
    (found,) = taken(document([1, 2, A], columns=columns), A)["containers"]
    items = dict(zip(COLUMNS, found, strict=True))
    assert (items["uuid"], items["memory_bytes"], items["cpu_seconds"]) == (A, 1, None)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'{"nodes":[]}', b'{"columns":[],"nodes":[]}', document(row(A))[:-5], document(row(A), time="x"),
        document(row(A)) + b"," + document(row(A)), document(row(A), hostname="h" * 100_000),
        b'{"columns":[],"nodes":[{"containers":[' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_summary_is_refused(body):
    with pytest.raises(ValueError):  # noqa: PT011  # which of them is of no concern: the caller has one text for all
        taken(body, A)


@on_uvloop
async def test_a_login_is_a_cookie_that_reads_what_its_token_reads(tmp_path):
    site = Site(tmp_path)
    alice = site.account("alice")
    async with FakeNode(container(A, "alice"), scrape=tells(row(A))) as node:
        site.node("n1", node)
        async with running(site) as proxy:
            found = await proxy.ask("/v1/login", alice, "Content-Length: 0", method="POST")
            assert found.status == 200
            kept, *attributes = found["set-cookie"].split("; ")
            assert {"HttpOnly", "Secure", "SameSite=Strict", "Path=/"} < set(attributes)
            assert (await proxy.ask("/v1/summary", None, f"Cookie: a=b; {kept}")).status == 200
            assert (await proxy.ask("/v1/summary", None, f"Cookie: {kept}x")).status == 401
            assert (
                await proxy.ask("/v1/login", None, f"Cookie: {kept}", "Content-Length: 0", method="POST")
            ).status == 400
            async with proxy.client(alice, certificate=True) as client:
                assert (await client.ask("/v1/login", "Content-Length: 0", method="POST")).status == 400
            ended = await proxy.ask("/v1/logout", None, "Content-Length: 0", method="POST")
            assert "Max-Age=0" in ended["set-cookie"]
            site.directory.revoke_token(alice.token.split("_")[1])
            async with asyncio.timeout(20):
                while (await proxy.ask("/v1/summary", None, f"Cookie: {kept}")).status != 401:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


@on_uvloop
async def test_a_browser_is_told_what_is_missing_and_not_asked_for_a_password(tmp_path):
    site = Site(tmp_path)
    async with running(site) as proxy:
        found = await proxy.ask("/v1/sd", None, "Accept: text/html,*/*")
        assert (found.status, found["content-type"]) == (401, "text/html; charset=utf-8")
        assert found["www-authenticate"] == 'Bearer realm="pymon"'
        assert b'<a href="/">' in found.body
        assert (await proxy.ask("/v1/summary"))["www-authenticate"] == 'Bearer realm="pymon"'
        page = await proxy.ask("/")
        assert (page.status, page["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'none'" in page["content-security-policy"]
        tag = page["etag"]
        assert (await proxy.ask("/", None, f"If-None-Match: {tag}")).status == 304
        assert (await proxy.ask("/static/page.js"))["content-type"] == "text/javascript; charset=utf-8"
        for path in ("/static/", "/static/index.html", "/static/../authn.py", "/static/%2e%2e/x"):
            assert (await proxy.ask(path)).status == 404


def test_cookie():
    line = set_cookie("Bearer pymon_a_b", 1e12, 0.0).decode()
    assert line.startswith(f"Set-Cookie: {COOKIE}=pymon_a_b; Max-Age=3600; Path=/; Secure; HttpOnly; SameSite=Strict")
    assert "Max-Age=5;" in set_cookie("bearer pymon_a_b", 105.0, 100.0).decode()
    for authorization in ("", "Basic eA==", "Bearer ", "Bearer a b", "Bearer a;b", "Bearer " + "a" * 300):
        assert set_cookie(authorization, 1e12, 0.0) == b""
    assert authorization_of(f"x=y; {COOKIE}=t") == "Bearer t"
    for cookies in (None, "", COOKIE, f"{COOKIE}=", f"x{COOKIE}=t", f'{COOKIE}="t"', f"{COOKIE}=a,b"):
        assert authorization_of(cookies) is None
