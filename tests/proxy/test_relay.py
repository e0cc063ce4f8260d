"""Scrapes that are alike, deadlines, turns, and what may be relayed; the agent is a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.exposition.negotiation import Coding, Format
from pymon.proxy import fair, relay
from pymon.proxy.fair import FairGate
from pymon.proxy.relay import Ask, Node, Relay, check
from pymon.proxy.upstream import Upstream, UpstreamError
from pymon.service.http1 import Response
from tests.proxy.agents import Agent, Handle, Peer, always, on_each_loop, until

ALICE, BOB, CAROL = UUID(int=1), UUID(int=2), UUID(int=3)
TEXT = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n%b"
OK = TEXT % (2, b"ok")


PLAIN, GZIP = ("identity",), ("gzip", "identity")


def ask(
    account: UUID = ALICE,
    path: str = "/x",
    *,
    format: Format = Format.TEXT_0_0_4,
    codings: tuple[Coding, ...] = PLAIN,
) -> Ask:
    return Ask(account, "n", path, format, codings)


class Front:
    """A relay to one agent. outcomes: what it observed."""

    def __init__(self, agent: Agent, slots: int) -> None:
        self.agent = agent
        self.outcomes: list[str] = []
        self.node = Node(Upstream(agent.url), FairGate(slots))
        self.relay = Relay({"n": self.node}.__getitem__, lambda _, outcome: self.outcomes.append(outcome))

    async def scrape(self, what: Ask | None = None, seconds: float = 10.0) -> Response:
        return await self.relay.scrape(what or ask(), asyncio.get_running_loop().time() + seconds)

    def begin(self, what: Ask | None = None, seconds: float = 10.0) -> asyncio.Task[Response]:
        return asyncio.create_task(self.scrape(what, seconds))

    async def joined(self, what: Ask, number: int) -> None:
        await until(lambda: what in self.relay._flights and len(self.relay._flights[what].waiters) == number)

    def is_empty(self) -> bool:
        gate = self.node.gate
        return not self.relay._flights and gate.in_use == gate.waiting == 0


@contextlib.asynccontextmanager
async def front(handle: Handle, slots: int = 8):
    async with Agent(handle) as agent:
        made = Front(agent, slots)
        try:
            yield made
        finally:
            made.node.upstream.close()
        assert made.is_empty()


def gated(go: asyncio.Event, answer: bytes = OK) -> Handle:
    async def handle(peer: Peer) -> None:
        while True:
            await peer.asked()
            await go.wait()
            await peer.say(answer)

    return handle


async def failure(task: asyncio.Task[Response]) -> tuple[int, str]:
    with pytest.raises(UpstreamError) as caught:
        await task
    return caught.value.status, caught.value.reason


# --- one request for those who ask alike ---


@on_each_loop
async def test_ten_who_ask_alike_are_one_request():
    go = asyncio.Event()
    async with front(gated(go)) as here:
        tasks = [here.begin() for _ in range(10)]
        await here.joined(ask(), 9)
        go.set()
        assert {(await task).body for task in tasks} == {b"ok"}
        assert (len(here.agent.heads), here.relay.shared, here.outcomes) == (1, 9, ["ok"])
        await here.scrape()
        assert len(here.agent.heads) == 2


@on_each_loop
async def test_no_other_account_path_format_or_coding_shares_a_request():
    async def handle(peer: Peer) -> None:
        while True:
            await peer.asked()
            number = len(here.agent.heads)
            await until(lambda: len(here.agent.heads) == 5)
            await peer.say(TEXT % (1, b"%d" % number))

    asks = [ask(), ask(BOB), ask(path="/y"), ask(format=Format.OPENMETRICS_1_0_0), ask(codings=GZIP)]
    async with front(handle) as here:
        answers = await asyncio.gather(*(here.scrape(one) for one in asks))
        assert sorted(answer.body for answer in answers) == [b"1", b"2", b"3", b"4", b"5"]
        assert here.relay.shared == 0


@on_each_loop
async def test_an_agent_is_told_what_was_asked_and_how_long_it_has():
    async with front(always(OK)) as here:
        await here.scrape(ask(format=Format.OPENMETRICS_1_0_0, codings=GZIP), seconds=7.5)
        await here.scrape(ask())
        first, second = (head.decode().split("\r\n") for head in here.agent.heads)
        assert first[0] == "GET /x HTTP/1.1"
        assert f"Accept: {Format.OPENMETRICS_1_0_0.content_type}" in first
        assert "Accept-Encoding: gzip" in first
        assert "Accept-Encoding: identity" in second
        (seconds,) = (line.split(": ")[1] for line in first if line.startswith("X-Prometheus-Scrape-Timeout-Seconds"))
        assert 0 < float(seconds) <= 7.5


@pytest.mark.parametrize(
    ("codings", "header"),
    [
        (("zstd", "gzip", "identity"), "zstd, gzip;q=0.9"),
        (("gzip", "zstd"), "gzip, zstd;q=0.9, identity;q=0"),
        (("zstd",), "zstd, identity;q=0"),
    ],
)
async def test_an_agent_is_told_the_codings_in_order(codings, header):
    answer = OK.replace(b"\r\n\r\n", f"\r\nContent-Encoding: {codings[0]}\r\n\r\n".encode())
    async with front(always(answer)) as here:
        await here.scrape(ask(codings=codings))
        assert f"Accept-Encoding: {header}" in here.agent.heads[0].decode().split("\r\n")


@on_each_loop
async def test_when_the_one_who_asked_goes_away_another_takes_over():
    go = asyncio.Event()
    async with front(gated(go)) as here:
        tasks = [here.begin() for _ in range(10)]
        await here.joined(ask(), 9)
        for number in range(3):
            await until(lambda number=number: len(here.agent.heads) == number + 1)
            tasks[number].cancel()
        await until(lambda: len(here.agent.heads) == 4)
        await here.joined(ask(), 6)
        go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers[:3]] == [asyncio.CancelledError] * 3
        assert [answer.body for answer in answers[3:]] == [b"ok"] * 7
        assert here.outcomes == ["cancelled"] * 3 + ["ok"]
        assert here.agent.connections == 4


@on_each_loop
async def test_one_who_waits_and_goes_away_changes_nothing():
    go = asyncio.Event()
    async with front(gated(go)) as here:
        tasks = [here.begin() for _ in range(5)]
        await here.joined(ask(), 4)
        tasks[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[2]
        go.set()
        assert [(await task).body for task in tasks if not task.cancelled()] == [b"ok"] * 4
        assert len(here.agent.heads) == 1


@on_each_loop
async def test_a_failure_reaches_all_who_asked_alike_and_is_not_repeated():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        await go.wait()

    go = asyncio.Event()
    async with front(handle) as here:
        tasks = [here.begin() for _ in range(5)]
        await here.joined(ask(), 4)
        tasks[3].cancel()
        go.set()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        del tasks
        assert [type(error) for error in errors] == [UpstreamError] * 3 + [asyncio.CancelledError, UpstreamError]
        assert len({id(error) for error in errors}) == 5  # each with a traceback of its own
        assert (len(here.agent.heads), here.relay.shared, here.outcomes) == (1, 0, ["closed"])


# --- deadlines ---


@on_each_loop
async def test_one_who_waits_gives_up_at_its_own_deadline():
    go = asyncio.Event()
    async with front(gated(go)) as here:
        first = here.begin()
        await here.joined(ask(), 0)
        assert await failure(here.begin(seconds=0.05)) == (504, "timeout")
        go.set()
        assert (await first).body == b"ok"
        assert (len(here.agent.heads), here.outcomes) == (1, ["ok"])


@on_each_loop
async def test_one_with_time_left_asks_anew_when_the_deadline_of_another_passed():
    async def handle(peer: Peer) -> None:
        await peer.asked()
        if peer.number > 1:
            await peer.say(OK)
        await peer.closed()

    async with front(handle) as here:
        tasks = [here.begin(seconds=seconds) for seconds in (0.2, 10, 10, 10)]
        assert await failure(tasks[0]) == (504, "timeout")
        assert [(await task).body for task in tasks[1:]] == [b"ok"] * 3
        assert (len(here.agent.heads), here.outcomes) == (2, ["timeout", "ok"])


@on_each_loop
async def test_those_with_about_the_same_deadline_do_not_ask_anew_one_after_another(monkeypatch):
    monkeypatch.setattr(relay, "ANEW_SECONDS", 5.0)
    async with front(lambda peer: peer.closed()) as here:
        tasks = [here.begin(seconds=seconds) for seconds in (0.1, 2, 2, 2)]
        for task in tasks:
            assert await failure(task) == (504, "timeout")
        assert (here.agent.connections, here.outcomes) == (1, ["timeout"])


@on_each_loop
async def test_one_with_time_left_queues_anew_when_the_deadline_of_another_passed_in_the_queue():
    go = asyncio.Event()
    async with front(gated(go), slots=1) as here:
        busy = here.begin(ask(BOB))
        await until(lambda: len(here.agent.heads) == 1)
        short, long = here.begin(seconds=0.1), here.begin()
        assert await failure(short) == (504, "queue")
        go.set()
        assert (await long).body == (await busy).body == b"ok"
        assert here.outcomes == ["queue", "ok", "ok"]


@on_each_loop
async def test_without_time_nothing_is_asked():
    async with front(always(OK)) as here:
        assert await failure(here.begin(seconds=-1.0)) == (504, "queue")
        assert here.agent.connections == 0


# --- turns ---


@on_each_loop
async def test_accounts_take_turns():
    async def handle(peer: Peer) -> None:
        while True:
            await peer.asked()
            if len(here.agent.heads) == 1:
                await until(lambda: here.node.gate.waiting == 7)
            await peer.say(OK)

    async with front(handle, slots=1) as here:
        tasks = []
        for account, path in [*((ALICE, f"/a{n}") for n in range(5)), (BOB, "/b0"), (CAROL, "/c0"), (BOB, "/b1")]:
            tasks.append(here.begin(ask(account, path)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        order = [head.split()[1].decode() for head in here.agent.heads]
        assert order[0] == "/a0"
        assert set(order[1:4]) == {"/a1", "/b0", "/c0"}
        assert [path for path in order if "a" in path] == [f"/a{n}" for n in range(5)]
        assert order.index("/b1") < order.index("/a3")


@on_each_loop
async def test_too_many_who_wait_are_told_so(monkeypatch):
    monkeypatch.setattr(fair, "MAX_WAITING", 2)
    go = asyncio.Event()
    async with front(gated(go), slots=1) as here:
        tasks = [here.begin(ask(path=f"/{number}")) for number in range(3)]
        await until(lambda: here.node.gate.waiting == 2)
        assert await failure(here.begin(ask(path="/last"))) == (503, "overloaded")
        go.set()
        await asyncio.gather(*tasks)
        assert sorted(here.outcomes) == ["ok", "ok", "ok", "overloaded"]


@on_each_loop
async def test_an_unknown_node():
    async with front(always(OK)) as here:
        assert await failure(here.begin(ask()._replace(node="m"))) == (502, "unknown_node")
        assert here.outcomes == []


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "begin", "cancel", "answer", "hang up", "step"]),
        st.integers(0, 30),
        st.sampled_from([ALICE, BOB]),
        st.sampled_from([-1.0, 0.0, 0.001, 10.0]),
    ),
    max_size=40,
)


class Puppet:
    """An agent without sockets, whose requests end as they are told."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Response]] = []
        self.most = 0

    async def get(self, path: str, *, timeout_seconds: float, **_: object) -> Response:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        self.most = max(self.most, len(self.waiting))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            raise UpstreamError(504, "timeout", "no answer in time") from None
        finally:
            self.waiting.remove(future)

    def end(self, number: int, result: Response | Exception) -> None:
        pending = [future for future in self.waiting if not future.done()]
        if pending:
            future = pending[number % len(pending)]
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


