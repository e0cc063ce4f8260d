"""Plugins of the node and of containers: run in the background, answered from what they last said.

A scrape never waits for a plugin. It says which plugins of whom are wanted; what is wanted is run again before its
value is older than its TTL, for as long as scrapes go on asking. A run that fails leaves the last good value, until
its TTL is over; then there is none, and ``plugin_<name>_metrics_available_boolean`` is 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pymon.exposition.compile import label_block
from pymon.exposition.families import ExpositionError, Family, Labels, Sample, Written, written
from pymon.plugins.config import Loaded, Plugin, load_directory
from pymon.plugins.output import Output, parse_output
from pymon.plugins.run import Ended, run

if TYPE_CHECKING:
    import subprocess

_log = logging.getLogger(__name__)

MAX_RUNNING = 100
RELOAD_SECONDS = 60.0
MIN_TTL_SECONDS = 5.0
"""A plugin that asks for less, or for none, is run as if it had asked for this."""
LATELY_SECONDS = 300.0
"""How long after it was last asked for a plugin is still run; longer where its TTL is."""
RETRY_SECONDS = 10.0
LATE_SECONDS = 1.0
"""A run that started this late had to wait for others, and counts as a failure of its own reason."""
_STOP_SECONDS = 2.0
_AT_ONCE = 256
"""Containers that are looked after before others have their turn."""


class Target(NamedTuple):
    """Whom plugins are run for.

    argument: argv[1], the zone's name, on Linux the UUID; "global" for the node. labels: of the container, for
    expositions of more than one.
    """

    uuid: str
    argument: str
    labels: Labels


_NODE = Target("", "global", ())


class _Said(NamedTuple):
    """What a plugin last said of a container, written with the container's labels, which are also there as a block."""

    labels: Labels
    block: bytes
    families: tuple[Written, ...]


_STATUS = (
    ("available_boolean", "Whether {} metrics were available."),
    ("cached_boolean", "Whether {} metrics were given before."),
    ("timer_seconds", "Time that it took to get {} metrics, in seconds."),
)
"""Gauges of each plugin: the ends of their names, and what they tell."""


class _Entry:
    """A plugin for a target: when it has to run, and what it last said. Parked is what nobody asks for any more."""

    def __init__(self, target: Target, plugin: Plugin, now: float) -> None:
        self.key = (target.uuid, plugin.name)
        self.argument = target.argument
        self.labels = target.labels
        self.plugin = plugin
        self.asked = now
        self.due = now
        self.running = False
        self.parked = False
        self.runs = 0
        self.seconds: float | None = None
        self.families: tuple[Family, ...] = ()
        self.until = now
        self.given = False
        self.said: _Said | None = None

    def wanted(self, now: float) -> bool:
        """Whether somebody asked for it lately."""
        return now - self.asked <= max(LATELY_SECONDS, 2 * self.plugin.ttl_seconds)


