"""LXC, LXD and Incus: `lxc.payload.NAME`, `lxc.payload/NAME`, `/lxc/NAME`; `lxc.monitor.NAME` is the monitor.

LXD and Incus name a container of another project than the default one PROJECT_NAME; neither part may contain a `_`.
LXC's own names may, which its configuration directory decides. When a cgroup of the name is left over from before, LXC
appends `-1`, `-2`, ….
"""

from __future__ import annotations

import re

from .files import UnreadableError, read_bytes, text
from .model import Details, Form, Home, Match

RUNTIME = "lxc"

_PROJECT = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]*)_([A-Za-z][A-Za-z0-9-]*)")
_AGAIN = re.compile(r"(.+)-[0-9]{1,3}")
_HOST_NAME = re.compile(rb"^[ \t]*lxc\.(?:uts\.name|utsname)[ \t]*=[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


def match(path: str, name: str) -> Match:
    """An LXC, LXD or Incus container by its name."""
    project = _PROJECT.fullmatch(name)
    if project:
        return Match(path, RUNTIME, name, project[2], namespace=project[1])
    return Match(path, RUNTIME, name, name)


def match_at_root(path: str, name: str) -> Match | None:
    """`/lxc/NAME`, which stands at the root of the hierarchy only."""
    return match(path, name) if path == f"/lxc/{name}" else None


FORMS = (
    Form("lxc_payload", r"lxc\.payload[./]{}", "[^/]+", match),
    Form("lxc_root", "lxc/{}", "[^/]+", match_at_root),
)


def describe(container: Match, home: Home) -> Details:
    """The host name of LXC's configuration. LXD and Incus keep theirs in a database that is not read."""
    directory = home.root / "var/lib/lxc" if home.home is None else home.home / ".local/share/lxc"
    names = [container.runtime_id]
    if again := _AGAIN.fullmatch(container.runtime_id):
        names.append(again[1])
    for name in names:
        if name in (".", ".."):
            continue
        try:
            found = _HOST_NAME.search(read_bytes(directory / name / "config", home.uid))
        except UnreadableError as error:
            if not error.missing:
                raise
            continue
        return Details(name=text(found[1].decode("utf-8", "replace")) if found and found[1] else name)
    reason = f"{directory / container.runtime_id / 'config'}: not there; those of LXD and Incus are not read"
    return Details(name=container.name, namespace=container.namespace, reason=reason)
