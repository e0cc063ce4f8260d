"""Families that the operator's own programs and files make, beside those of the catalogue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from pymon.plugins.plugins import Target

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pymon.agent.ports import Scope
    from pymon.agent.rows import ContainerRows
    from pymon.agent.self_metrics import SelfMetrics
    from pymon.exposition.families import Family, Written
    from pymon.plugins.plugins import Plugins
    from pymon.plugins.textfile import Textfile

_Said = TypeVar("_Said", "Family", "Written")

PLUGIN, TEXTFILE = "plugin", "textfile"
_OWN = "pymon_"
_SUFFIXES = {
    "counter": ("_total", "_created"),
    "gauge": (),
    "histogram": ("_bucket", "_sum", "_count", "_created"),
    "summary": ("_sum", "_count", "_created"),
    "untyped": (),
}
"""What OpenMetrics 1.0.0 may write behind the name of a family: no other family is to be called so."""


class Guests:
    """Plugins and text files. A family that is called like another one, or like its samples, is left out, and counted.

    What pymon measures itself comes first, then text files, then plugins.
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
    ) -> None:
        """taken: names and kinds of pymon's families. by_name: plugins are told a container's name and not its UUID."""
        self.collectors = ((PLUGIN,) if plugins else ()) + ((TEXTFILE,) if textfile else ())
        self._plugins = plugins
        self._textfile = textfile
        self._rows = rows
        self._self_metrics = self_metrics
        self._taken = frozenset(name for family, kind in taken for name in _claimed(family, kind))
        self._by_name = by_name
        self._started = asyncio.Event()

    async def start(self) -> None:
        """Begin to run plugins."""
        if self._plugins is not None:
            await self._plugins.start()
        self._started.set()

    async def prime(self, seconds: float) -> None:
        """Run every plugin once and wait for it, up to the timeout."""
        await self._started.wait()
        if self._plugins is not None:
            await self._plugins.prime(self._targets(), seconds)

    async def stop(self) -> None:
        """Kill plugins that run."""
        if self._plugins is not None:
            await self._plugins.stop()

    async def families(
        self, scope: Scope, collectors: Collection[str] | None, late: Collection[str]
    ) -> list[Family | Written]:
        """What there is for a scrape of the node; waits for nobody. late: collectors that were not done in time."""
        found: list[Family | Written] = []
        admission = _Admission(self._taken)
        if self._textfile is not None and (collectors is None or TEXTFILE in collectors) and TEXTFILE not in late:
            found += self._admitted(admission, TEXTFILE, self._textfile.families)
        if self._plugins is not None and (collectors is None or PLUGIN in collectors):
            found += self._admitted(admission, PLUGIN, self._plugins.node())
            if scope == "all" and self._plugins.of_containers:
                found += self._admitted(admission, PLUGIN, await self._plugins.containers(self._targets()))
            found += self._plugins.self_families()
        return found

    def of_container(self, uuid: str, collectors: Collection[str] | None, *, labelled: bool) -> list[Family]:
        """What there is for a scrape of one container; does not wait."""
        if self._plugins is None or not self._plugins.of_containers:
            return []
        row = self._rows.row_of(uuid)
        target = None if row is None else self._target(row)
        if target is None or not (collectors is None or PLUGIN in collectors):
            return []
        said = self._plugins.container(target, labelled=labelled)
        return list(self._admitted(_Admission(self._taken), PLUGIN, said))

    def _targets(self) -> Iterator[Target]:
        """Those that are in expositions of all, as far as they are there when their turn comes."""
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
    """Which families may stand in one exposition: those of one name are one family, when they are of one kind."""

    def __init__(self, taken: Collection[str]) -> None:
        self._taken = taken
        self._kinds: dict[str, str | None] = {}
        self._claimed: set[str] = set()

    def admits(self, family: Family | Written) -> bool:
        """Whether it is in nobody's way."""
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
    """The names that a family has in OpenMetrics: its own and those of its samples."""
    base = name.removesuffix("_total" if kind == "counter" else "_info")
    return (
        name,
        *((base,) if base != name else ()),
        *(f"{base}{suffix}" for suffix in _SUFFIXES[kind]),
    )
