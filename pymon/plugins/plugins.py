"""Plugins of the node and of containers. They run in the background, and scrapes get their last output.

A scrape never waits for a plugin. It only marks plugins as wanted for a target. A wanted plugin runs again before its
output is older than its TTL, as long as scrapes continue to ask. If a run fails, the last good output is given until
its TTL is over. Then there is none, and ``plugin_<name>_metrics_available_boolean`` is 0.
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
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pymon.exposition.compile import label_block
from pymon.exposition.families import ExpositionError, Family, Labels, Sample, Written, written
from pymon.plugins.config import Loaded, Measured, Plugin, Target, load_directory
from pymon.plugins.output import parse_output
from pymon.plugins.run import run

if TYPE_CHECKING:
    import subprocess

_log = logging.getLogger(__name__)

MAX_RUNNING = 100
RELOAD_SECONDS = 60.0
MIN_TTL_SECONDS = 5.0
"""The lower limit for TTLs that plugins set."""
LATELY_SECONDS = 300.0
"""How long a plugin is still run after the last scrape that asked for it, if twice its TTL is not longer."""
RETRY_SECONDS = 10.0
LATE_SECONDS = 1.0
"""If the limit of running plugins delays a run by more than this, it is counted as a problem ("concurrency")."""
_STOP_SECONDS = 2.0
_AT_ONCE = 256
"""The number of containers that are handled in one iteration of the event loop."""


Collectors = Collection[str] | None
"""Names of the collectors that a scrape asks for, None for all."""

_Given = TypeVar("_Given", Family, Written)

_NODE = Target("", "global", ())


class _LabelledOutput(NamedTuple):
    """The last output of a plugin for a container, with the container's labels. block: these labels as text."""

    labels: Labels
    block: bytes
    families: tuple[Written, ...]


_STATUS = (
    ("available_boolean", "Whether {} metrics were available."),
    ("cached_boolean", "Whether {} metrics were given before."),
    ("timer_seconds", "Time that it took to get {} metrics, in seconds."),
)
"""Status gauges of each plugin: suffix of the name, and help."""


class _Entry:
    """A plugin for a target: its schedule and its last output.

    due: when it runs next. until: when the TTL of the output ends. given: a scrape has had this output. parked: not
    scheduled, because no scrape asks for it any more.
    """

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
        self.labelled: _LabelledOutput | None = None

    def wanted(self, now: float) -> bool:
        """Return whether a scrape has asked for it recently."""
        return now - self.asked <= max(LATELY_SECONDS, 2 * self.plugin.ttl_seconds)


