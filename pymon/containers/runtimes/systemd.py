"""systemd services. Other units (slices, scopes, mounts, sockets) are not containers.

A service can contain containers: a user's manager (`user@1000.service`) contains the user's services and rootless
containers, and a service with `Delegate=` may create any cgroups.
"""

from __future__ import annotations

import re

from pymon.containers.model import Form, Home, Match, Place, Runtime

NAME = "systemd"

_ESCAPES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+")


def unescape(name: str) -> str:
    r"""Return a unit name without systemd's escapes: dev-sda for `dev\x2dsda`. Invalid UTF-8 becomes U+FFFD."""
    if "\\" not in name:
        return name
    return _ESCAPES.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "replace"), name)


def match(path: str, unit: str) -> Match:
    """Return the match of a service. systemd prefixes `_` to unit names that could clash with the kernel's files."""
    unit = unit.removeprefix("_")
    return Match(path, NAME, unit, unescape(unit), descend=True)


FORMS = (Form("service", "{}", r"[^/]+\.service", match, last=True),)


def _places(home: Home) -> list[Place]:
    units = home.root / "run/systemd/system"
    return [Place(units, units, ".", "names (there are no labels)")]


RUNTIME = Runtime(NAME, FORMS, places=_places)
