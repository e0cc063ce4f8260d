"""CPU time and memory of exporters that are scraped at an interval, all in the same minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from bench.scrape import Floor
from bench.suite.peers import Running, cost, family
from bench.suite.result import FLOOR, Case
from bench.suite.turns import ERRORS, Field

QUARTERS = 4


def minute(
    count: int, interval: int, seconds: int, floor: Floor, targets: Mapping[str, Running], before: Field
) -> Iterator[Case]:
    """Percent of a core in each quarter of the time, and megabytes at its end.

    A runner that needs longer than the interval for a scrape has failed: it would hold up the others.
    seconds: about so many, as each quarter is a number of whole intervals. before: what is known of the runners.
    """
    asked: dict[str, Callable[[], object]] = {FLOOR: floor.round_seconds}
    asked |= {who: target.scrape for who, target in targets.items() if target.pid is not None}
    found = Field(asked, dict(before.absent), dict(before.failed), dict(before.agreed))
    for who, target in targets.items():
        if target.pid is None:
            found.absent[who] = "was not started here, so its processes are not known"
    for who, ask in list(found.runners.items()):
        try:
            start = time.monotonic()
            ask()
            taken = time.monotonic() - start
            if taken > interval:
                raise RuntimeError(f"a scrape takes {taken:.1f} s")
        except ERRORS as error:
            found.fails(who, error)
    pids = {who: target.pid for who, target in targets.items() if target.pid is not None} | {FLOOR: floor.pid}
    percent: dict[str, list[float]] = {who: [] for who in asked}
    megabytes: dict[str, list[float]] = {who: [] for who in asked}
    length = max(1, round(seconds / QUARTERS / interval)) * interval
    begun = time.monotonic()
    scrapes = 0
    for quarter in range(QUARTERS):
        spent = {who: -cost(family(pids[who]))[0] for who in found.runners}
        start, end = time.monotonic(), begun + length * (quarter + 1)
        while begun + scrapes * interval < end:
            time.sleep(max(0.0, begun + scrapes * interval - time.monotonic()))
            scrapes += 1
            for who, ask in list(found.runners.items()):
                try:
                    ask()
                except ERRORS as error:
                    found.fails(who, error)
        time.sleep(max(0.0, end - time.monotonic()))
        for who in found.runners:
            used, memory = cost(family(pids[who]))
            percent[who].append(100 * (used + spent[who]) / (time.monotonic() - start))
            megabytes[who].append(memory)
    title = f"{count:,} containers scraped every {interval} s"
    yield found.case(f"minute-{interval}s-{count}", f"CPU, {title}", "% of a core", percent)
    yield found.case(f"memory-{interval}s-{count}", f"Memory, {title}", "MB resident", megabytes)
