"""The metrics of applications in containers: who may be asked what, and what is made of the answer."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, get_args
from urllib.parse import parse_qsl

from pymon.agent.app_places import AppPlaces, BusyError
from pymon.apps.client import ask_fetcher
from pymon.apps.protocol import MAX_BODY_BYTES, AppError, Ask, Reason
from pymon.config import nearest, shown
from pymon.exposition.families import ExpositionError
from pymon.exposition.foreign import checked, with_labels
from pymon.exposition.histogram import Histogram
from pymon.service.answer import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from pymon.agent.rows import ContainerRows
    from pymon.containers.identity import Container
    from pymon.exposition.own_metrics import OwnMetrics
    from pymon.sources.net_process import NetProcess, NetProcesses

_log = logging.getLogger(__name__)

MAX_SECONDS = 10.0
"""How long a fetch may take, also for a client that would wait longer."""

SHARE = 0.9
"""Share of the time left that the application has. In the rest the client gets to know what was too slow."""

MAX_SAMPLES = 50_000

REPEAT_SECONDS = 60.0
"""Minimum time between two log lines with the same reason."""

_STATUSES: dict[Reason, int] = {"host": 403, "gone": 404, "timeout": 504}
"""Statuses of the answers to a fetch that failed. Those of other reasons are 502."""

_OF_THE_OPERATOR = frozenset(("denied", "fetcher", "internal", "ask"))
"""Reasons that an operator has to know, since no tenant can do anything about them."""

_PARAMETERS = ("port", "labels")


class _Query(NamedTuple):
    """port: None if none is given. labels: whether the container's are added."""

    port: int | None = None
    labels: bool = False


