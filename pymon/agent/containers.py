"""The interface through which containers are collected. Implemented over cgroups on Linux and zones on illumos."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from pymon._native.renderer import Labels
    from pymon._native.table import Table


class ContainerCollector(NamedTuple):
    """A collector and the tables that it fills. All collectors of `Containers` are read in one collection.

    node: the tables are about the node, not about containers.
    """

    name: str
    tables: tuple[str, ...]
    node: bool = False


class Outcome(NamedTuple):
    """The outcome of one collector.

    success: whether its files were read in time and without an error. What the kernel does not offer is no error.
    seconds: how long it took, None if it has not ended. failures: number of failures by reason.
    """

    collector: str
    seconds: float | None
    success: bool
    failures: Mapping[str, int]


class CollectionResult(NamedTuple):
    """The result of a collection.

    tables: by name; may be used until `give_back` is called. labels: label blocks of the rows' parents. good: whether
    no collector was late or failed for all containers.
    """

    tables: Mapping[str, Table]
    labels: Labels
    outcomes: Sequence[Outcome]
    good: bool
    give_back: Callable[[], None]


class ContainerTables(NamedTuple):
    """The result of reading one container.

    tables: in the order of `Containers.layout`, None where not read; may be used until `give_back` is called.
    block: the container's label block.
    """

    tables: Sequence[Table | None]
    block: bytes
    give_back: Callable[[], None]


class Reading(Protocol):
    """A running collection.

    waiting: a future that is done when the collection has ended; None if there is nothing to wait for.
    """

    waiting: asyncio.Future[None] | None

    def finish(self) -> CollectionResult:
        """Return what has been collected so far, complete or not. Called once."""


class Containers(Protocol):
    """Collects the containers of a node."""

    @property
    def layout(self) -> Mapping[str, tuple[str, ...]]:
        """The columns of each table, by table name."""

    @property
    def collectors(self) -> Sequence[ContainerCollector]:
        """The collectors of containers that are enabled."""

    @property
    def source(self) -> str:
        """Where the numbers come from now, for people."""

    def start(self) -> None:
        """Attach to the running loop."""

    async def prime(self, seconds: float) -> None:
        """Read once what is otherwise read in the background, and wait for it for at most `seconds`.

        For callers that collect only once.
        """

    async def stop(self) -> None:
        """Detach from the loop, and call `close` without blocking it."""

    def close(self) -> None:
        """Stop all threads. May block briefly."""

    async def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> Reading:
        """Start a collection of these collectors. Only one collection may run at a time."""

    async def read_one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> ContainerTables | None:
        """Read one container. Return None if it does not exist or has gone meanwhile.

        uuid: in lower case. collectors: names, None for all. Raises TimeoutError or SourceError if it cannot be read.
        """
