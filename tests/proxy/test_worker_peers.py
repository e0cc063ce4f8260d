"""What a worker knows of the ways to agents, and how it asks its parent for other proxies."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from pymon.directory.presence import Peer
from pymon.proxy import worker_peers
from pymon.proxy.feed import Answer, Lost, Question, Way, Ways
from pymon.proxy.peer_web import INVENTORY, NODES, Told
from pymon.proxy.worker_peers import QUESTIONS_AT_ONCE, Ahead, Questions
from tests.proxy.agents import on_each_loop, until

PEER = Peer("https://127.0.0.1:1", "f" * 64, 3)


class Parent:
    """What is told to a parent process, which reads while `reads`."""

    def __init__(self) -> None:
        self.told: list[Lost | Question] = []
        self.reads = True

    def tell(self, message: Lost | Question) -> bool:
        if self.reads:
            self.told.append(message)
        return self.reads


def ahead(parent: Parent) -> Ahead:
    return Ahead(ssl.create_default_context, parent.tell)


@on_each_loop
@pytest.mark.parametrize("outcome", ["connect", "connect_timeout", "timeout"])
async def test_a_lost_agent_is_told_once_until_it_answers(outcome: str) -> None:
    parent = Parent()
    ways = ahead(parent)
    for _ in range(3):
        ways.tell("n1", outcome)
    assert (ways.lost, parent.told) == ({"n1"}, [Lost("n1", outcome)])
    ways.tell("n1", "ok")
    ways.tell("n1", "too_large")
    ways.tell("n2", "closed")
    assert (ways.lost, len(parent.told)) == (set(), 1)
    ways.tell("n1", outcome)
    assert (ways.lost, len(parent.told)) == ({"n1"}, 2)


@on_each_loop
async def test_what_the_parent_cannot_be_told_is_not_lost_for_ever() -> None:
    parent = Parent()
    ways = ahead(parent)
    parent.reads = False
    ways.tell("n1", "connect")
    assert ways.lost == set()


@on_each_loop
async def test_what_the_parent_knows_replaces_what_was_known() -> None:
    ways = ahead(Parent())
    ways.tell("n3", "connect")
    ways.take(Ways(["n1", "n2"], [Way("one", PEER, ["n1"]), Way("two", PEER, [])], True))
    assert (ways.lost, ways.that_reach("n1"), ways.that_reach("n2")) == ({"n1", "n2"}, True, False)
    await asyncio.wait_for(ways.asked(), 30)
    ways.take(Ways(["n1", "n2"], [Way("two", PEER, ["n2"])], False))
    assert (ways.that_reach("n1"), ways.that_reach("n2")) == (False, True)
    waiting = asyncio.create_task(ways.asked())
    await asyncio.sleep(0)
    assert not waiting.done(), "others were not asked since"
    ways.take(Ways(["n1"], [Way("bad", Peer("nowhere", "f" * 64), ["n1"])], True))
    await asyncio.wait_for(waiting, 30)
    assert not ways.that_reach("n1"), "it has no address"
    ways.close()


@on_each_loop
async def test_few_questions_wait_for_the_parent_and_each_has_its_answer() -> None:
    parent = Parent()
    questions = Questions(parent.tell)
    many = [asyncio.create_task(questions.known(INVENTORY, f"n{n}", "")) for n in range(QUESTIONS_AT_ONCE + 2)]
    await until(lambda: len(parent.told) == QUESTIONS_AT_ONCE)
    many.pop(0).cancel()  # its client has gone, and another one has the place
    await until(lambda: len(parent.told) == QUESTIONS_AT_ONCE + 1)
    questions.take(Answer(parent.told[0].number, Told(404)))
    for question in reversed(parent.told[1:]):
        questions.take(Answer(question.number, Told(200, "", question.node.encode())))
    await until(lambda: len(parent.told) == QUESTIONS_AT_ONCE + 2)
    questions.take(Answer(parent.told[-1].number, Told(200, "", parent.told[-1].node.encode())))
    assert [told.body for told in await asyncio.gather(*many)] == [f"n{n}".encode() for n in range(1, len(many) + 1)]


@on_each_loop
async def test_a_parent_that_does_not_answer_or_read_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_peers, "ANSWER_SECONDS", 0.05)
    parent = Parent()
    questions = Questions(parent.tell)
    assert (await questions.known(NODES, "", "x")).status == 503
    questions.take(Answer(parent.told[0].number, Told(200)))
    parent.reads = False
    assert (await questions.known(NODES, "", "x")).status == 503
    assert parent.told == [Question(1, NODES, "", "x")]
