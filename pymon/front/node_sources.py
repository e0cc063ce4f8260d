"""Follows lists of nodes: a file in the format of Prometheus's ``file_sd_configs``, and SRV records.

What a list says goes into the directory, so that all proxies and commands see it. A list that cannot be read changes
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from pymon.config import ConfigError
from pymon.directory.directory import open_directory
from pymon.directory.model import DirectoryError
from pymon.directory.node_lists import Entry, checked_list, read_list
from pymon.directory.nodes import checked
from pymon.dns.srv import LookupFailedError, srv_targets
from pymon.service.files import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymon.proxy.options import ProxyOptions
    from pymon.service.files import Fingerprint

LOOK_SECONDS = 2.0
"""How often the file is looked at."""

AGAIN_SECONDS = 30.0
"""How often a list is read and compared although nothing has changed, and how often SRV records are asked for."""

_log = logging.getLogger(__name__)


class _Source:
    """A list that is followed. name: of the list in the directory. read: returns its nodes. file: None without one."""

    def __init__(self, name: str, read: Callable[[], list[Entry]], file: Path | None) -> None:
        self.name = name
        self._read = read
        self._files = () if file is None else (file,)
        self._seen: Fingerprint = ()
        self._read_at = -AGAIN_SECONDS
        self._said: frozenset[str] = frozenset()

    def look(self, url: str, now: float) -> None:
        """Read the list if it is due, and put it into the directory at a URL."""
        seen = fingerprint(self._files)
        if seen == self._seen and now < self._read_at + AGAIN_SECONDS:
            return
        self._seen, self._read_at = seen, now
        try:
            entries = self._read()
            problems = [] if entries else [f"{self.name}: is empty, which changes nothing"]
            with open_directory(url) as directory:
                changes = directory.node_lists.follow(entries, self.name)
            problems += [f"{self.name}: node {node}: {why}" for node, why in changes.refused.items()]
        except (ConfigError, DirectoryError, LookupFailedError) as error:
            problems = [f"list of nodes is not followed: {error}"]
        except Exception as error:  # noqa: BLE001  # the proxy must survive any error
            problems = [f"internal error: list of nodes {self.name}: {error!r}"]
        for text in problems:
            if text not in self._said:
                _log.warning("%s", text)
        self._said = frozenset(problems)


def _srv_entries(url: str) -> list[Entry]:
    """Return the nodes of the SRV records of a name. Raises ConfigError and LookupFailedError."""
    scheme, _, name = url.partition("://")
    found = srv_targets(name)
    try:
        return checked_list([Entry(checked(host, None, f"{scheme}://{host}:{port}", "", "")) for host, port in found])
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


async def follow_lists(options: ProxyOptions, stop: asyncio.Event) -> None:
    """Follow the lists that the options name until `stop` is set."""
    sources = []
    if (file := options.node_file) is not None:
        sources.append(_Source(f"file {file}", lambda: read_list(file), file))
    if (srv := options.node_srv) is not None:
        sources.append(_Source(f"srv {srv}", lambda: _srv_entries(srv), None))
    while sources and not stop.is_set():
        await asyncio.to_thread(_look, sources, options.directory)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), LOOK_SECONDS)


def _look(sources: list[_Source], url: str) -> None:
    for source in sources:
        source.look(url, time.monotonic())
