"""`python -m bench [SUITE ...]`: run benchmarks and print what was measured. Needs root for its cgroups.

With `suite`, `compare` or `report` as the first word it is the suite with peers: bench/suite/command.py.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator

from bench import (
    attack,
    bpf,
    descriptors,
    dns,
    following,
    http,
    large,
    latency,
    metadata,
    proxy,
    render,
    scrape,
    single,
    top,
    workers,
    zones,
)
from bench.suite.command import COMMANDS
from pymon.cli.waiting import Waiting

SUITES = {
    "scrape1000": lambda: scrape.measure(1000),
    "scrape5000": lambda: scrape.measure(5000),
    "bpf1000": lambda: bpf.measure(1000),
    "following": following.measure,
    "metadata": metadata.measure,
    "descriptors": descriptors.measure,
    "single": single.measure,
    "http": http.measure,
    "render": render.measure,
    "proxy": proxy.measure,
    "workers": workers.measure,
    "attack": attack.measure,
    "large": large.measure,
    "dns": dns.measure,
    "zones": zones.measure,
    "latency": latency.measure,
    "top1000": lambda: top.measure(1000),
    "top5000": lambda: top.measure(5000),
}


@contextlib.contextmanager
def said(what: str) -> Iterator[None]:
    """Say at a terminal what runs and for how long."""
    begun, ended = time.monotonic(), threading.Event()

    def tick(waiting: Waiting) -> None:
        while not ended.is_set():
            waiting.say(f"bench: {what}, {time.monotonic() - begun:.0f} s")
            ended.wait(1.0)

    with Waiting() as waiting, contextlib.ExitStack() as end:
        if waiting.live:
            thread = threading.Thread(target=tick, args=(waiting,))
            thread.start()
            end.callback(thread.join)
            end.callback(ended.set)
        yield


def main() -> None:
    """Run the named suites, or all; or a command of the suite with peers."""
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        COMMANDS[sys.argv[1]](sys.argv[2:])
        return
    names = sys.argv[1:] or list(SUITES)
    for number, name in enumerate(names, 1):
        with said(f"{name}, {number} of {len(names)}"):
            found = SUITES[name]()
        print(json.dumps({"suite": name, **found}, indent=1, default=str), flush=True)


main()
