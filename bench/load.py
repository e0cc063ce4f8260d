"""Runs of `load`, made of `load.c` and `load_connections.c`: what is asked for, and what it says of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.world import ROOT

CPU = "1"
"""The core of the load and of what is behind a front; the fronts have core 0."""

HOST = "cmon.pymon.test"
"""What the certificate of fronts is for."""

WARM_UP_SECONDS = 0.5

Got = dict[str, Any]
"""What an account got: what `load` says of it, and front_cpu and load_cpu, the parts of their cores that they used."""


@contextmanager
def pinned() -> Iterator[None]:
    """Until the end, this process and those that it starts run on `CPU` alone."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(CPU)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks. rate: requests a second over all connections, 0 for as many as go. statuses: that may be answered."""

    name: str
    connections: int
    rate: float
    certificate: Path | None = None
    key: Path | None = None
    statuses: frozenset[str] = frozenset({"200"})

    def argument(self) -> str:
        """As `load` takes it."""
        return f"{self.name}:{self.connections}:{self.rate}:{self.certificate or ''}:{self.key or ''}"


@dataclass(frozen=True, slots=True)
class Front:
    """What is asked. pid: the process that answers, or whose children do; authority: of its certificate, None for plain
    HTTP.
    """

    name: str
    port: int
    pid: int
    authority: Path | None = None

    def children(self) -> list[int]:
        """The children of the process."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far."""
        spent = 0
        for pid in (self.pid, *self.children()):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            spent += int(fields[11]) + int(fields[12])
        return spent / os.sysconf("SC_CLK_TCK")


class Load:
    """The program, compiled into `directory`."""

    def __init__(self, directory: Path) -> None:
        self.program = directory / "load"
        sources = [ROOT / "bench" / name for name in ("load.c", "load_connections.c")]
        subprocess.run(["gcc", "-std=c11", "-O2", "-o", self.program, *sources, "-lssl", "-lcrypto"], check=True)

    def run(
        self,
        front: Front,
        targets: Path,
        accounts: Sequence[Account],
        *,
        seconds: float,
        warm_up_seconds: float = WARM_UP_SECONDS,
        squads_of: int = 1,
    ) -> dict[str, Got]:
        """What each account got.

        RuntimeError where connections broke, or requests had no answer or another than expected.
        """
        command: list[str | Path] = ["taskset", "-c", CPU, self.program, "-a", f"127.0.0.1:{front.port}"]
        command += ["-d", f"{seconds}", "-w", f"{warm_up_seconds}", "-t", f"{squads_of}"]
        if front.authority is not None:
            command += ["-C", front.authority, "-n", HOST]
        process = subprocess.Popen([*command, targets, *(a.argument() for a in accounts)], stdout=subprocess.PIPE)
        time.sleep(warm_up_seconds + 0.1 * seconds)
        spent = -front.cpu_seconds()
        time.sleep(0.8 * seconds)
        spent += front.cpu_seconds()
        said, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{front.name}: the load failed")
        result = json.loads(said)
        accounts_got: dict[str, Got] = result["accounts"]
        for account in accounts:
            got = accounts_got[account.name]
            lost = result["connections_lost"] + got["errors"] + got["unfinished"]
            if lost or set(got["statuses"]) - account.statuses:
                raise RuntimeError(f"{front.name}: {account.name} got {got}, {lost} lost")
            got["cipher"] = f"{result['protocol']} {result['cipher']}"
            got["front_cpu"] = spent / (0.8 * seconds)
            got["load_cpu"] = result["load_cpu"]
        return accounts_got
