"""Parser of the ``triton.cns.services`` label of a container: ``label[:port][:key=value...]``, separated by commas.

The keys are port, priority and weight (RFC 2782). Examples: ``web``, ``web:8080``, ``db:5432:priority=10:weight=5``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from pymon.config import shown

MAX_SERVICES = 64
MAX_CHARACTERS = 4096

_is_label = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?").fullmatch
_is_number = re.compile(r"[0-9]{1,5}").fullmatch
_RANGES = {"port": range(1, 65536), "priority": range(65536), "weight": range(65536)}


class Service(NamedTuple):
    """A service that an instance is part of. Without a port it has no SRV record.

    weight: the default is above 0, so that an instance without a weight still gets a share of the traffic.
    """

    label: str
    port: int | None = None
    priority: int = 0
    weight: int = 10


class Services(NamedTuple):
    """The parsed label. labels: the DNS labels of the services, unique. problems: one line for each ignored part."""

    services: tuple[Service, ...] = ()
    labels: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


NONE = Services()


@lru_cache(1024)
def parse(text: str) -> Services:
    """Parse the label. The services are unique and in the order of the text. Nothing is raised."""
    if len(text) > MAX_CHARACTERS:
        return Services(problems=(f"expected services in at most {MAX_CHARACTERS} characters, got {len(text)}",))
    found: dict[Service, None] = {}
    problems: list[str] = []
    items = [item.strip() for item in text.split(",")]
    items = [item for item in items if item]
    if len(items) > MAX_SERVICES:
        problems.append(f"{len(items)} services, the first {MAX_SERVICES} count")
    for item in items[:MAX_SERVICES]:
        try:
            found[_service(item)] = None
        except ValueError as error:
            problems.append(f"service {shown(item)}: {error}")
    return Services(tuple(found), tuple(dict.fromkeys(service.label for service in found)), tuple(problems))


def _service(item: str) -> Service:
    label, *rest = (part.strip() for part in item.split(":"))
    if not _is_label(label.lower() if label.isascii() else ""):
        raise ValueError("expected a name of letters, digits and hyphens that begins with a letter")
    values: dict[str, int] = {}
    for position, part in enumerate(rest):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals and position == 0:
            key, value = "port", part
        if key not in _RANGES or key in values:
            raise ValueError(f"expected port=, priority= or weight=, each once, got {shown(part)}")
        number = int(value) if _is_number(value) else -1
        if number not in _RANGES[key]:
            raise ValueError(f"expected a {key} from {_RANGES[key][0]} to 65535, got {shown(value)}")
        values[key] = number
    return Service(label.lower(), **values)
