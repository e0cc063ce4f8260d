"""The interfaces through which the agent's HTTP endpoints use the rest of the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pymon.agent.scrape import Scrape


class Body(Protocol):
    """The bytes of an exposition. They may be used until `release` is called."""

    @property
    def data(self) -> memoryview:
        """The bytes: one dimension, contiguous, of format B. Not written to before `release`."""

    def release(self) -> None:
        """End the use of the bytes. Called once."""


class Collection(Protocol):
    """Collects metrics and renders them."""

    collectors: tuple[str, ...]
    """Names of the enabled collectors."""
    known_collectors: tuple[str, ...]
    """Names of all collectors, for error texts."""

    async def scrape(self, scrape: Scrape) -> Body | None:
        """Return the exposition that a scrape asks for, or None if its container does not exist or is not running.

        Raises TimeoutError when it is not ready by the scrape's deadline, SourceError when the container cannot be
        read.
        """

    def ready(self) -> str | None:
        """Return None when scrapes can be answered, else the reason why not, on one line."""


class Inventory(Protocol):
    """The containers of this node, as a document with a version that can be waited for."""

    @property
    def version(self) -> str:
        """An opaque string that differs after every change."""

    def document(self) -> bytes:
        """Return the inventory of the current `version` as JSON."""

    def changes(self, version: str) -> bytes | None:
        """Return the changes since a version as JSON, None if they are not known or too large."""

    def ready(self) -> str | None:
        """Return None when the inventory is complete, else the reason why not, on one line."""

    async def wait_change(self, version: str, timeout_seconds: float) -> None:
        """Return when the version differs from this one, or after the timeout."""


class Apps(Protocol):
    """The applications in the containers of this node; see `pymon.agent.apps.Apps`."""

    async def answer(self, uuid: str, query: str, seconds: float | None) -> bytes:
        """Return the exposition of the application in a container. Raises Refusal."""
        ...


class Summaries(Protocol):
    """The summary of the containers for people."""

    async def summary(self) -> bytes:
        """Return the summary of now as JSON; see `pymon.summary_document`."""