@settings(max_examples=150, deadline=None)
@given(ACTIONS)
def test_whatever_is_cancelled_no_slot_is_lost_and_everybody_hears(actions):
    good = Response(200, {"content-type": "text/plain"}, b"ok")

    async def main() -> None:
        told: list[dict] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context))
        puppet, outcomes = Puppet(), []
        node = Node(puppet, FairGate(2))
        scrapes = Relay({"n": node}.__getitem__, lambda _, outcome: outcomes.append(outcome))
        tasks = []
        for action, number, account, seconds in actions:
            if action == "begin":
                what = ask(account, f"/{number % 3}")
                tasks.append(asyncio.create_task(scrapes.scrape(what, loop.time() + seconds)))
            elif action == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif action == "answer":
                puppet.end(number, good)
            elif action == "hang up":
                puppet.end(number, UpstreamError(502, "truncated", "x"))
            else:
                await asyncio.sleep(0)
            assert node.gate.in_use <= 2
        async with asyncio.timeout(5):
            while not all(task.done() for task in tasks):  # each round ends one request more
                puppet.end(0, good)
                await asyncio.sleep(0)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is good or isinstance(ended, UpstreamError | asyncio.CancelledError)
        assert puppet.most <= 2
        assert (node.gate.in_use, node.gate.waiting, scrapes._flights) == (0, 0, {})
        await asyncio.wait_for(node.gate.acquire(CAROL), 5)
        await asyncio.wait_for(node.gate.acquire(CAROL), 5)
        tasks.clear()
        assert told == []

    asyncio.run(main())


