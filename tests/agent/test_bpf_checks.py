"""The check of what BPF fills: when it runs, and what it says."""

from __future__ import annotations

import asyncio
import logging
import threading

from pymon.agent.bpf_checks import BpfChecks
from pymon.sources.bpf import ColumnName, Facts, Finding

USAGE = ColumnName("memory.v1", "memory.usage_in_bytes")


class Source:
    """As much of a BpfSource as is looked at."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.findings: dict[ColumnName, Finding] = {}
        self.filled = 0


class Check:
    """A BpfCheck whose results a test gives."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.runs = 0
        self.ran = threading.Event()
        self.lost: list[tuple[ColumnName, str]] = []
        self.closed = False

    def run(self) -> list[tuple[ColumnName, str]]:
        assert not self.closed
        self.runs += 1
        self.source.filled = 0 if self.lost else 1
        self.ran.set()
        return self.lost

    def close(self) -> None:
        self.closed = True


async def test_an_agent_checks_at_start_and_logs_what_is_lost(caplog):
    caplog.set_level(logging.INFO)
    source = Source()
    check = Check(source)
    checks = BpfChecks(source, check, repeat=True, first=False)
    checks.start()
    assert await asyncio.to_thread(check.ran.wait, 30)
    checks.stop()
    check.lost = [(USAGE, "disagrees with the files: 6 between 5 and 5 in a")]
    checks.run()
    assert [record.getMessage() for record in caplog.records] == [
        "1 columns of containers are filled by BPF",
        "memory.v1 memory.usage_in_bytes is read from files again: disagrees with the files: 6 between 5 and 5 in a",
        "0 columns of containers are filled by BPF",
    ]


async def test_a_single_collection_checks_when_it_is_to():
    for first in (False, True):
        source = Source()
        check = Check(source)
        checks = BpfChecks(source, check, repeat=False, first=first)
        checks.start()
        await checks.prime()
        assert check.runs == first


def test_nothing_runs_after_the_end():
    source = Source()
    check = Check(source)
    checks = BpfChecks(source, check, repeat=True, first=False)
    checks.close()
    checks.run()
    assert (check.runs, check.closed) == (0, True)


async def test_without_bpf_nothing_is_checked():
    source = Source()
    source.facts = Facts(library="no libbpf")
    check = Check(source)
    checks = BpfChecks(source, check, repeat=True, first=False)
    checks.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert check.runs == 0
    checks.stop()