class Apps:
    """Answers requests for the metrics of applications."""

    def __init__(self, rows: ContainerRows, processes: NetProcesses, fetcher: Path, own: OwnMetrics) -> None:
        """fetcher: its socket. own: gets the metrics of what is done here."""
        self._rows = rows
        self._processes = processes
        self._fetcher = fetcher
        self._places = AppPlaces()
        self._checking = asyncio.Semaphore(1)  # a text that is checked takes many times its length in memory
        self._outcomes: Counter[tuple[str, ...]] = Counter(
            {(name,): 0 for name in ("ok", "cancelled", *get_args(Reason))}
        )
        self._took = Histogram()
        self._said: dict[str, float] = {}
        own.counters(
            "pymon_app_fetches", "Fetches of the metrics of applications, by outcome.", ("outcome",),
            lambda: self._outcomes,
        )  # fmt: skip
        own.histograms(
            "pymon_app_fetch_duration_seconds", "Time of fetches of the metrics of applications, with waiting.", (),
            {(): self._took},
        )  # fmt: skip
        own.gauge(
            "pymon_app_fetches_in_flight", "Fetches of the metrics of applications that run.",
            lambda: self._places.running,
        )  # fmt: skip
        own.gauge(
            "pymon_app_fetches_waiting", "Fetches of the metrics of applications that wait for a place.",
            lambda: self._places.waiting,
        )  # fmt: skip

    async def answer(self, uuid: str, query: str, seconds: float | None) -> bytes:
        """Return the exposition of the application in a container, in the text format 0.0.4.

        seconds: how long the client waits, None if it does not say. Raises Refusal.
        """
        asked = parsed(query)
        row = self._rows.row_of(uuid)
        container = None if row is None else self._rows.container(row)
        if row is None or container is None:
            raise Refusal(404, f"{uuid}: not there or not running")
        labels = self._rows.label_pairs(row) if asked.labels else ()
        port = _port(container, asked.port)
        began = time.monotonic()
        until = began + (MAX_SECONDS if seconds is None else min(MAX_SECONDS, seconds))
        outcome: str = "internal"
        try:
            text = await self._answer(container, port, labels, until)
            outcome = "ok"
        except AppError as error:
            outcome = error.reason
            self._tell(error)
            raise Refusal(_STATUSES.get(error.reason, 502), f"{uuid}: {error}") from None
        except BusyError as error:
            outcome = "busy"
            raise Refusal(503, f"{uuid}: {error}", b"Retry-After: 1\r\n") from None
        except TimeoutError:
            outcome = "timeout"
            raise Refusal(504, f"{uuid}: no answer in time") from None
        except asyncio.CancelledError:
            outcome = "cancelled"  # the client has gone
            raise
        finally:
            self._outcomes[outcome,] += 1
            self._took.observe(time.monotonic() - began)
        return text

    async def _answer(
        self, container: Container, port: int, labels: tuple[tuple[str, str], ...], until: float
    ) -> bytes:
        """Return what is passed on of an application's answer. Raises AppError, BusyError and TimeoutError.

        The place is held until the answer is checked, so that few answers wait for that.
        """
        loop = asyncio.get_running_loop()
        account = container.owner or ""
        async with self._places.place(str(container.uuid), account, loop.time() + until - time.monotonic()):
            return await self._passed_on(await self._fetched(container, port, until), labels, until)

    async def _fetched(self, container: Container, port: int, until: float) -> bytes:
        """Return what an application answers. Raises AppError and TimeoutError."""
        process = await asyncio.to_thread(self._find, container.id)
        if process is None:
            raise AppError("gone", "it has no process")
        if process.on_host:
            raise AppError("host", "it is on the host's network, where nothing is fetched")
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        ask = Ask(
            pid=process.pid,
            start_ticks=process.start_ticks,
            cgroup=os.fsencode(container.id).decode("latin-1"),
            namespace=process.namespace,
            port=port,
            path=container.app_path or "",
            seconds=left * SHARE,
            max_bytes=MAX_BODY_BYTES,
        )
        return await ask_fetcher(self._fetcher, ask, left)

    def _find(self, path: str) -> NetProcess | None:
        try:
            return self._processes.find(path)
        except PermissionError as error:
            raise AppError("denied", f"its network namespace may not be read: {error.strerror}") from None

    async def _passed_on(self, body: bytes, labels: tuple[tuple[str, str], ...], until: float) -> bytes:
        """Return a body that is a valid exposition, with these labels. Raises AppError and TimeoutError."""

        def check() -> bytes:
            text = checked(body, MAX_SAMPLES)
            return with_labels(text, labels) if labels else body

        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(loop.time() + until - time.monotonic()):
            await self._checking.acquire()
        try:
            return await asyncio.to_thread(check)
        except ExpositionError as error:
            raise AppError("exposition", f"its exposition is not valid: {error}") from None
        finally:
            self._checking.release()

    def _tell(self, error: AppError) -> None:
        now = time.monotonic()
        if error.reason in _OF_THE_OPERATOR and now - self._said.get(error.reason, -math.inf) > REPEAT_SECONDS:
            self._said[error.reason] = now
            _log.warning("metrics of applications: %s", error)


def parsed(query: str) -> _Query:
    """Parse the query of a URL. Raises Refusal 400."""
    found: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _PARAMETERS:
            raise Refusal(400, f"{shown(key)}: unknown parameter{nearest(key, _PARAMETERS)}")
        if key in found:
            raise Refusal(400, f"{key}: given twice")
        found[key] = value
    port, labels = found.get("port"), found.get("labels", "0")
    if port is not None and not (port.isascii() and port.isdigit() and len(port) <= 5):  # noqa: PLR2004
        raise Refusal(400, f"port: expected a number, got {shown(port)}")
    if labels not in ("0", "1"):
        raise Refusal(400, f"labels: expected 0 or 1, got {shown(labels)}")
    return _Query(None if port is None else int(port), labels == "1")


def _port(container: Container, port: int | None) -> int:
    """Return the port that a request is for. Raises Refusal unless it is one that the container declares."""
    declared = container.app_ports or ()
    if not declared:
        raise Refusal(403, f"{container.uuid}: no label says where its application answers")
    if port is None and len(declared) == 1:
        return declared[0]
    if port not in declared:
        expected = " or ".join(map(str, declared))
        raise Refusal(400, f"port: expected {expected}, got {'none' if port is None else port}")
    return port
