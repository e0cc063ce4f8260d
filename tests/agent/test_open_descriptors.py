"""process_open_fds counts the descriptors of every table of the process."""

from __future__ import annotations

from pathlib import Path

from tests.agent.fixture_host import copy_host
from tests.live.agent import Agent


def test_descriptors_of_reader_threads_are_counted(tmp_path: Path) -> None:
    with Agent(*copy_host("v1", tmp_path).flags(), "--source=cgroupfs") as agent:
        agent.scrape()
        told = agent.scrape().own("process_open_fds")
        tables = {}
        for task in Path(f"/proc/{agent.pid}/task").iterdir():
            names = sorted((path.name, str(path.readlink())) for path in (task / "fd").iterdir())
            tables[tuple(names)] = len(names)
        assert told is not None
        # A few are open for the scrape itself: its connection, and the listing of the descriptors.
        assert abs(told - sum(tables.values())) <= 8
        assert len(tables) > 2
