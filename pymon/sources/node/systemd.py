"""Units of systemd, over D-Bus (org.freedesktop.systemd1(5)). Off by default: it asks for properties of many units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pymon._native.table import Table
from pymon.catalogue.model import USEC, Column, Kind, Metric, Sample, Unit, counter, gauge
from pymon.sources.errors import SourceError
from pymon.sources.node.source import INFO_FIELDS, Collector, NodeSource
from pymon.sources.node.unit_choice import DEFAULT_UNITS, UnitChoice

if TYPE_CHECKING:
    from pymon.sources.system_bus import Call, SystemBus

UNITS_MAX = 4096
"""The units that are measured. A node with more has them cut off, and a problem says so."""

UNIT_STATES = ("active", "activating", "deactivating", "inactive", "failed")
"""The states that node_exporter knows, each 1 or 0."""

UNIT_FIELDS = {
    "start_time": ("Unit", "ActiveEnterTimestamp"),
    "restarts": ("Service", "NRestarts"),
    "tasks_current": ("Service", "TasksCurrent"),
    "tasks_max": ("Service", "TasksMax"),
    "last_trigger": ("Timer", "LastTriggerUSec"),
    "accepted": ("Socket", "NAccepted"),
    "connections": ("Socket", "NConnections"),
    "refused": ("Socket", "NRefused"),
}
"""The interface and the property of a column: counts, and microseconds since 1970."""

_TYPED = {"service": "Service", "mount": "Mount"}
"""Kinds of units that have a type."""

_MANAGER = "/org/freedesktop/systemd1"
_NAME = "org.freedesktop.systemd1"
_NO_SYSTEMD = frozenset(f"org.freedesktop.DBus.Error.{name}" for name in ("NameHasNoOwner", "ServiceUnknown"))
_ABSENT = frozenset(
    (
        *(f"org.freedesktop.DBus.Error.Unknown{name}" for name in ("Interface", "Method", "Object", "Property")),
        "org.freedesktop.systemd1.NoSuchUnit",
    )
)
"""Errors of a unit that has gone, or of a property that this version of systemd does not have."""

_LOADED, _STATE, _PATH = 2, 3, 6
_TEXTS = (0, _STATE, _PATH)
"""Places in what ListUnits tells of a unit."""

_NOT_SET = 2**64 - 1
_VERSION = re.compile(r"([0-9]{3,9})(?:\.([0-9]{1,6}))?")
_VERSION_DECIMALS = 6


class _Unit(NamedTuple):
    name: str
    is_loaded: bool
    state: str
    path: str

    @property
    def kind(self) -> str:
        return self.name.rpartition(".")[2]


class Systemd(NodeSource):
    """Tables node_systemd of one row, node_systemd_version {version} in millionths, node_systemd_virtualization
    {virtualization_type}, node_systemd_units {state}, node_systemd_unit_state {name, type}, node_systemd_unit {name}.

    A connection to the bus is made for each collection.
    """

    name: ClassVar[str] = "systemd"

    def __init__(self, rootfs: Path, choice: UnitChoice = DEFAULT_UNITS) -> None:
        self._bus = rootfs / "run/dbus/system_bus_socket"
        self._choice = choice
        self._system = Table("node_systemd", ("running",))
        self._version = Table("node_systemd_version", ("version",))
        self._virtualization = Table("node_systemd_virtualization", INFO_FIELDS)
        self._summary = Table("node_systemd_units", ("units",))
        self._states = Table("node_systemd_unit_state", UNIT_STATES)
        self._units = Table("node_systemd_unit", tuple(UNIT_FIELDS))
        super().__init__((self._system, self._version, self._virtualization, self._summary, self._states, self._units))

    def _fill(self) -> None:
        # Imported late: most nodes do without, and it takes a noticeable time.
        from pymon.sources.system_bus import SystemBus  # noqa: PLC0415

        try:
            # What is not there after most of the time would come too late.
            with SystemBus(self._bus, self.seconds * 0.8) as bus:
                self._add_manager(bus)
                self._add_units(bus, self._listed(bus))
        except SourceError as error:
            self.problems.append(error)

    def _add_manager(self, bus: SystemBus) -> None:
        names = ("Version", "Virtualization", "SystemState")
        version, virtualization, state = self._properties(bus, [(_MANAGER, "Manager", name) for name in names])
        if isinstance(version, str) and (number := _VERSION.search(version)):
            value = int(number[1] + (number[2] or "").ljust(_VERSION_DECIMALS, "0"))
            self._version.fill(self._version.add_row((("version", version),)), (value,))
        if isinstance(virtualization, str):
            labels = (("virtualization_type", virtualization or "none"),)
            self._virtualization.fill(self._virtualization.add_row(labels), (1,))
        if isinstance(state, str):
            self._system.fill(self._system.add_row(), (int(state == "running"),))

    def _listed(self, bus: SystemBus) -> list[_Unit]:
        """Return the units to measure, and count all of them by state. Raises SourceError."""
        (answer,) = self._answers(bus, [(_MANAGER, f"{_NAME}.Manager", "ListUnits", ())])
        counts = Counter(dict.fromkeys(UNIT_STATES, 0))
        chosen = []
        for unit in _units_of(answer):
            if unit is None:
                self.problems.append(SourceError("parse", f"{self._bus}: expected a list of units from {_NAME}"))
                return []
            counts[unit.state] += 1
            if unit.is_loaded and self._choice.has(unit.name):
                chosen.append(unit)
        for state, count in counts.items():
            self._summary.fill(self._summary.add_row((("state", state),)), (count,))
        if len(chosen) > UNITS_MAX:
            self.problems.append(SourceError("toomany", f"{self._bus}: more than {UNITS_MAX} units"))
        return chosen[:UNITS_MAX]

    def _add_units(self, bus: SystemBus, units: list[_Unit]) -> None:
        """Add rows when all properties are known. Raises SourceError."""
        wanted = [(unit, column, place) for unit in units for column, place in self._wanted(unit)]
        values = self._properties(bus, [(unit.path, *place) for unit, _, place in wanted])
        of_units: dict[str, dict[str, Any]] = {unit.name: {} for unit in units}
        for (unit, column, _), value in zip(wanted, values, strict=True):
            of_units[unit.name][column] = value
        for unit in units:
            known = of_units[unit.name]
            if self._choice.start_times and unit.state != "active":
                known["start_time"] = 0
            kind = known.pop("type", None)
            labels = (("name", unit.name), ("type", kind if isinstance(kind, str) else ""))
            self._states.fill(self._states.add_row(labels), [int(unit.state == state) for state in UNIT_STATES])
            numbers = [_number(known.get(column)) for column in UNIT_FIELDS]
            if any(number is not None for number in numbers):
                self._units.fill(self._units.add_row(labels[:1]), numbers)

    def _wanted(self, unit: _Unit) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield columns of a unit, or `type`, each with its interface and property."""
        if unit.kind in _TYPED:
            yield "type", (_TYPED[unit.kind], "Type")
        columns: list[str] = []
        if self._choice.start_times and unit.state == "active":
            columns.append("start_time")
        if unit.kind == "service":
            columns += ["restarts"] * self._choice.restarts
            columns += ["tasks_current", "tasks_max"] * self._choice.tasks
        elif unit.kind == "timer":
            columns.append("last_trigger")
        elif unit.kind == "socket":
            columns += ["accepted", "connections", "refused"]
        yield from ((column, UNIT_FIELDS[column]) for column in columns)

    def _properties(self, bus: SystemBus, places: list[tuple[str, str, str]]) -> list[Any]:
        """Return the values of properties, given as path, interface and name. None where there is none."""
        calls = [
            (path, "org.freedesktop.DBus.Properties", "Get", (f"{_NAME}.{interface}", name))
            for path, interface, name in places
        ]
        # A value comes with its signature.
        answers = self._answers(bus, calls)
        return [answer[1] if isinstance(answer, tuple) and len(answer) > 1 else None for answer in answers]

    def _answers(self, bus: SystemBus, calls: Sequence[Call]) -> list[Any]:
        """Return the first value of each answer, None for what is absent. Each other error is a problem, once.

        Raises SourceError when systemd is not there.
        """
        answers = bus.call(_NAME, calls)
        for error in dict.fromkeys(answer.error for answer in answers):
            if error in _NO_SYSTEMD:
                raise SourceError("nodata", f"{self._bus}: no {_NAME} on this bus")
            if error and error not in _ABSENT:
                self.problems.append(SourceError("dbus", f"{self._bus}: {_NAME} says {error}"))
        return [answer.values[0] if answer.values else None for answer in answers]


