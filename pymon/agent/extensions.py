"""Metric families from the operator's plugins and text files, in addition to those of the catalogue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pymon.plugins.config import PLUGIN, Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pymon.agent.rows import ContainerRows
    from pymon.agent.self_metrics import SelfMetrics
    from pymon.exposition.families import Family, Written
    from pymon.plugins.plugins import Plugins
    from pymon.plugins.textfile import Textfile

_Said = TypeVar("_Said", "Family", "Written")

TEXTFILE = "textfile"
_OWN = "pymon_"
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": (),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "untyped": (),
}
"""Suffixes of sample names in OpenMetrics 1.0.0, by type of family. No other family may have such a name."""


class Extensions:
    """Families from plugins and text files.

    A family whose name conflicts with an earlier family or its samples is left out and counted as a failure. The order
    of precedence is: pymon's own metrics, text files, plugins.
    """

    def __init__(
        self,
        plugins: Plugins | None,
        textfile: Textfile | None,
        rows: ContainerRows,
        self_metrics: SelfMetrics,
        *,
        taken: Iterable[tuple[str, str]],
        by_name: bool,
        of_plugins: tuple[str, ...] = (PLUGIN,),
    ) -> None:
        """Combine plugins and text files; either may be None.

        taken: names and types of pymon's own families. by_name: plugins get a container's name as their argument
        instead of its UUID. of_plugins: the collectors that the plugins belong to.
        """
        self.collectors = (of_plugins if plugins else ()) + ((TEXTFILE,) if textfile else ())
        self._plugins = plugins
        self._of_plugins = frozenset(of_plugins)
        self._textfile = textfile
        self._rows = rows
        self._self_metrics = self_metrics
        self._taken = frozenset(name for family, kind in taken for name in _claimed(family, kind))
        self._by_name = by_name
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Start to run plugins."""
        if self._plugins is not None:
            await self._plugins.start()
        self._started.set()

    async def prime(self, seconds: float) -> None:
        """Run every plugin once and wait for it, for at most `seconds`."""
        await self._started.wait()
        if self._plugins is not None:
            await self._plugins.prime(self._targets(), seconds)

    async def stop(self) -> None:
        """Kill the plugins that run, and start no others. Waits for them for a bounded time."""
        if self._plugins is not None:
            await self._plugins.stop()

    async def families(
        self, *, all_containers: bool, collectors: Collection[str] | None, late: Collection[str]
    ) -> list[Family | Written]:
        """Return the latest families for a scrape of the node, without waiting for plugins.

        all_containers: include the families of containers. collectors: names, None for all. late: collectors that were
        not done in time; their families are left out.
        """
        found: list[Family | Written] = []
        admission = _Admission(self._taken)
        if self._textfile is not None and (collectors is None or TEXTFILE in collectors) and TEXTFILE not in late:
            found += self._admitted(admission, TEXTFILE, self._textfile.families)
        if self._plugins is not None and self._wanted(collectors):
            found += self._admitted(admission, PLUGIN, self._plugins.node(collectors))
            if all_containers and self._plugins.of_containers:
                said = await self._plugins.containers(self._targets(), collectors)
                found += self._admitted(admission, PLUGIN, said)
            found += self._plugins.self_families()
        return found

    def of_container(self, uuid: str, collectors: Collection[str] | None, *, labelled: bool) -> list[Family]:
        """Return the latest families for a scrape of one container, without waiting for plugins.

        uuid: in lower case. collectors: names, None for all. labelled: include the container's labels.
        """
        if self._plugins is None or not self._plugins.of_containers:
            return []
        row = self._rows.row_of(uuid)
        target = None if row is None else self._target(row)
        if target is None or not self._wanted(collectors):
            return []
        said = self._plugins.container(target, collectors, labelled=labelled)
        return list(self._admitted(_Admission(self._taken), PLUGIN, said))

    def _wanted(self, collectors: Collection[str] | None) -> bool:
        return collectors is None or not self._of_plugins.isdisjoint(collectors)

    def _targets(self) -> Iterator[Target]:
        """Yield the containers that are in scrapes of all containers, except those that disappear during iteration."""
        for row in range(self._rows.rows):
            if self._rows.block(row) and (target := self._target(row)) is not None:
                yield target

    def _target(self, row: int) -> Target | None:
        container = self._rows.container(row)
        if container is None:
            return None
        uuid = str(container.uuid)
        argument = container.id.removeprefix("/") if self._by_name else uuid
        return Target(uuid, argument, self._rows.label_pairs(row))

    def _admitted(self, admission: _Admission, collector: str, families: Iterable[_Said]) -> Iterable[_Said]:
        for family in families:
            if admission.admits(family):
                yield family
            else:
                self._self_metrics.failed(collector, "duplicate")


class _Admission:
    """Decides which families may be in one exposition. Families with the same name must have the same type."""

    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
        self._kinds: dict[str, str | None] = {}
        self._claimed: set[str] = set()

    def admits(self, family: Family | Written) -> bool:
        """Return whether a family conflicts with no earlier one."""
        if family.name in self._kinds:
            return self._kinds[family.name] == family.kind
        names = _claimed(family.name, family.kind)
        free = not family.name.startswith(_OWN) and all(
            name not in self._taken and name not in self._claimed for name in names
        )
        self._kinds[family.name] = family.kind if free else None
        if free:
            self._claimed.update(names)
        return free


def _claimed(name: str, kind: str) -> tuple[str, ...]:
    """Return the names that a family occupies in OpenMetrics: its own and those of its samples."""
    base = name.removesuffix("_total" if kind == "counter" else "_info")
    return (
        name,
        *((base,) if base != name else ()),
        *(f"{base}{suffix}" for suffix in _SUFFIXES[kind]),
    )
