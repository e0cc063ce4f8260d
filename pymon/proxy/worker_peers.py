"""What a worker does with the other proxies: scrapes through them, and answers to them.

The parent process finds out which agents are out of reach, and what the others reach, and tells its workers. What the
others ask is answered with what the parent knows.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pymon.proxy.feed import Lost, Question
from pymon.proxy.peer_clients import PeerClients
from pymon.proxy.peer_web import Told
from pymon.proxy.reach import ALIVE, LOST, REFUSED

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from pymon.proxy.feed import Answer, Ways

ANSWER_SECONDS = 5.0
"""How long the parent may take for an answer."""

QUESTIONS_AT_ONCE = 8
"""Questions of other proxies that wait for the parent. Further ones wait here."""

_BUSY = Told(503)


class Ahead(PeerClients):
    """The ways of a worker to agents: which are lost, and the other proxies that reach them.

    It is both what `pymon.proxy.relay` calls reach and what it calls others. tell_parent: returns whether the message
    was sent.
    """

    def __init__(self, context: Callable[[], ssl.SSLContext], tell_parent: Callable[[Lost], bool]) -> None:
        super().__init__(context)
        self.lost: set[str] = set()
        self._tell_parent = tell_parent

    def tell(self, name: str, outcome: str) -> None:
        """Record the outcome of a request to an agent. The parent is told of a new loss, and probes the agent."""
        if outcome in ALIVE or outcome in REFUSED:
            self.lost.discard(name)
        elif outcome in LOST and name not in self.lost and self._tell_parent(Lost(name, outcome)):
            self.lost.add(name)
            self._asked.clear()

    def take(self, ways: Ways) -> None:
        """Take over what the parent knows."""
        self.lost = set(ways.lost)
        self.have({way.name: way.peer for way in ways.others})
        for way in ways.others:
            if way.name in self._clients:
                self._clients[way.name].reached = frozenset(way.reached)
        if ways.asked:
            self._asked.set()
        else:
            self._asked.clear()


class Questions:
    """Questions of other proxies to the parent. tell_parent: as in `Ahead`."""

    def __init__(self, tell_parent: Callable[[Question], bool]) -> None:
        self._tell_parent = tell_parent
        self._waiting: dict[int, asyncio.Future[Told]] = {}
        self._last = 0
        self._places = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def known(self, what: str, node: str, condition: str) -> Told:
        """Answer a question; the interface is `pymon.proxy.peer_web.Known`."""
        async with self._places:
            self._last += 1
            number = self._last
            answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
            self._waiting[number] = answer
            try:
                if not self._tell_parent(Question(number, what, node, condition)):
                    return _BUSY
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await answer
            except TimeoutError:
                return _BUSY
            finally:
                del self._waiting[number]

    def take(self, answer: Answer) -> None:
        """Take an answer of the parent, for which somebody may not wait any more."""
        waiting = self._waiting.get(answer.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.told)