class Plugins:
    """Runs plugins and remembers what they said. For the thread of its event loop.

    problems: how often what went wrong, by plugin (empty for a directory) and reason.
    """

    def __init__(
        self,
        node_directory: Path | None,
        container_directory: Path | None,
        *,
        owner_uid: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problems: Counter[tuple[str, str]] = Counter()
        self._directories = (node_directory, container_directory)
        self._owner_uid = owner_uid
        self._clock = clock
        self._plugins: tuple[dict[str, Plugin], dict[str, Plugin]] = ({}, {})
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._queue: list[tuple[float, int, _Entry]] = []
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._left: list[subprocess.Popen[bytes]] = []
        self._crowded = False
        self._reload_at = 0.0
        self._warned: frozenset[str] = frozenset()
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._scheduler: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(MAX_RUNNING, thread_name_prefix="pymon-plugin")
        self._stop_pipe: tuple[int, int] | None = None

    async def start(self) -> None:
        """Read the directories, and begin to run what is asked for."""
        self._stop_pipe = os.pipe()
        await self._load()
        self._scheduler = asyncio.create_task(self._schedule())

    async def stop(self) -> None:
        """Kill what runs."""
        if self._stop_pipe is None:
            return
        if self._scheduler is not None:
            self._scheduler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._scheduler
        read, write = self._stop_pipe
        os.write(write, b"\0")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        self._executor.shutdown(wait=False, cancel_futures=True)
        if not self._tasks:
            os.close(read)
            os.close(write)
        self._stop_pipe = None

    async def prime(self, targets: Iterable[Target], timeout_seconds: float) -> None:
        """Run the plugins of the node and of these containers now, and wait for them, up to the timeout."""
        entries = [*self._asked(_NODE), *(entry for target in targets for entry in self._asked(target))]
        before = {entry.key: entry.runs for entry in entries if entry.running or entry.due <= self._clock()}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while any(entry.runs == before.get(entry.key) for entry in entries):
                    self._ended.clear()
                    await self._ended.wait()

    @property
    def of_containers(self) -> bool:
        """Whether there are plugins to be run for containers."""
        return bool(self._plugins[1])

    def node(self) -> list[Family]:
        """What the node's plugins last said."""
        return [family for entry in self._asked(_NODE) for family in self._given(entry, ())]

    def container(self, target: Target, *, labelled: bool) -> list[Family]:
        """What the plugins last said of a container; labelled: with its labels before the plugin's own."""
        labels = target.labels if labelled else ()
        return [family for entry in self._asked(target) for family in self._given(entry, labels)]

    async def containers(self, targets: Iterable[Target]) -> list[Written]:
        """What the plugins last said of many containers, with their labels: one family of each name and kind.

        Others have their turn on the loop in between.
        """
        heads: dict[tuple[str, str], Written] = {}
        lines: dict[tuple[str, str], tuple[list[bytes], list[bytes]]] = {}
        for number, target in enumerate(targets, 1):
            for entry in self._asked(target):
                for family in self._given_written(entry):
                    key = (family.name, family.kind)
                    if key not in heads:
                        heads[key], lines[key] = family, ([], [])
                    text, openmetrics = lines[key]
                    text += family.text
                    openmetrics += family.openmetrics
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return [head._replace(text=lines[key][0], openmetrics=lines[key][1]) for key, head in heads.items()]

    def forget(self, uuid: str) -> None:
        """Drop what is known of a container that has gone."""
        for name in self._plugins[1]:
            self._entries.pop((uuid, name), None)

    def self_families(self) -> list[Family]:
        """What there is to say of the plugins themselves."""
        failures = tuple(
            Sample("", (("plugin", plugin), ("reason", reason)), str(count))
            for (plugin, reason), count in sorted(self.problems.items())
        )
        running = (Sample("", (), str(self._running)),)
        return [
            Family("pymon_plugin_failures_total", "counter", "Runs and files of plugins that failed.", failures),
            Family("pymon_plugins_running", "gauge", "Runs of plugins that are under way.", running),
        ]

    # --- asking

    def _asked(self, target: Target) -> list[_Entry]:
        """The plugins of a target, wanted from now on; those that are due are started."""
        now = self._clock()
        entries = []
        for plugin in self._plugins[bool(target.uuid)].values():
            if plugin.uuids is not None and target.uuid and target.uuid not in plugin.uuids:
                continue
            entry = self._entries.get((target.uuid, plugin.name))
            if entry is None:
                entry = self._entries[(target.uuid, plugin.name)] = _Entry(target, plugin, now)
                self._enqueue(entry)
            entry.asked, entry.argument, entry.labels = now, target.argument, target.labels
            entries.append(entry)
            if entry.parked:
                entry.parked = False
                self._enqueue(entry)
        self._start_due()
        return entries

    def _status(self, entry: _Entry) -> tuple[bool, tuple[str, ...]]:
        """Whether its last good values may be given, which they are then, and the values of its gauges."""
        available = self._clock() < entry.until
        cached = available and entry.given
        entry.given = entry.given or available
        booleans = ("01"[available], "01"[cached])
        return available, booleans if entry.seconds is None else (*booleans, f"{entry.seconds:.6f}")

    def _given(self, entry: _Entry, labels: Labels) -> list[Family]:
        available, values = self._status(entry)
        name = f"plugin_{entry.plugin.name}"
        status = [
            Family(f"{name}_metrics_{end}", "gauge", help.format(name), (Sample("", labels, value),))
            for (end, help), value in zip(_STATUS, values, strict=False)
        ]
        families = entry.families if available else ()
        return [*status, *(_labelled(family, labels) for family in families)]

    def _given_written(self, entry: _Entry) -> list[Written]:
        """The same with the container's labels, written."""
        available, values = self._status(entry)
        said = entry.said
        if said is None or said.labels != entry.labels:
            said = entry.said = _say(entry.families, entry.labels)
        name = f"plugin_{entry.plugin.name}"
        status = []
        for (end, help), value in zip(_STATUS, values, strict=False):
            line = (f"{name}_metrics_{end}{{".encode() + said.block + f"}} {value}\n".encode(),)
            status.append(Written(f"{name}_metrics_{end}", "gauge", help.format(name), line, line))
        return [*status, *said.families] if available else status

    # --- running

    @property
    def _running(self) -> int:
        return len(self._tasks) + len(self._left)

    def _enqueue(self, entry: _Entry) -> None:
        heapq.heappush(self._queue, (entry.due, next(self._numbers), entry))
        if self._queue[0][2] is entry:
            self._wake.set()

    def _start_due(self) -> None:
        """Start what is due, the longest due first, as far as there is room."""
        now = self._clock()
        while self._queue and self._queue[0][0] <= now and self._running < MAX_RUNNING and self._stop_pipe:
            due, _, entry = heapq.heappop(self._queue)
            if self._entries.get(entry.key) is not entry:
                continue
            if not entry.wanted(now):
                entry.parked = True
                continue
            if self._crowded and now - due > LATE_SECONDS:
                self.problems[entry.plugin.name, "concurrency"] += 1
            entry.running = True
            task = asyncio.create_task(self._run(entry, self._stop_pipe[0]))
            self._tasks.add(task)
            task.add_done_callback(self._done)
        self._crowded = bool(self._queue) and self._queue[0][0] <= now

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _run(self, entry: _Entry, stop: int) -> None:
        plugin = entry.plugin
        loop = asyncio.get_running_loop()
        target = Target(entry.key[0], entry.argument, entry.labels)
        ended, output, said, text = await loop.run_in_executor(self._executor, _measure, plugin, target, stop)
        now = self._clock()
        entry.running = False
        entry.runs += 1
        entry.seconds = ended.seconds
        if ended.left is not None:
            self._left.append(ended.left)
        if ended.stderr:
            _log.debug("plugin %s %s: standard error: %a", plugin.path, entry.argument, ended.stderr)
        if output is not None:
            wished = plugin.ttl_seconds if output.ttl_seconds is None else output.ttl_seconds
            ttl_seconds = max(wished, MIN_TTL_SECONDS)
            entry.families, entry.until = output.families, now + ttl_seconds
            entry.given, entry.said = False, said
            delay = max(ttl_seconds - plugin.timeout_seconds - LATE_SECONDS, ttl_seconds / 2)
        else:
            _log.debug("plugin %s %s: %s", plugin.path, entry.argument, text)
            self.problems[plugin.name, ended.reason or "parse"] += 1
            delay = min(RETRY_SECONDS, max(plugin.ttl_seconds, MIN_TTL_SECONDS) / 2)
        entry.due = now + delay
        self._enqueue(entry)
        self._ended.set()

    async def _schedule(self) -> None:
        while True:
            if self._clock() >= self._reload_at:
                await self._load()
            self._left = [process for process in self._left if process.poll() is None]
            self._start_due()
            until = self._reload_at
            if self._queue and self._running < MAX_RUNNING:
                until = min(until, self._queue[0][0])
            if self._left:
                until = min(until, self._clock() + LATE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(until - self._clock(), 0.0)):
                    await self._wake.wait()
            self._wake.clear()

    async def _load(self) -> None:
        """Read the directories anew; what is known of plugins that are still there is kept."""
        self._reload_at = self._clock() + RELOAD_SECONDS
        node, containers = await asyncio.to_thread(self._read_directories)
        warned = set()
        for refused in (*node.refused, *containers.refused):
            self.problems[refused.plugin, refused.reason] += 1
            warned.add(refused.text)
            if refused.text not in self._warned:
                _log.warning("plugin refused: %s", refused.text)
        self._warned = frozenset(warned)
        self._plugins = (
            {plugin.name: plugin for plugin in node.plugins},
            {plugin.name: plugin for plugin in containers.plugins},
        )
        for key, entry in list(self._entries.items()):
            plugin = self._plugins[bool(key[0])].get(key[1])
            forgotten = entry.parked and self._clock() >= entry.until
            if plugin is None or plugin.path != entry.plugin.path or forgotten:
                del self._entries[key]
            else:
                entry.plugin = plugin

    def _read_directories(self) -> tuple[Loaded, Loaded]:
        node, containers = (
            Loaded((), ()) if directory is None else load_directory(directory, self._owner_uid)
            for directory in self._directories
        )
        return node, containers


def _measure(plugin: Plugin, target: Target, stop: int) -> tuple[Ended, Output | None, _Said | None, str]:
    """Run a plugin and read what it printed, in a thread: how it ended, its metrics, also written when they are a
    container's, and why there are none.
    """
    ended = run((str(plugin.path), target.argument), plugin.timeout_seconds, stop)
    if ended.output is None:
        return ended, None, None, ended.text
    try:
        output = parse_output(plugin.name, str(plugin.path), ended.output)
    except ExpositionError as error:
        return ended, None, None, str(error)
    return ended, output, _say(output.families, target.labels) if target.uuid else None, ""


def _say(families: Iterable[Family], labels: Labels) -> _Said:
    return _Said(labels, label_block(labels), tuple(written(_labelled(family, labels)) for family in families))


def _labelled(family: Family, labels: Labels) -> Family:
    """The family with these labels before its own; one that is called the same becomes exported_<name>."""
    if not labels:
        return family
    samples = []
    for sample in family.samples:
        taken = {name for name, _ in (*labels, *sample.labels)}
        own = []
        for name, value in sample.labels:
            free = name
            if any(name == other for other, _ in labels):
                while free in taken:
                    free = f"exported_{free}"
                taken.add(free)
            own.append((free, value))
        samples.append(sample._replace(labels=(*labels, *own)))
    return family._replace(samples=tuple(samples))
