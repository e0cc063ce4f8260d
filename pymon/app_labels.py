"""Labels by which a container says where its application answers scrapes.

The labels are ``pymon.metrics.port`` (one port, or several separated by commas) and ``pymon.metrics.path``. Without the
first, ``prometheus.io/port`` and ``prometheus.io/path`` are read where ``prometheus.io/scrape`` is ``true``, as people
annotate pods. Does no I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT_LABEL, PATH_LABEL = "pymon.metrics.port", "pymon.metrics.path"
ANNOTATIONS = tuple(f"prometheus.io/{name}" for name in ("scrape", "scheme", "port", "path"))
"""The annotations of pods that are read where there is no `PORT_LABEL`."""

DEFAULT_PATH = "/metrics"
MAX_PORTS = 16

_SHOWN = 60
_is_number = re.compile(r"[0-9]{1,5}").fullmatch
_is_path = re.compile(r"/(?!/)[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1023}").fullmatch


class Declared(NamedTuple):
    """Where an application answers. ports: without duplicates, empty if it answers nowhere. problems: lines for the
    log about what is not as expected.
    """

    ports: tuple[int, ...] = ()
    path: str = ""
    problems: tuple[str, ...] = ()


def is_port(port: int) -> bool:
    """Return whether this is a TCP port."""
    return 0 < port < 65536  # noqa: PLR2004


def is_path(path: str) -> bool:
    """Return whether this is the path of a URL (RFC 3986 §3.3) without a query, of at most 1024 characters."""
    return _is_path(path) is not None


def declared(labels: Mapping[str, str]) -> Declared:
    """Return what the labels of a container say. Labels that are not as expected declare nothing."""
    scrape, scheme, port, path = ANNOTATIONS
    if PORT_LABEL in labels:
        names = PORT_LABEL, PATH_LABEL
    elif labels.get(scrape) == "true" and port in labels:
        if labels.get(scheme, "http") != "http":
            return Declared(problems=(f"label {scheme}: {_shown(labels[scheme])}, expected http",))
        names = port, path
    else:
        return Declared()
    return _read(labels[names[0]], labels.get(names[1], "") or DEFAULT_PATH, *names)


def _read(ports: str, path: str, port_label: str, path_label: str) -> Declared:
    words = [word.strip() for word in ports.split(",", MAX_PORTS)]
    if len(words) > MAX_PORTS or not all(_is_number(word) and is_port(int(word)) for word in words):
        expected = f"expected at most {MAX_PORTS} ports from 1 to 65535, separated by commas"
        return Declared(problems=(f"label {port_label}: {_shown(ports)}, {expected}",))
    if not is_path(path):
        return Declared(problems=(f"label {path_label}: {_shown(path)}, expected a path such as {DEFAULT_PATH}",))
    return Declared(tuple(dict.fromkeys(map(int, words))), path)


def _shown(text: str) -> str:
    return ascii(text[:_SHOWN])
