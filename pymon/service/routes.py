"""Which route a path has, and which methods it takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from pymon.service.answer import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymon.service.server import Request

_CONTAINER = re.compile(r"/v1/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(/app)?/metrics")
_CONTAINER_CHARACTERS = frozenset((len("/v1//metrics") + 36, len("/v1//app/metrics") + 36))
_ALLOW = b"Allow: GET, HEAD\r\n"

_Route = TypeVar("_Route")


class Routes(Generic[_Route]):
    """Routes by path, one for ``/v1/<uuid>/metrics``, and one for ``/v1/<uuid>/app/metrics``."""

    def __init__(self, paths: Mapping[str, _Route], container: _Route, app: _Route) -> None:
        self._paths = paths
        self._container = container
        self._app = app

    def find(self, path: str) -> tuple[_Route | None, str]:
        """Return the route of a path or None, and the UUID in the path in lower case or ""."""
        if len(path) in _CONTAINER_CHARACTERS and (match := _CONTAINER.fullmatch(path)):
            return self._app if match[2] else self._container, match[1].lower()
        return self._paths.get(path), ""


def only_reads(request: Request) -> None:
    """Raise a 405 `Refusal` unless the method is GET or HEAD."""
    if request.method not in {"GET", "HEAD"}:
        raise Refusal(405, "method not allowed: expected GET or HEAD", _ALLOW)