def _units_of(listed: object) -> Iterator[_Unit | None]:
    """Yield the units of an answer of ListUnits, or None where there is something else."""
    if not isinstance(listed, list):
        yield None
        return
    for item in listed:
        if not isinstance(item, tuple) or len(item) < _PATH + 1 or not all(isinstance(item[at], str) for at in _TEXTS):
            yield None
            return
        yield _Unit(item[0], item[_LOADED] == "loaded", item[_STATE], item[_PATH])


def _number(value: object) -> int | None:
    """Return an integer of a property, None where it is absent or not set."""
    return value if type(value) is int and 0 <= value != _NOT_SET else None


def _unit(key: str, unit: Unit = Unit()) -> Column:  # noqa: B008 - it is frozen
    return Column("node_systemd_unit", key, unit)


METRICS = (
    counter(
        "node_systemd_service_restart_total", "Service unit count of Restart triggers", "systemd", _unit("restarts")
    ),
    counter(
        "node_systemd_socket_accepted_connections_total",
        "Total number of accepted socket connections",
        "systemd",
        _unit("accepted"),
    ),
    gauge(
        "node_systemd_socket_current_connections",
        "Current number of socket connections",
        "systemd",
        _unit("connections"),
    ),
    gauge(
        "node_systemd_socket_refused_connections_total",
        "Total number of refused socket connections",
        "systemd",
        _unit("refused"),
    ),
    gauge(
        "node_systemd_system_running",
        "Whether the system is operational (see 'systemctl is-system-running')",
        "systemd",
        Column("node_systemd", "running"),
    ),
    gauge(
        "node_systemd_timer_last_trigger_seconds",
        "Seconds since epoch of last trigger.",
        "systemd",
        _unit("last_trigger", USEC),
    ),
    gauge(
        "node_systemd_unit_start_time_seconds",
        "Start time of the unit since unix epoch in seconds.",
        "systemd",
        _unit("start_time", USEC),
    ),
    Metric(
        "node_systemd_unit_state",
        Kind.GAUGE,
        "Systemd unit",
        "systemd",
        tuple(Sample((Column("node_systemd_unit_state", state),), (("state", state),)) for state in UNIT_STATES),
    ),
    gauge(
        "node_systemd_unit_tasks_current",
        "Current number of tasks per Systemd unit",
        "systemd",
        _unit("tasks_current"),
    ),
    gauge("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit", "systemd", _unit("tasks_max")),
    gauge("node_systemd_units", "Summary of systemd unit states", "systemd", Column("node_systemd_units", "units")),
    gauge(
        "node_systemd_version",
        "Detected systemd version",
        "systemd",
        Column("node_systemd_version", "version", Unit(decimals=_VERSION_DECIMALS)),
    ),
    gauge(
        "node_systemd_virtualization_info",
        "Detected virtualization technology",
        "systemd",
        Column("node_systemd_virtualization", "info"),
    ),
)

COLLECTOR = Collector(
    Systemd.name,
    lambda node: Systemd(node.rootfs, node.units),
    METRICS,
    default=False,
    row_labels={
        "node_systemd_version": ("version",),
        "node_systemd_virtualization": ("virtualization_type",),
        "node_systemd_units": ("state",),
        "node_systemd_unit_state": ("name", "type"),
        "node_systemd_unit": ("name",),
    },
)
