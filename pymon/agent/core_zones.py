"""Metrics that zones of Triton itself serve: cmon-agent's collector `triton_core`.

Such a zone has the tag `smartdc_role`, lists its ports in `metricPorts`, and has a NIC in the network `admin`. Its
metrics are fetched from its own address in that network, in the background like those of a plugin, and shown in scrapes
of this zone as they are. The zones are the operator's, but their answers are bounded like those of anybody else.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pymon.exposition.families import ExpositionError, series_key
from pymon.plugins.config import Measured, Plugin
from pymon.plugins.output import Output, parse_families
from pymon.plugins.run import MAX_OUTPUT_BYTES, Ended
from pymon.service.http1 import ResponseError, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pymon.containers.zones import CoreZone
    from pymon.exposition.families import Family, Sample, SeriesKey
    from pymon.plugins.config import Target

NAME = "triton_core"

TTL_SECONDS = 15.0
"""Age of an answer at which it is no longer shown. It is fetched anew before, as long as scrapes ask for it."""

TIMEOUT_SECONDS = 5.0
"""For all ports of a zone together."""

_READ_BYTES = 1 << 16
_OK = 200


class _FetchError(Exception):
    """Core zones could not be fetched. reason: as in `Ended`. The text is one line."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class _CoreZones:
    """The UUIDs of the zones for which `find` returns a place."""

    find: Callable[[str], CoreZone | None]

    def __contains__(self, uuid: object) -> bool:
        return isinstance(uuid, str) and self.find(uuid) is not None

    def measure(self, target: Target) -> Callable[[int], Measured]:
        return partial(_measure, self.find(target.uuid))


def plugin(find: Callable[[str], CoreZone | None]) -> Plugin:
    """Return the plugin. find: returns where the zone of a UUID serves metrics, None if it is not one of Triton."""
    zones = _CoreZones(find)
    return Plugin(NAME, Path(NAME), TIMEOUT_SECONDS, TTL_SECONDS, zones, NAME, NAME, zones.measure)


def _measure(zone: CoreZone | None, stop: int) -> Measured:
    """Fetch from the ports of a zone one after the other. It succeeds if one of them does."""
    started = time.monotonic()
    found: list[tuple[Family, ...]] = []
    failures: list[tuple[str, str]] = []
    if zone is None:
        failures.append(("gone", "the zone has gone"))
    else:
        for port in zone.ports:
            try:
                body = fetch(zone.address, port, started + TIMEOUT_SECONDS, stop)
                found.append(parse_families("", body.decode()))
            except _FetchError as error:
                failures.append((error.reason, f"{zone.address} port {port}: {error}"))
            except (ExpositionError, UnicodeDecodeError) as error:
                failures.append(("parse", f"{zone.address} port {port}: {error}"))
    seconds = time.monotonic() - started
    if not found:
        reason, text = failures[0]
        return Measured(Ended(None, reason, text, b"", seconds, None), None, text)
    return Measured(Ended(b"", "", "", b"", seconds, None), Output(tuple(_merged(found)), None), "")


def fetch(address: str, port: int, until: float, stop: int) -> bytes:
    """Return the body of ``GET /metrics``.

    until: deadline, in seconds of time.monotonic(). stop: a descriptor that becomes readable when it must end at once.
    Raises an error whose `reason` is "connect", "timeout", "stopped", "status", "malformed" or "too_large".
    """
    host = f"[{address}]" if ":" in address else address
    request = f"GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    reader = ResponseReader()
    reader.begin(MAX_OUTPUT_BYTES)
    response = None
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.connect((address, port))
            _wait(connection, select.POLLOUT, until, stop)
            connection.send(request.encode())  # fits into the buffer of a new connection
            while response is None:
                _wait(connection, select.POLLIN, until, stop)
                data = connection.recv(_READ_BYTES)
                if not data:
                    raise _FetchError("malformed", "its answer is cut off")
                response = reader.receive(data)
    except ResponseError as error:
        raise _FetchError(error.reason, str(error)) from None
    except OSError as error:
        raise _FetchError("connect", (error.strerror or str(error)).lower()) from None
    if response.status != _OK:
        raise _FetchError("status", f"expected status 200, got {response.status}")
    return bytes(response.body)


def _wait(connection: socket.socket, event: int, until: float, stop: int) -> None:
    poll = select.poll()
    poll.register(connection, event)
    poll.register(stop, select.POLLIN)
    ready = dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))
    if stop in ready:
        raise _FetchError("stopped", "stopped")
    if not ready:
        raise _FetchError("timeout", "not done in time")


def _merged(found: Iterable[tuple[Family, ...]]) -> list[Family]:
    """Return one family for each name. The processes of a zone serve the same families with other labels.

    Of families with the same name and another type, and of equal series, the first counts.
    """
    families: dict[str, Family] = {}
    samples: dict[str, dict[SeriesKey, Sample]] = {}
    for of_port in found:
        for family in of_port:
            if family.name.startswith(f"{NAME}_metrics_"):
                continue  # these are pymon's own
            first = families.setdefault(family.name, family)
            if first.kind == family.kind:
                known = samples.setdefault(family.name, {})
                for sample in family.samples:
                    known.setdefault(series_key(sample), sample)
    return [family._replace(samples=tuple(samples[name].values())) for name, family in families.items()]
