"""systemd's services. Other units (slices, scopes, mounts, sockets) are not containers.

Containers may be inside a service: a user's manager (`user@1000.service`) has the user's own services and rootless
containers in it, a service with `Delegate=` whatever it likes.
"""

from __future__ import annotations

import re

from .model import Form, Match

RUNTIME = "systemd"

_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")


def unescape(name: str) -> str:
    r"""A unit name without systemd's escapes: `dev\x2dsda` is dev-sda. Bytes that are not UTF-8 become U+FFFD."""
    if "\\" not in name:
        return name
    return _ESCAPES.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "replace"), name)


def match(path: str, unit: str) -> Match:
    """A service. systemd puts a `_` before names that the kernel's files could have."""
    unit = unit.removeprefix("_")
    return Match(path, RUNTIME, unit, unescape(unit), descend=True)


FORMS = (Form("service", "{}", r"[^/]+\.service", match),)
