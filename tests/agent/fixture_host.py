"""The fixture hosts as the agent sees them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import load_agent_options
from pymon.cli.collect import collected
from tests.oracle import Series, parse

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = REPOSITORY / "tests" / "fixtures"
HOSTS = ("v2", "v1", "hybrid")

_VOLATILE = (
    "pymon_(?!container_effective_)",  # the agent itself: durations, its own version
    "process_",  # the agent itself
    "node_exporter_build_info$",  # its own version
    "container_last_seen$",  # the clock
    "container_(start|creation)_time_seconds$",  # never later than the clock, never earlier than the directory
    "node_time_seconds$",  # the clock
    "node_time_zone_offset_seconds$",  # the environment
    "node_timex_",  # adjtimex(2) of the machine that the test runs on
    "node_scrape_collector_",  # durations, and collectors that read the machine
    "node_filesystem_",  # statvfs(2) of the machine that the test runs on
)
VOLATILE = re.compile("|".join(_VOLATILE))
"""Families of which a frozen host does not decide the values."""


def collect_once(agent: Agent, *, openmetrics: bool = False) -> bytes:
    """One collection of an agent, which is stopped then."""

    async def run() -> bytes:
        try:
            return await collected(agent, openmetrics=openmetrics)
        finally:
            await agent.collection.stop()

    return asyncio.run(run())


class FixtureHost:
    """A host's files and how to have them read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def cgroups(self) -> Path:
        """Where its cgroup file systems are."""
        return self.root / "sys/fs/cgroup"

    def flags(self) -> list[str]:
        """The flags that make an agent read it."""
        return [
            f"--path.procfs={self.root / 'proc'}",
            f"--path.sysfs={self.root / 'sys'}",
            f"--path.cgroupfs={self.cgroups}",
            f"--path.rootfs={self.root}",
        ]

    def run(self, *flags: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """`pymon collect` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "pymon", "collect", *self.flags(), *flags],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TZ": "UTC", **(env or {})},
            capture_output=True,
            timeout=60,
            check=False,
        )

    def collect(self, *flags: str) -> dict[Series, Fraction]:
        """Every series of one collection in this process."""
        options = load_agent_options([*self.flags(), *flags], {}, COLLECTORS, version=pymon.__version__)
        return parse(collect_once(build_agent(options)))


def copy_host(name: str, target: Path) -> FixtureHost:
    """A copy of a fixture host that a test may change."""
    root = target / name
    shutil.copytree(FIXTURES / name, root, symlinks=True)
    return FixtureHost(root)


def stable(series: Mapping[Series, Fraction]) -> dict[Series, Fraction]:
    """The series that a frozen host decides."""
    return {key: value for key, value in series.items() if not VOLATILE.match(key[0])}
