"""Who may have what: the one decision of the proxy. Pure; tests/golden/authz.txt is the whole table.

A tenant has its own containers. An operator has besides them the containers that nobody owns and the nodes, and no
other tenant's containers. What is not yours is answered as what is not there.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.proxy.authn import Principal


class Kind(Enum):
    """What a request is for."""

    CONTAINER = "container"
    """The metrics of one container."""
    NODE = "node"
    """The metrics of one node without its containers."""
    ACCOUNT_METRICS = "account_metrics"
    """The metrics of all containers of the one who asks."""
    DISCOVER = "discover"
    DISCOVER_NODES = "discover_nodes"
    SD_CONTAINER = "sd_container"
    SD_NODE = "sd_node"
    HEALTH = "health"
    UNKNOWN = "unknown"
    """A path that the proxy does not have."""


class Resource(NamedTuple):
    """What a request is for. exists, owner: of a container or a node; the other kinds are there for whoever may ask."""

    kind: Kind
    exists: bool = True
    owner: UUID | None = None


class Decision(Enum):
    """An answer and its HTTP status."""

    ALLOW = 200
    UNAUTHENTICATED = 401
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405

    def __init__(self, status: int) -> None:
        self.status = status


_CONTAINER, _HEALTH = Kind.CONTAINER, Kind.HEALTH
_OF_EVERYBODY = frozenset((Kind.ACCOUNT_METRICS, Kind.DISCOVER, Kind.SD_CONTAINER))
_OF_OPERATORS = frozenset((Kind.NODE, Kind.DISCOVER_NODES, Kind.SD_NODE))
_METHODS = frozenset(("GET", "HEAD"))

_ALLOW = Decision.ALLOW
_UNAUTHENTICATED = Decision.UNAUTHENTICATED
_NOT_FOUND = Decision.NOT_FOUND
_METHOD_NOT_ALLOWED = Decision.METHOD_NOT_ALLOWED


def decide(principal: Principal | None, resource: Resource, method: str) -> Decision:
    """Whether a principal (None: nobody proved to be one) may do what the method says to a resource.

    The method is looked at before the resource, so that its refusal says nothing of what is there.
    """
    kind, exists, owner = resource
    if principal is None and kind is not _HEALTH:
        return _UNAUTHENTICATED
    if method not in _METHODS:
        return _METHOD_NOT_ALLOWED
    if principal is None:
        return _ALLOW
    if kind is _CONTAINER:
        if exists and (principal.operator if owner is None else owner == principal.account):
            return _ALLOW
        return _NOT_FOUND
    if kind in _OF_EVERYBODY or kind is _HEALTH:
        return _ALLOW
    if kind in _OF_OPERATORS and exists and principal.operator:
        return _ALLOW
    return _NOT_FOUND
