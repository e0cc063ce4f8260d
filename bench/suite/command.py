"""`python -m bench suite`, `python -m bench compare A.json B.json` and `python -m bench report A.json`."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

from bench.suite import compare, report, result
from bench.suite.cases import Plan, cases
from bench.suite.peers import DEBIAN, Peer, given, installed
from bench.world import ROOT

CASES = ("render", "node", "collect", "scrape", "gzip", "single", "minute", "proxy", "dns")


def parser() -> argparse.ArgumentParser:
    """The words of the command line."""
    words = argparse.ArgumentParser(prog="python -m bench suite", description=__doc__)
    words.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    words.add_argument("--containers", default="100,1000,5000,10000", help="numbers of containers (%(default)s)")
    words.add_argument("--rounds", type=int, default=15, help="rounds of each case (%(default)s)")
    words.add_argument(
        "--minute", type=int, default=60, help="seconds of the case minute, at least four intervals (%(default)s)"
    )
    words.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND|URL", help="another exporter")
    words.add_argument("--out", type=Path, default=ROOT / "build/bench/result", help="the names of the files begin so")
    return words


def plan_of(arguments: list[str]) -> tuple[Plan, Path]:
    """What the command line asks for, and where to write it. Ends the program on bad usage."""
    words = parser()
    asked = words.parse_args(arguments)
    try:
        containers = tuple(int(word) for word in asked.containers.split(","))
        peers = tuple(given(word) for word in asked.peer)
    except ValueError as error:
        words.error(str(error))
    unknown = sorted(set(asked.cases) - set(CASES))
    if unknown:
        words.error(f"no case {unknown[0]}; there are {', '.join(CASES)}")
    if min(*containers, asked.rounds, asked.minute) < 1:
        words.error("containers, rounds and seconds are positive")
    chosen = tuple(asked.cases) or CASES
    return Plan(chosen, containers, asked.rounds, asked.minute, (*DEBIAN, *peers)), asked.out


def versions(peers: tuple[Peer, ...]) -> dict[str, str]:
    """Of pymon, with its commit, and of what it is measured beside."""
    commit = ""
    with contextlib.suppress(OSError):
        command = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
        commit = subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()
    said = {"pymon": f"{version('pymon')} {commit}".strip(), "Python": platform.python_version()}
    said["prometheus_client"] = version("prometheus_client")
    said |= {name: installed(name) for name in ("nginx-light", "knot", "wrk", "dnsperf")}
    return {**said, **{peer.name: peer.version() or "absent" for peer in peers}}


def suite(arguments: list[str]) -> None:
    """Measure what is asked for, and write JSON, a page and charts."""
    plan, out = plan_of(arguments)
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, lambda *_: sys.exit(1))  # cgroups and processes are removed on the way out
    command = shlex.join(["python", "-m", "bench", "suite", *arguments])
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    machine, known = result.machine(), versions(plan.peers)
    found: list[result.Case] = []
    for case in cases(plan):
        found.append(case)
        medians = ", ".join(f"{who} {case.median(who):.4g}" for who in case.runs)
        print(f"{case.name}, {case.unit}: {medians}", flush=True)
        for who, why in {**case.absent, **case.failed}.items():
            print(f"  {who}: {'absent' if who in case.absent else 'failed'}: {why}", flush=True)
        machine["load_after"] = os.getloadavg()[0]
        written = report.write(result.Result(date, command, machine, known, tuple(found)), out)
    print("\n".join(map(str, written)))


def compared(arguments: list[str]) -> None:
    """Print two results side by side."""
    if len(arguments) != 2:
        sys.exit("usage: python -m bench compare A.json B.json")
    try:
        print(compare.text(*(result.load(Path(path)) for path in arguments)), end="")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


def reported(arguments: list[str]) -> None:
    """Write the page and the charts of a result anew."""
    if len(arguments) != 1:
        sys.exit("usage: python -m bench report A.json")
    try:
        report.write(result.load(Path(arguments[0])), Path(arguments[0]).with_suffix(""))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


COMMANDS = {"suite": suite, "compare": compared, "report": reported}