# --- what may be relayed ---

TYPED = {"content-type": "text/plain; version=0.0.4"}


@pytest.mark.parametrize("status", [400, 404])
def test_what_the_agent_says_of_the_question_is_relayed(status):
    check(Response(status, {}, b"x"), codings=PLAIN)


def test_an_agent_without_a_coding_that_the_client_takes_is_no_failure():
    check(Response(406, {}, b"x"), codings=("zstd",))
    with pytest.raises(UpstreamError, match="answered 406"):
        check(Response(406, {}, b"x"), codings=("zstd", "identity"))


@pytest.mark.parametrize("status", [0, 201, 204, 206, 301, 304, 401, 403, 405, 429, 500, 502, 504, 999])
def test_any_other_status_is_a_bad_gateway(status):
    with pytest.raises(UpstreamError) as caught:
        check(Response(status, TYPED, b"x"), codings=GZIP)
    assert (caught.value.status, caught.value.reason) == (502, "status")


def test_a_busy_agent_is_busy():
    with pytest.raises(UpstreamError) as caught:
        check(Response(503, TYPED, b"x"), codings=GZIP)
    assert (caught.value.status, caught.value.reason) == (503, "busy")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "TEXT/Plain ; x",
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Format.PROTOBUF.content_type,
    ],
)
def test_expositions_are_relayed(kind):
    check(Response(200, {"content-type": kind}, b"x"), codings=PLAIN)