class Plugins:
    """Runs plugins and stores their last output. To be used only on the thread of its event loop.

    problems: (plugin name, reason) -> number of failures; the name is "" for a directory.
    """

    def __init__(
        self,
        node_directory: Path | None,
        container_directory: Path | None,
        *,
        owner_uid: int = 0,
        own: Iterable[Plugin] = (),
        min_ttl_seconds: float = MIN_TTL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """own: plugins for containers that are not in a directory. min_ttl_seconds: lower limit of what plugins set."""
        self._own = tuple(own)
        self._min_ttl_seconds = min_ttl_seconds
        self.problems: Counter[tuple[str, str]] = Counter()
        self._directories = (node_directory, container_directory)
        self._owner_uid = owner_uid
        self._clock = clock
        self._plugins: tuple[dict[str, Plugin], dict[str, Plugin]] = ({}, {})  # of the node, of containers
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
        """Read the directories, and start the scheduler."""
        self._stop_pipe = os.pipe()
        await self._load()
        self._scheduler = asyncio.create_task(self._schedule())

    async def stop(self) -> None:
        """Stop the scheduler and kill all running plugins. Waits at most `_STOP_SECONDS` for them."""
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
        """Run the plugins of the node and of these containers now, and wait for them up to the timeout."""
        entries = [entry for target in (_NODE, *targets) for entry in self._asked(target, None)]
        before = {entry.key: entry.runs for entry in entries if entry.running or entry.due <= self._clock()}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while any(entry.runs == before.get(entry.key) for entry in entries):
                    self._ended.clear()
                    await self._ended.wait()

    @property
    def of_containers(self) -> bool:
        """Whether there are any plugins for containers."""
        return bool(self._plugins[1])

    def node(self, collectors: Collectors = None) -> list[Family]:
        """Return the last output of the node's plugins, with their status gauges."""
        return list(self._distinct(_NODE, collectors, lambda entry: self._given(entry, ())))

    def container(self, target: Target, collectors: Collectors = None, *, labelled: bool) -> list[Family]:
        """Return the last output of the plugins for a container. labelled: add the container's labels in front."""
        labels = target.labels if labelled else ()
        return list(self._distinct(target, collectors, lambda entry: self._given(entry, labels)))

    async def containers(self, targets: Iterable[Target], collectors: Collectors = None) -> list[Written]:
        """Return the last output of the plugins for many containers, with the containers' labels.

        There is one family for each name and kind. The event loop is released regularly.
        """
        heads: dict[tuple[str, str], Written] = {}
        lines: dict[tuple[str, str], tuple[list[bytes], list[bytes]]] = {}
        for number, target in enumerate(targets, 1):
            for family in self._distinct(target, collectors, self._given_written):
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
        """Drop the outputs for a container that no longer exists."""
        for name in self._plugins[1]:
            self._entries.pop((uuid, name), None)

    def self_families(self) -> list[Family]:
        """Return the metrics about the plugins themselves, none if no plugin can have been run."""
        if not (any(self._directories) or self._entries or self.problems):
            return []
        failures = tuple(
            Sample("", (("plugin", plugin), ("reason", reason)), str(count))
            for (plugin, reason), count in sorted(self.problems.items())
        )
        running = (Sample("", (), str(self._running)),)
        return [
            Family("pymon_plugin_failures_total", "counter", "Runs and files of plugins that failed.", failures),
            Family("pymon_plugins_running", "gauge", "Runs of plugins that have not ended.", running),
        ]

    # --- asking

    def _asked(self, target: Target, collectors: Collectors) -> list[_Entry]:
        """Mark the plugins of a target as wanted, start those that are due, and return their entries."""
        now = self._clock()
        entries = []
        for plugin in self._plugins[bool(target.uuid)].values():
            if plugin.uuids is not None and target.uuid and target.uuid not in plugin.uuids:
                continue
            if collectors is not None and plugin.collector not in collectors:
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

    def _distinct(
        self, target: Target, collectors: Collectors, given: Callable[[_Entry], list[_Given]]
    ) -> Iterator[_Given]:
        """Yield the output of the plugins of a target. given: returns the families of an entry.

        Two plugins can have families with the same name: plugin_a_b_c may be of a_b or of a. The first one counts.
        Families with the same name and another kind are refused when they are written.
        """
        taken: set[tuple[str, str]] = set()
        for entry in self._asked(target, collectors):
            families = given(entry)
            for family in families:
                if (family.name, family.kind) not in taken:
                    yield family
                else:
                    self.problems[entry.plugin.name, "duplicate"] += 1
            taken.update((family.name, family.kind) for family in families)

    def _status(self, entry: _Entry) -> tuple[bool, tuple[str, ...]]:
        """Return whether the last output is still valid, and the values of the status gauges.

        If it is valid, it counts as given from now on.
        """
        available = self._clock() < entry.until
        cached = available and entry.given
        entry.given = entry.given or available
        booleans = ("01"[available], "01"[cached])
        return available, booleans if entry.seconds is None else (*booleans, f"{entry.seconds:.6f}")

    def _given(self, entry: _Entry, labels: Labels) -> list[Family]:
        available, values = self._status(entry)
        name = entry.plugin.prefix or f"plugin_{entry.plugin.name}"
        status = [
            Family(f"{name}_metrics_{end}", "gauge", help.format(name), (Sample("", labels, value),))
            for (end, help), value in zip(_STATUS, values, strict=False)
        ]
        families = entry.families if available else ()
        return [*status, *(_labelled(family, labels) for family in families)]

    def _given_written(self, entry: _Entry) -> list[Written]:
        """Return the last output and the status gauges of an entry, written with the container's labels."""
        available, values = self._status(entry)
        labelled = entry.labelled
        if labelled is None or labelled.labels != entry.labels:
            labelled = entry.labelled = _label_output(entry.families, entry.labels)
        name = entry.plugin.prefix or f"plugin_{entry.plugin.name}"
        status = []
        for (end, help), value in zip(_STATUS, values, strict=False):
            line = (f"{name}_metrics_{end}{{".encode() + labelled.block + f"}} {value}\n".encode(),)
            status.append(Written(f"{name}_metrics_{end}", "gauge", help.format(name), line, line))
        return [*status, *labelled.families] if available else status

    # --- running

    @property
    def _running(self) -> int:
        return len(self._tasks) + len(self._left)

    def _enqueue(self, entry: _Entry) -> None:
        heapq.heappush(self._queue, (entry.due, next(self._numbers), entry))
        if self._queue[0][2] is entry:
            self._wake.set()

    def _start_due(self) -> None:
        """Start entries that are due, the longest overdue first, up to `MAX_RUNNING`."""
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
        measure = plugin.measure(target) if plugin.measure else partial(_run_program, plugin, target)
        (ended, output, text), labelled = await loop.run_in_executor(self._executor, _measure, measure, target, stop)
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
            ttl_seconds = max(wished, self._min_ttl_seconds)
            entry.families, entry.until = output.families, now + ttl_seconds
            entry.given, entry.labelled = False, labelled
            delay = max(ttl_seconds - plugin.timeout_seconds - LATE_SECONDS, ttl_seconds / 2)
        else:
            _log.debug("plugin %s %s: %.300s", plugin.path, entry.argument, text)
            self.problems[plugin.name, ended.reason or "parse"] += 1
            delay = min(RETRY_SECONDS, max(plugin.ttl_seconds, self._min_ttl_seconds) / 2)
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
        """Read the directories again. The outputs of plugins that still exist are kept."""
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
            {plugin.name: plugin for plugin in (*containers.plugins, *self._own)},
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


def _measure(measure: Callable[[int], Measured], target: Target, stop: int) -> tuple[Measured, _LabelledOutput | None]:
    """Measure, and write the output for a container with its labels. Called in a thread."""
    measured = measure(stop)
    if measured.output is None or not target.uuid:
        return measured, None
    return measured, _label_output(measured.output.families, target.labels)


def _run_program(plugin: Plugin, target: Target, stop: int) -> Measured:
    """Run a plugin's program and parse its output. Called in a thread."""
    ended = run((str(plugin.path), target.argument), plugin.timeout_seconds, stop)
    if ended.output is None:
        return Measured(ended, None, ended.text)
    try:
        return Measured(ended, parse_output(plugin.name, str(plugin.path), ended.output), "")
    except ExpositionError as error:
        return Measured(ended, None, str(error))


def _label_output(families: Iterable[Family], labels: Labels) -> _LabelledOutput:
    return _LabelledOutput(
        labels, label_block(labels), tuple(written(_labelled(family, labels)) for family in families)
    )


def _labelled(family: Family, labels: Labels) -> Family:
    """Return the family with labels in front of its own.

    An own label with the same name is renamed to exported_<name>, or with more prefixes until the name is free.
    """
    if not labels:
        return family
    front = {name for name, _ in labels}
    taken = front.union(name for sample in family.samples for name, _ in sample.labels)
    renamed = {}
    for name in front.intersection(name for sample in family.samples for name, _ in sample.labels):
        free = f"exported_{name}"
        while free in taken:
            free = f"exported_{free}"
        taken.add(free)
        renamed[name] = free
    samples = []
    for sample in family.samples:
        own = ((renamed.get(name, name), value) for name, value in sample.labels)
        samples.append(sample._replace(labels=(*labels, *own)))
    return family._replace(samples=tuple(samples))
