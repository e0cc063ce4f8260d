"""Machines of systemd-machined: `machine-NAME.scope` and `systemd-nspawn@NAME.service`.

systemd-nspawn in another unit (`--keep-unit`) has the machine in `UNIT.service/payload` (cgroup version 2). Its name is
in the link `unit:UNIT.service` that systemd-machined makes; without one, the name of the unit is used.

libvirt registers its virtual machines and its containers there, as `qemu-NUMBER-NAME` and `lxc-NUMBER-NAME`. NUMBER
changes with each start.
"""

from __future__ import annotations

import re
from pathlib import Path

from pymon.containers.files import UnreadableError, read_bytes
from pymon.containers.model import Details, Form, Home, Match, Place, Runtime

from .systemd import unescape

NSPAWN = "nspawn"
LIBVIRT = "libvirt"

_TEMPLATE = "systemd-nspawn@"
_PAYLOAD = ".service/payload"

_LIBVIRT = re.compile(r"(?:qemu|lxc|xen|ch)-[0-9]+-(.+)", re.DOTALL)
_SCOPE = re.compile(r".*/(?:machine-(.+)\.scope|systemd-nspawn@(.+)\.service)", re.DOTALL)
_MACHINE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_STARTED = re.compile(rb"^REALTIME=([0-9]{1,19})$", re.MULTILINE)


def match_scope(path: str, escaped: str) -> Match:
    """Return the match of a machine's scope, with the runtime libvirt or nspawn."""
    machine = unescape(escaped)
    domain = _LIBVIRT.fullmatch(machine)
    if domain:
        return Match(path, LIBVIRT, domain[1], domain[1])
    return Match(path, NSPAWN, machine, machine)


def match_service(path: str, escaped: str) -> Match:
    """Return the match of an instance of systemd-nspawn@.service."""
    machine = unescape(escaped)
    return Match(path, NSPAWN, machine, machine)


def match_payload(path: str, unit: str) -> Match | None:
    """Return the match of a machine below a service, or None below an instance of systemd-nspawn@.service."""
    if unit.startswith(_TEMPLATE):
        return None
    return Match(path, NSPAWN, unit, unescape(unit.removesuffix(".service")))


FORMS = (
    Form("machine_scope", r"machine-{}\.scope", "[^/]+", match_scope),
    Form("machine_service", r"systemd-nspawn@{}\.service", "[^/]+", match_service),
    Form("machine_payload", "{}/payload", r"[^/]+\.service", match_payload),
)


def describe(container: Match, home: Home) -> Details:
    """Return the name, and the start that systemd-machined has recorded. Its files hold nothing else of use.

    Never raises: `reason` says what could not be read.
    """
    for path in files(container, home):
        name = path.name if container.path.endswith(_PAYLOAD) else container.name
        try:
            started = _STARTED.search(read_bytes(path))
        except UnreadableError as error:
            return Details(name=name, reason=str(error))
        return Details(name=name, started_at=int(started[1]) / 1e6 if started else None)
    return Details(name=container.name)


def files(container: Match, home: Home) -> tuple[Path, ...]:
    """Return the file that systemd-machined has about a machine; none below a user's slice."""
    machines = home.root / "run/systemd/machines"
    if container.path.endswith(_PAYLOAD):
        try:
            machine = (machines / f"unit:{container.runtime_id}").readlink().name
        except OSError:
            return ()
    else:
        found = _SCOPE.fullmatch(container.path)
        machine = unescape(found[1] or found[2]) if found else ""
    # systemd-machined names its files after machines, whose names are host names. Anything else, such as an escaped
    # "/", must not become part of a path.
    if not _MACHINE.fullmatch(machine) or home.home is not None:
        return ()
    return (machines / machine,)


def _places(home: Home) -> list[Place]:
    machines = home.root / "run/systemd/machines"
    return [Place(machines, machines, "*", "names (there are no labels)")]


RUNTIME = Runtime(NSPAWN, FORMS, describe, files, places=_places, names=(LIBVIRT,))
