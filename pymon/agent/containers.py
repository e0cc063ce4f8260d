"""What a collection asks of the containers' side of the agent: cgroups on Linux, zones on illumos."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from pymon._native.renderer import Labels
    from pymon._native.table import Table


class ContainerCollector(NamedTuple):
    """A collector that is read together with the others, and the tables it fills.

    node: its tables are about the node, not about containers.
    """

    name: str
    tables: tuple[str, ...]
    node: bool = False


class Outcome(NamedTuple):
    """How a collector's collection went: seconds is None while it has not ended."""

    collector: str
    seconds: float | None
    success: bool
    failures: Mapping[str, int]


class Gathered(NamedTuple):
    """Tables by name and the label blocks of their parents, lent until `give_back`.

    good: whether the containers could be collected, in time.
    """

    tables: Mapping[str, Table]
    labels: Labels
    outcomes: Sequence[Outcome]
    good: bool
    give_back: Callable[[], None]


class One(NamedTuple):
    """Tables of one container, in the order of the layout, and its label block, lent until `give_back`."""

    tables: Sequence[Table | None]
    block: bytes
    give_back: Callable[[], None]


class Reading(Protocol):
    """A collection under way.

    waiting: done when it has ended; None where there is nothing to wait for.
    """

    waiting: asyncio.Future[None] | None

    def finish(self) -> Gathered:
        """What is there now, complete or not. Called once."""


class Containers(Protocol):
    """Reads containers."""

    @property
    def layout(self) -> Mapping[str, tuple[str, ...]]:
        """Columns by table."""

    @property
    def collectors(self) -> Sequence[ContainerCollector]:
        """Those that are on."""

    def start(self) -> None:
        """Attach to the running loop."""

    async def prime(self, seconds: float) -> None:
        """Have what is read in the background at hand, up to the timeout: for who collects once."""

    async def stop(self) -> None:
        """Detach, and `close`."""

    def close(self) -> None:
        """Stop what runs. May block for a moment."""

    def begin(self, chosen: Sequence[ContainerCollector], deadline_seconds: float) -> Reading:
        """Start a collection of these collectors, one at a time."""

    async def one(self, uuid: str, collectors: frozenset[str] | None, seconds: float) -> One | None:
        """One container, None when it is not there; `uuid` in lower case, None for `collectors` is all of them."""
