"""Authorization: the one decision of the proxy. Pure; tests/golden/authz.txt holds the whole table.

A tenant may access its own containers. An operator may also access containers without an owner, and the nodes, but no
other tenant's containers. A resource that the principal may not access is answered like one that does not exist.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pymon.service.routes import Routes

if TYPE_CHECKING:
    from uuid import UUID

    from pymon.proxy.authn import Principal


class Kind(Enum):
    """The kind of resource that a request addresses."""

    CONTAINER = "container"
    """The metrics of one container."""
    APP = "app"
    """The metrics of the application in one container."""
    NODE = "node"
    """The metrics of one node, without those of its containers."""
    ACCOUNT_METRICS = "account_metrics"
    """The metrics of all containers that the principal may access."""
    DISCOVER = "discover"
    DISCOVER_NODES = "discover_nodes"
    SD_CONTAINER = "sd_container"
    SD_NODE = "sd_node"
    HEALTH = "health"
    SUMMARY = "summary"
    """The summary of all containers that the principal may access."""
    PAGE = "page"
    """A file of the page: the same for everybody, without data."""
    LOGIN = "login"
    """Keeps the request's token in a cookie of the browser."""
    LOGOUT = "logout"
    UNKNOWN = "unknown"
    """A path without a route."""


class Resource(NamedTuple):
    """The resource of a request. exists, owner: of the container or node; other kinds always exist without an owner."""

    kind: Kind
    exists: bool = True
    owner: UUID | None = None


class Decision(Enum):
    """A decision, with its HTTP status as value."""

    ALLOW = 200
    UNAUTHENTICATED = 401
    NOT_FOUND = 404
    METHOD_NOT_ALLOWED = 405

    def __init__(self, status: int) -> None:
        self.status = status


_ROUTES = Routes(
    {
        "/metrics": Kind.CONTAINER,
        "/v1/account/metrics": Kind.ACCOUNT_METRICS,
        "/v1/discover": Kind.DISCOVER,
        "/v1/gz/discover": Kind.DISCOVER_NODES,
        "/v1/sd": Kind.SD_CONTAINER,
        "/v1/summary": Kind.SUMMARY,
        "/v1/login": Kind.LOGIN,
        "/v1/logout": Kind.LOGOUT,
        "/": Kind.PAGE,
        "/-/healthy": Kind.HEALTH,
        "/-/ready": Kind.HEALTH,
    },
    Kind.CONTAINER,
    Kind.APP,
)
_PING = re.compile(r"/(?:v[^/]*/)?_ping")


def kind_of(path: str) -> tuple[Kind, str]:
    """Return the kind of a path, and the UUID in it in lower case or "".

    CONTAINER stands for a container or a node: only the inventory tells which of them has the UUID. APP is of a
    container alone. SD_CONTAINER becomes SD_NODE when the query says ``role=node``.
    """
    kind, uuid = _ROUTES.find(path)
    if kind is None:
        if path.startswith("/static/"):
            return Kind.PAGE, ""
        return Kind.HEALTH if _PING.fullmatch(path) else Kind.UNKNOWN, ""
    return kind, uuid


def owners_visible_to(principal: Principal) -> tuple[UUID | None, ...]:
    """Return the owners whose containers a principal may access. None stands for containers without an owner."""
    return (principal.account, None) if principal.operator else (principal.account,)


_WITHOUT_CREDENTIALS = frozenset((Kind.HEALTH, Kind.PAGE, Kind.LOGOUT))
_OF_EVERYBODY = frozenset((Kind.ACCOUNT_METRICS, Kind.DISCOVER, Kind.SD_CONTAINER, Kind.SUMMARY, Kind.LOGIN))
_OF_ITS_OWNER = frozenset((Kind.CONTAINER, Kind.APP))
_OF_OPERATORS = frozenset((Kind.NODE, Kind.DISCOVER_NODES, Kind.SD_NODE))
_READS = frozenset(("GET", "HEAD"))
_POST = frozenset(("POST",))
_POSTED = frozenset((Kind.LOGIN, Kind.LOGOUT))


def methods_of(kind: Kind) -> frozenset[str]:
    """Return the methods of a kind of resource."""
    return _POST if kind in _POSTED else _READS


def decide(principal: Principal | None, resource: Resource, method: str) -> Decision:
    """Decide whether a principal may apply a method to a resource. principal: None when not authenticated.

    The method is checked before the resource, so that a 405 does not reveal whether the resource exists.
    """
    kind, exists, owner = resource
    if principal is None and kind not in _WITHOUT_CREDENTIALS:
        return Decision.UNAUTHENTICATED
    if method not in methods_of(kind):
        return Decision.METHOD_NOT_ALLOWED
    if principal is None:
        return Decision.ALLOW
    if kind in _OF_ITS_OWNER:
        return Decision.ALLOW if exists and owner in owners_visible_to(principal) else Decision.NOT_FOUND
    if kind in _OF_EVERYBODY or kind in _WITHOUT_CREDENTIALS:
        return Decision.ALLOW
    if kind in _OF_OPERATORS and exists and principal.operator:
        return Decision.ALLOW
    return Decision.NOT_FOUND
