"""What the agent's HTTP service asks of the rest of the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pymon.exposition.negotiation import Format

Scope = Literal["all", "node"]
"""``all``: node, containers and the agent itself. ``node``: the same without containers."""


class Body(Protocol):
    """The bytes of an exposition, lent until `release`."""

    @property
    def data(self) -> memoryview:
        """The bytes: one dimension, contiguous, of format B. Not written to before `release`."""

    def release(self) -> None:
        """Give the bytes back. Called once."""


class Collection(Protocol):
    """Collects and renders."""

    collectors: tuple[str, ...]
    """Names of the enabled collectors."""
    known_collectors: tuple[str, ...]
    """Names of all collectors, for error texts."""

    async def scrape(
        self,
        *,
        scope: Scope,
        collectors: frozenset[str] | None,
        names: frozenset[str] | None,
        format: Format,
        gzip: bool,
        timeout_seconds: float | None,
    ) -> Body:
        """One exposition of this node. None for `collectors` and `names` is all; None for the timeout is no limit.

        Raises TimeoutError when it cannot answer in time.
        """

    async def scrape_container(
        self,
        uuid: str,
        *,
        collectors: frozenset[str] | None,
        names: frozenset[str] | None,
        format: Format,
        gzip: bool,
        timeout_seconds: float | None,
    ) -> Body | None:
        """One exposition of a container, None when it is not there or not running. `uuid` is lower case."""

    def ready(self) -> str | None:
        """None when scrapes can be answered, else the reason why not, on one line."""


class Inventory(Protocol):
    """The containers of this node."""

    @property
    def version(self) -> str:
        """An opaque word that changes with every change."""

    def document(self) -> bytes:
        """The inventory as JSON, in the state that `version` names."""

    def ready(self) -> str | None:
        """None when the containers have been described, else the reason why not, on one line."""

    async def wait_change(self, version: str, timeout_seconds: float) -> None:
        """Return when the version is another than this, or after the timeout."""
