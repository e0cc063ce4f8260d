"""A file that hangs costs scrapes of a container its time once: what hangs is not waited for again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymon
from pymon.agent.build import build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from tests.agent.fixture_host import copy_host


@dataclass(eq=False)
class Result:
    done: bool


@dataclass(eq=False)
class Ticket:
    results: Sequence[Result]

    @property
    def done(self) -> bool:
        return all(result.done for result in self.results)


class StuckMailbox:
    """Readers of these names never finish, the others at once. asked: names of the readers of each job."""

    def __init__(self, containers: Any, stuck: set[str]) -> None:
        self.stuck = stuck
        self.asked: list[list[str]] = []
        self._containers = containers

    def collect_row(self, jobs: Sequence[Any], _deadline: int, _row: int, *, wake: bool) -> Ticket:
        del wake
        names = [reader.name for reader, _ in jobs]
        self.asked.append(names)
        ticket = Ticket([Result(name not in self.stuck) for name in names])
        if ticket.done:
            asyncio.get_running_loop().call_soon(lambda: self._containers._tickets.pop(ticket).set_result(None))
        return ticket


async def test_what_hangs_is_left_out_from_the_second_scrape_on(tmp_path: Path) -> None:
    flags = [*copy_host("v2", tmp_path).flags(), "--source=cgroupfs"]
    agent = build_agent(load_agent_options(flags, {}, COLLECTORS, version=pymon.__version__))
    agent.collection.start()
    try:
        containers: Any = agent.containers
        real = containers._mailbox
        uuid = str(next(iter(agent.registry.containers())).uuid)
        readers = sorted(containers._source.readers)
        mailbox = containers._mailbox = StuckMailbox(containers, {"row", "io"})
        for others in (readers, [name for name in readers if name != "io"]):
            mailbox.asked.clear()
            found = await containers.read_one(uuid, None, 0.2)
            assert [sorted(names) for names in mailbox.asked][-1] == others
            tables = {table.name for table in found.tables if table is not None}
            assert "memory.v2" in tables
            assert "io.v2" not in tables
            found.give_back()
        assert len(mailbox.asked) == 1, "the reader of all files is not asked again"
        containers._mailbox = real
    finally:
        await agent.collection.stop()
