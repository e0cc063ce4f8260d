"""Machines of systemd-machined: `machine-NAME.scope` and `systemd-nspawn@NAME.service`.

systemd-nspawn in another unit (`--keep-unit`) has the machine in `UNIT.service/payload` (cgroup version 2). Its name is
in the link `unit:UNIT.service` that systemd-machined makes; without one, the name of the unit is used.

libvirt registers its virtual machines and its containers there, as `qemu-NUMBER-NAME` and `lxc-NUMBER-NAME`. NUMBER
changes with each start.

systemd-machined has a file about each machine. Over D-Bus it says the same, whether a machine still starts, and when
one comes. Whoever registers a machine chooses its class and service; only root may.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pymon.containers import machined
from pymon.containers.engine import Event
from pymon.containers.files import UnreadableError, read_bytes, text
from pymon.containers.machined import Bus
from pymon.containers.model import Daemon, Details, Form, Home, Match, Place, Runtime

from .systemd import unescape

NSPAWN = "nspawn"
LIBVIRT = "libvirt"

_TEMPLATE = "systemd-nspawn@"
_PAYLOAD = ".service/payload"

_LIBVIRT = re.compile(r"(?:qemu|lxc|xen|ch)-[0-9]+-(.+)", re.DOTALL)
_SCOPE = re.compile(r".*/(?:machine-(.+)\.scope|systemd-nspawn@(.+)\.service)", re.DOTALL)
_MACHINE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rb"^([A-Z_]+)=(.*)$", re.MULTILINE)
_USEC_DIGITS = 19
_LABELS = {"Class": "CLASS", "Service": "SERVICE", "Leader": "LEADER", "RootDirectory": "ROOT"}
"""Properties of a machine in D-Bus, and their names in its file."""
_UNITS = ("SCOPE", "UNIT")
_LABEL = "org.freedesktop.machine1."
_STATES = {"running": "running", "closing": "stopping"}


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
    """Return the name, the start and the labels that systemd-machined has recorded.

    Never raises: `reason` says what could not be read.
    """
    for path in files(container, home):
        name = path.name if container.path.endswith(_PAYLOAD) else container.name
        try:
            data = read_bytes(path)
        except UnreadableError as error:
            return Details(name=name, reason=str(error))
        lines = {key.decode(): value.decode("utf-8", "replace") for key, value in _LINE.findall(data)}
        said = {key: lines.get(line, "") for key, line in _LABELS.items()}
        said["Unit"] = next(filter(None, map(lines.get, _UNITS)), "")
        return Details(name=name, started_at=_seconds(lines.get("REALTIME", "")), labels=_labels(said))
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
        machine = _machine(container)
    # systemd-machined names its files after machines, whose names are host names. Anything else, such as an escaped
    # "/", must not become part of a path.
    if not _MACHINE.fullmatch(machine) or home.home is not None:
        return ()
    return (machines / machine,)


def ask(path: Path, container: Match, bus: Bus) -> Details:
    """Return what systemd-machined says of a machine. Raises UnreadableError."""
    name = _machine(container)
    if not _MACHINE.fullmatch(name):
        raise UnreadableError(path, "has no machine of such a name", missing=True)
    said = machined.machine(bus, path, name)
    if said.get("Unit") != container.path.rpartition("/")[2].removeprefix("_"):
        raise UnreadableError(path, f"has the machine {name} in another unit", missing=True)
    state = _STATES.get(text(said.get("State")), "")
    texts = {key: value if isinstance(value, str) else str(value or "") for key, value in said.items()}
    return Details(
        name=container.name,
        started_at=_seconds(texts.get("Timestamp", "")) if state else None,
        state=state,
        labels=_labels({key: texts.get(key, "") for key in (*_LABELS, "Unit")}),
        reason="it still starts" if said.get("State") == "opening" else "",
    )


def add(details: Details, said: Details) -> Details:
    """Return what systemd-machined says, with what only the file of a machine says."""
    return replace(said, name=details.name, started_at=said.started_at or details.started_at, asked=True)


def events(connection: socket.socket, path: Path) -> Iterator[Event]:
    """Yield what `machined.events` does, with the names of domains in place of those of libvirt's machines."""
    for event in machined.events(connection, path):
        domain = _LIBVIRT.fullmatch(event) if isinstance(event, str) else None
        yield domain[1] if domain else event


def sockets(home: Home) -> tuple[Path, ...]:
    """Return the socket of the system's bus. Users have no machines on it."""
    return () if home.home is not None else (home.root / "run/dbus/system_bus_socket",)


def _machine(container: Match) -> str:
    """Return the name of a machine that has a unit of its own, "" of another. It can be any text."""
    found = _SCOPE.fullmatch(container.path)
    return unescape(found[1] or found[2]) if found else ""


def _labels(said: Mapping[str, str]) -> dict[str, str]:
    return {f"{_LABEL}{key.lower()}": value for key, value in said.items() if value}


def _seconds(digits: str) -> float | None:
    """Return seconds since the epoch, of microseconds in decimal; None without a time."""
    whole = digits.isdecimal() and digits.isascii() and len(digits) <= _USEC_DIGITS
    return int(digits) / 1e6 if whole and int(digits) else None


def _places(home: Home) -> list[Place]:
    machines = home.root / "run/systemd/machines"
    return [Place(machines, machines, "*", "names, and class, service and leader for labels")]


DAEMON = Daemon(sockets, Bus, ask, add, events, always=True)
RUNTIME = Runtime(NSPAWN, FORMS, describe, files, DAEMON, _places, names=(LIBVIRT,))