@pytest.mark.parametrize("kind", [None, "", "text/html", "application/json", "text/plain, text/html", "text/plainer"])
def test_anything_else_is_not_relayed(kind):
    headers = {} if kind is None else {"content-type": kind}
    with pytest.raises(UpstreamError) as caught:
        check(Response(200, headers, b"x"), codings=PLAIN)
    assert (caught.value.status, caught.value.reason) == (502, "content_type")


@pytest.mark.parametrize(
    ("coding", "codings", "relayed"),
    [
        ("identity", PLAIN, True),
        ("gzip", GZIP, True),
        ("gzip", PLAIN, False),
        ("zstd", ("zstd", "gzip", "identity"), True),
        ("gzip", ("zstd", "gzip", "identity"), True),
        ("zstd", GZIP, False),
        ("identity", ("gzip",), False),
        ("br", GZIP, False),
        ("deflate", GZIP, False),
        ("gzip, gzip", GZIP, False),
        ("", GZIP, False),
        # The proxy says the coding in lower case or none; one that it does not recognise must not get lost.
        ("GZIP", GZIP, False),
    ],
)
def test_only_a_coding_that_was_asked_for_is_relayed(coding, codings, relayed):
    response = Response(200, {**TYPED, "content-encoding": coding}, b"x")
    if relayed:
        check(response, codings=codings)
        return
    with pytest.raises(UpstreamError) as caught:
        check(response, codings=codings)
    assert (caught.value.status, caught.value.reason) == (502, "content_encoding")


@on_each_loop
async def test_what_is_not_relayed_is_observed_by_its_reason():
    async with front(always(OK.replace(b"text/plain", b"text/xxxxx"))) as here:
        assert await failure(here.begin()) == (502, "content_type")
        assert here.outcomes == ["content_type"]


@on_each_loop
@pytest.mark.parametrize("answer", [b"no HTTP\r\n\r\n", OK.replace(b" 200 ", b" 500 "), OK[:-1], None])
async def test_scrapes_that_fail_leave_nothing_to_the_garbage_collector(answer):
    """It would block the event loop for as long as it takes to look through what thousands of them left."""

    async def handle(peer: Peer) -> None:
        await peer.asked()
        if answer is None:
            await peer.closed()
        await peer.say(answer or b"")

    async with front(handle) as here:
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                found = await asyncio.gather(*(here.begin(seconds=0.2) for _ in range(4)), return_exceptions=True)
                assert [type(one) for one in found] == [UpstreamError] * 4
                del found
            await until(lambda: not here.node.upstream.connections)
            await asyncio.sleep(0)
            assert [one for one in gc.get_objects() if isinstance(one, UpstreamError)] == []
        finally:
            gc.enable()
