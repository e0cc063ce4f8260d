"""The parameters of a scrape, passed from the HTTP endpoint to the renderer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pymon.exposition.negotiation import Coding, Format

Scope = Literal["all", "node", "container"]
"""``all``: node, containers and the agent itself. ``node``: node and agent. ``container``: a single container."""


class Representation(NamedTuple):
    """The form in which collected values are written. names: metrics to include, None for all."""

    format: Format
    encoding: Coding
    names: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Scrape:
    """The parameters of one scrape.

    uuid: of the container, in lower case; "" in other scopes. collectors: names of the collectors to run, None for all.
    names: names of the metrics to include, None for all. deadline: when the client gives up, in seconds on the clock of
    time.monotonic(); None for never.
    """

    scope: Scope = "all"
    uuid: str = ""
    collectors: frozenset[str] | None = None
    names: frozenset[str] | None = None
    format: Format = Format.TEXT_0_0_4
    encoding: Coding = "identity"
    deadline: float | None = None

    @property
    def representation(self) -> Representation:
        """The form in which the collected values are to be written."""
        return Representation(self.format, self.encoding, self.names)
