"""What the programs of the collector container_latency cost: nanoseconds for an event, and a ping-pong of two tasks.

`perf bench sched pipe` makes two switches for each operation. It runs in a control group that is counted, and in one
that is not, as most tasks of a node do. Rounds alternate between our programs, an empty one, and none.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.world import ROOT
from pymon.sources.bpf import OBJECTS
from pymon.sources.latency import OBJECT

ROUNDS = 5
LOOPS = 200_000
PIPE = f"perf bench sched pipe -l {LOOPS}"
_MICROSECONDS = re.compile(r"([0-9.]+) usecs/op")


def _built(folder: Path) -> tuple[Path, Path]:
    """Compile the measuring program and the empty one."""
    program, empty = folder / "latency", folder / "empty.bpf.o"
    headers = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"
    compile_empty = ["clang", "-target", "bpf", "-g", "-O2", headers, "-c", ROOT / "bench/empty.bpf.c", "-o", empty]
    subprocess.run(compile_empty, check=True)
    sources = [ROOT / "bench/latency.c", f"-I{ROOT / 'native/bpf'}", "-lbpf"]
    subprocess.run(["gcc", "-O2", "-o", program, *sources], check=True)
    return program, empty


def measure() -> dict[str, object]:
    """Nanoseconds for an event of each program, their ratio to the empty one's, and microseconds for an operation."""
    with tempfile.TemporaryDirectory() as folder:
        program, empty = _built(Path(folder))
        root = Path("/sys/fs/cgroup/cpu")
        group = (root if root.is_dir() else Path("/sys/fs/cgroup")) / f"pymon-bench-{os.getpid()}"
        group.mkdir()
        try:
            return _measured(program, empty, group)
        finally:
            group.rmdir()


def _measured(program: Path, empty: Path, group: Path) -> dict[str, object]:
    inside = ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(group)]

    def pipe(*words: str | Path) -> tuple[float, dict[str, tuple[int, float]]]:
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found = _MICROSECONDS.search(done.stdout + done.stderr)
        if found is None:
            raise RuntimeError(f"perf said {done.stdout!r}")
        said = done.stdout.rpartition("{")
        return float(found[1]), json.loads("{" + said[2]) if said[1] else {}

    kinds: dict[str, Callable[[], tuple[float, dict[str, tuple[int, float]]]]] = {
        "none": lambda: pipe(*inside, *PIPE.split()),
        "empty": lambda: pipe(*inside, program, empty, group, PIPE),
        "counted": lambda: pipe(*inside, program, OBJECTS / OBJECT, group, PIPE),
        "not_counted": lambda: pipe(program, OBJECTS / OBJECT, group, PIPE),
    }
    operation_us: dict[str, list[float]] = {kind: [] for kind in kinds}
    event_ns: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for kind, run in kinds.items():
            microseconds, programs = run()
            operation_us[kind].append(microseconds)
            for name, (events, ns) in programs.items():
                if events:
                    event_ns.setdefault(f"{kind} {name}", []).append(ns)
    ns = {name: statistics.median(found) for name, found in event_ns.items()}
    return {
        "event_ns": ns,
        "switch_ratio": max(ns["counted on_switch"], ns["not_counted on_switch"]) / ns["empty empty"],
        "operation_us": {kind: statistics.median(found) for kind, found in operation_us.items()},
    }
