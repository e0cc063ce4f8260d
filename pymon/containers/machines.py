"""Machines of systemd-machined: `machine-NAME.scope` and `systemd-nspawn@NAME.service`.

Those of libvirt are virtual machines, and containers of its own, called `qemu-NUMBER-NAME` and `lxc-NUMBER-NAME` there;
the number is another one after each start.
"""

from __future__ import annotations

import re

from .files import UnreadableError, read_bytes
from .model import Details, Form, Home, Match
from .systemd import unescape

NSPAWN = "nspawn"
LIBVIRT = "libvirt"

_LIBVIRT = re.compile(r"(?:qemu|lxc|xen|ch)-[0-9]+-(.+)", re.DOTALL)
_SCOPE = re.compile(r".*/(?:machine-(.+)\.scope|systemd-nspawn@(.+)\.service)", re.DOTALL)
_STARTED = re.compile(rb"^REALTIME=([0-9]{1,19})$", re.MULTILINE)


def match_scope(path: str, escaped: str) -> Match:
    """A machine's scope."""
    machine = unescape(escaped)
    domain = _LIBVIRT.fullmatch(machine)
    if domain:
        return Match(path, LIBVIRT, domain[1], domain[1])
    return Match(path, NSPAWN, machine, machine)


def match_service(path: str, escaped: str) -> Match:
    """An instance of systemd's template unit for nspawn containers."""
    machine = unescape(escaped)
    return Match(path, NSPAWN, machine, machine)


FORMS = (
    Form("machine_scope", r"machine-{}\.scope", "[^/]+", match_scope),
    Form("machine_service", r"systemd-nspawn@{}\.service", "[^/]+", match_service),
)


def describe(container: Match, home: Home) -> Details:
    """The start that systemd-machined wrote down; nothing else is known of a machine without asking it."""
    found = _SCOPE.fullmatch(container.path)
    machine = unescape(found[1] or found[2]) if found else ""
    # A machine's name is a host name: what is not (a "/" that was escaped) is no file of machined's.
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", machine) or home.home is not None:
        return Details(name=container.name)
    try:
        started = _STARTED.search(read_bytes(home.root / "run/systemd/machines" / machine))
    except UnreadableError as error:
        return Details(name=container.name, reason=str(error))
    return Details(name=container.name, started_at=int(started[1]) / 1e6 if started else None)
