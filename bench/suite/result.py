"""What a run of the suite found, and its JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

FORMAT = 1
FLOOR = "floor"
"""The name of the runner that others are divided by."""

Better = Literal["lower", "higher"]


@dataclass(frozen=True, slots=True)
class Case:
    """A figure of several runners that took turns.

    runs: of each runner that was measured, one value a round. absent: runners that this machine lacks, and what is
    missing. failed: runners that did not do what was asked, or said something else than pymon, and what it was.
    agreed: what was compared before anything was timed.
    """

    name: str
    title: str
    unit: str
    better: Better
    runs: Mapping[str, tuple[float, ...]]
    absent: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    agreed: Mapping[str, str] = field(default_factory=dict)

    def median(self, runner: str) -> float:
        """The median of the rounds of a runner, in the unit of the case."""
        return statistics.median(self.runs[runner])

    def to_floor(self, runner: str) -> tuple[float, ...] | None:
        """The ratios to the floor of the same round, or None where there is no floor."""
        floor = self.runs.get(FLOOR)
        if floor is None or len(floor) != len(self.runs[runner]) or not all(floor):
            return None
        return tuple(one / least for one, least in zip(self.runs[runner], floor, strict=True))


@dataclass(frozen=True, slots=True)
class Result:
    """A run: its cases, and all that is needed to judge and to repeat it."""

    date: str
    command: str
    machine: Mapping[str, str | int | float]
    versions: Mapping[str, str]
    cases: tuple[Case, ...]

    def dump(self) -> str:
        """The result as JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


def load(path: Path) -> Result:
    """The result in a file. ValueError, with the name of the file, if it holds none; OSError if it cannot be read."""
    try:
        said = json.loads(path.read_bytes())
        known = said.pop("format") == FORMAT
        cases = [
            {**case, "runs": {who: tuple(map(float, of)) for who, of in case["runs"].items()}}
            for case in said.pop("cases")
        ]
        result = Result(**said, cases=tuple(Case(**case) for case in cases))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: not a result of the suite: {error}") from None
    if not known:
        raise ValueError(f"{path}: of another format than {FORMAT}")
    return result


def machine() -> dict[str, str | int | float]:
    """What the figures depend on. Memory is in bytes."""
    info = Path("/proc/cpuinfo").read_text(errors="replace")
    model = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "load_before": os.getloadavg()[0],
    }
