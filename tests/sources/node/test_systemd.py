"""The collector systemd, over a real message bus, and over sockets of what is none."""

import re
import shutil
import socket
import threading
import time

import pytest

from pymon.sources import system_bus
from pymon.sources.errors import SourceError
from pymon.sources.node import systemd
from pymon.sources.node.systemd import Systemd
from pymon.sources.node.unit_choice import UnitChoice
from tests.agent.fixture_host import copy_host
from tests.sources.node.message_bus import MANAGER, MessageBus
from tests.sources.node.message_bus import Systemd as Service
from tests.sources.node.rows import by_label, collected, rows

HAS_BUS = pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="needs dbus-daemon")
EVERYTHING = UnitChoice(start_times=True, restarts=True, tasks=True)
STARTED = 1_700_000_000_123_456


@pytest.fixture
def bus(tmp_path):
    daemon = MessageBus(tmp_path)
    yield daemon
    daemon.close()


@pytest.fixture
def service(bus):
    service = Service(bus.socket)
    for name, value in (("Version", "252.22-1~deb12u1"), ("Virtualization", "kvm"), ("SystemState", "running")):
        service.properties[MANAGER, "Manager", name] = ("s", value)
    yield service
    service.close()


def units(service):
    """Units as node_exporter tells them apart."""
    service.unit(
        "a.service",
        "active",
        Service_Type=("s", "notify"),
        Unit_ActiveEnterTimestamp=("t", STARTED),
        Service_NRestarts=("u", 3),
        Service_TasksCurrent=("t", 7),
        Service_TasksMax=("t", 2**64 - 1),
    )
    service.unit("failed.service", "failed", Service_Type=("s", "oneshot"), Service_NRestarts=("u", 0))
    service.unit("gone.service", "inactive", loaded="not-found")
    service.unit("x.socket", "active", Socket_NAccepted=("u", 10), Socket_NConnections=("u", 2))
    service.unit("y.timer", "reloading", Timer_LastTriggerUSec=("t", 5_000_001))
    service.unit("home.mount", "active", Mount_Type=("s", "ext4"))
    service.unit("z.target", "activating")


def source(tmp_path, choice=systemd.DEFAULT_UNITS):
    return Systemd(tmp_path, choice)


def failure(collector):
    with pytest.raises(SourceError) as caught:
        collector.collect()
    assert "\n" not in str(caught.value)
    return caught.value.reason


@HAS_BUS
def test_units(tmp_path, service):
    units(service)
    tables = collected(source(tmp_path, EVERYTHING))
    assert rows(tables["node_systemd"]) == [({}, {"running": 1})]
    assert rows(tables["node_systemd_version"]) == [({"version": "252.22-1~deb12u1"}, {"version": 252_220_000})]
    assert rows(tables["node_systemd_virtualization"]) == [({"virtualization_type": "kvm"}, {"info": 1})]
    states = {"active": 3, "activating": 1, "deactivating": 0, "inactive": 1, "failed": 1, "reloading": 1}
    assert {state: cells["units"] for state, cells in by_label(tables["node_systemd_units"], "state").items()} == states
    published = {
        (labels["name"], labels["type"]): [state for state, is_so in cells.items() if is_so]
        for labels, cells in rows(tables["node_systemd_unit_state"])
    }
    assert published == {
        ("a.service", "notify"): ["active"],
        ("failed.service", "oneshot"): ["failed"],
        ("x.socket", ""): ["active"],
        ("y.timer", ""): [],
        ("z.target", ""): ["activating"],
    }
    assert by_label(tables["node_systemd_unit"], "name") == {
        "a.service": {"start_time": STARTED, "restarts": 3, "tasks_current": 7},
        "failed.service": {"start_time": 0, "restarts": 0},
        "x.socket": {"accepted": 10, "connections": 2},
        "y.timer": {"start_time": 0, "last_trigger": 5_000_001},
        "z.target": {"start_time": 0},
    }


@HAS_BUS
def test_nothing_is_asked_that_is_not_wanted(tmp_path, service):
    units(service)
    collected(source(tmp_path))
    assert service.calls == {
        "Version": 1, "Virtualization": 1, "SystemState": 1, "ListUnits": 1, "Type": 2, "LastTriggerUSec": 1,
        "NAccepted": 1, "NConnections": 1, "NRefused": 1,
    }  # fmt: skip


@HAS_BUS
def test_patterns_match_whole_names(tmp_path, service):
    units(service)
    choice = UnitChoice(include=re.compile(r".\.\w+|home\.mount"), exclude=re.compile("y|z.*"))
    tables = collected(source(tmp_path, choice))
    assert set(by_label(tables["node_systemd_unit_state"], "name")) == {
        "a.service",
        "x.socket",
        "y.timer",
        "home.mount",
    }
    assert by_label(tables["node_systemd_units"], "state")["active"] == {"units": 3}, "all units are counted"


@HAS_BUS
def test_flags_and_series(tmp_path):
    host = copy_host("v2", tmp_path)
    bus = MessageBus(host.root)
    service = Service(bus.socket)
    try:
        service.properties[MANAGER, "Manager", "Version"] = ("s", "256.4")
        service.properties[MANAGER, "Manager", "Virtualization"] = ("s", "")
        service.properties[MANAGER, "Manager", "SystemState"] = ("s", "degraded")
        units(service)
        prefix = "--collector.systemd"
        found = host.collect(
            "--collector.disable-defaults", prefix, f"{prefix}.unit-include=.*\\.service", f"{prefix}.unit-exclude=f.*",
            f"{prefix}.enable-restarts-metrics", f"{prefix}.enable-start-time-metrics", f"{prefix}.enable-task-metrics",
        )  # fmt: skip
    finally:
        service.close()
        bus.close()

    def value(family, **labels):
        return float(found.pop((family, frozenset(labels.items()))))

    assert value("node_systemd_version", version="256.4") == 256.4
    assert value("node_systemd_virtualization_info", virtualization_type="none") == 1
    assert value("node_systemd_system_running") == 0
    assert value("node_systemd_unit_start_time_seconds", name="a.service") == STARTED / 1e6
    assert value("node_systemd_service_restart_total", name="a.service") == 3
    assert value("node_systemd_unit_tasks_current", name="a.service") == 7
    assert value("node_systemd_units", state="failed") == 1
    for state in systemd.UNIT_STATES:
        assert value("node_systemd_unit_state", name="a.service", type="notify", state=state) == (state == "active")
    left = {name for name, _ in found if name.startswith("node_systemd_")}
    assert left == {"node_systemd_units"}


@HAS_BUS
def test_many_units(tmp_path, service, monkeypatch):
    """More calls than wait for an answer at a time, each answered once; and more units than are taken."""
    for number in range(500):
        service.unit(f"u{number}.service", "active", Service_Type=("s", f"type{number}"))
    collector = source(tmp_path)
    tables = collected(collector)
    types = {labels["name"]: labels["type"] for labels, _ in rows(tables["node_systemd_unit_state"])}
    assert types == {f"u{number}.service": f"type{number}" for number in range(500)}
    assert collector.is_whole()
    monkeypatch.setattr(systemd, "UNITS_MAX", 100)
    assert len(collected(collector)["node_systemd_unit_state"]) == 100
    assert [problem.reason for problem in collector.problems] == ["toomany"]
    assert not collector.is_whole()


@HAS_BUS
@pytest.mark.parametrize(
    ("error", "problems"),
    [
        ("org.freedesktop.systemd1.NoSuchUnit", []),
        ("org.freedesktop.DBus.Error.UnknownObject", []),
        ("org.freedesktop.DBus.Error.AccessDenied", ["dbus"]),
    ],
)
def test_errors_of_properties(tmp_path, service, error, problems):
    """A unit that goes while it is asked for is no failure."""
    service.unit("a.timer", "active", Timer_LastTriggerUSec=error)
    service.unit("b.timer", "active", Timer_LastTriggerUSec=error)
    service.unit("c.timer", "active", Timer_LastTriggerUSec=("t", 1))
    collector = source(tmp_path)
    tables = collected(collector)
    assert [problem.reason for problem in collector.problems] == problems
    assert by_label(tables["node_systemd_unit"], "name") == {"c.timer": {"last_trigger": 1}}
    assert set(by_label(tables["node_systemd_unit_state"], "name")) == {"a.timer", "b.timer", "c.timer"}


@HAS_BUS
@pytest.mark.parametrize(
    ("signature", "listed"),
    [("s", "units"), ("a(ss)", [("a.service", "b")]), ("a(uuuuuuu)", [(1, 2, 3, 4, 5, 6, 7)]), ("as", ["a.service"])],
)
def test_a_list_that_is_none(tmp_path, service, signature, listed):
    service.units_signature, service.units = signature, listed
    collector = source(tmp_path)
    tables = collected(collector)
    assert [problem.reason for problem in collector.problems] == ["parse"]
    assert len(tables["node_systemd_version"]) == 1
    assert len(tables["node_systemd_units"]) == 0


@HAS_BUS
def test_values_of_other_types_are_absent(tmp_path, service):
    service.properties[MANAGER, "Manager", "Version"] = ("u", 252)
    service.properties[MANAGER, "Manager", "SystemState"] = ("as", ["running"])
    service.unit("a.service", "active", Service_Type=("u", 1), Service_NRestarts=("s", "3"))
    tables = collected(source(tmp_path, UnitChoice(restarts=True)))
    assert len(tables["node_systemd_version"]) == len(tables["node_systemd"]) == len(tables["node_systemd_unit"]) == 0
    assert [labels for labels, _ in rows(tables["node_systemd_unit_state"])] == [{"name": "a.service", "type": ""}]


@HAS_BUS
@pytest.mark.parametrize("silent", ["ListUnits", "LastTriggerUSec"])
def test_a_service_that_does_not_answer(tmp_path, service, silent):
    units(service)
    service.silent.add(silent)
    collector = source(tmp_path)
    collector.seconds = 3.0
    began = time.monotonic()
    tables = collected(collector)
    assert time.monotonic() - began < 60
    assert [problem.reason for problem in collector.problems] == ["timeout"]
    assert len(tables["node_systemd_version"]) == 1, "what was told before"
    assert len(tables["node_systemd_unit_state"]) == 0, "no unit with half of its numbers"


@HAS_BUS
def test_no_systemd_on_the_bus(tmp_path, bus):
    assert failure(source(tmp_path)) == "nodata"


@HAS_BUS
def test_answers_that_are_too_long(tmp_path, service, monkeypatch):
    monkeypatch.setattr(system_bus, "RECEIVED_MAX", 100_000)
    units(service)
    service.units[0] = ("a.service", "x" * 100_000, *service.units[0][2:])
    collector = source(tmp_path)
    collector.collect()
    assert [problem.reason for problem in collector.problems] == ["toomany"]


def test_no_bus(tmp_path):
    assert failure(source(tmp_path)) == "enoent"


def test_a_path_longer_than_an_address(tmp_path):
    assert failure(source(tmp_path / ("d" * 120))) == "enametoolong"


HELLO = bytes.fromhex("6c02010100000000010000000800000005017500") + bytes((1, 0, 0, 0))
TALKS = {
    "nothing": ([], "econnreset"),
    "no authentication": ([b"REJECTED EXTERNAL\r\n"], "eacces"),
    "an endless line": ([b"x" * 10_000], "eacces"),
    "not text": ([b"\xff\x00\r\n"], "eacces"),
    "not D-Bus": ([b"OK 1234\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"], "parse"),
    "an end in between": ([b"OK 1234\r\n", HELLO[:20]], "econnreset"),
    "a length of 4 GiB": ([b"OK 1234\r\n", b"l\x02\x01\x01" + b"\xff" * 12], "toomany"),
    "an answer without end": ([b"OK 1234\r\n", b"l\x02\x01\x01" + b"\xff" * 3 + b"\x00" * 9], "toomany"),
    "nonsense in fields": ([b"OK 1234\r\n", b"l\x02\x01\x01\x04\0\0\0\x01\0\0\0\x08\0\0\0" + b"\xfe" * 64], "parse"),
}


@pytest.mark.parametrize("talk", TALKS)
def test_what_is_no_bus(tmp_path, talk):
    said, reason = TALKS[talk]
    path = tmp_path / "run/dbus/system_bus_socket"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve():
            peer, _ = listener.accept()
            with peer:
                for data in said:
                    peer.recv(4096)
                    peer.sendall(data)
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        assert failure(source(tmp_path)) == reason
        thread.join(60)


def test_a_socket_that_nobody_answers(tmp_path):
    path = tmp_path / "run/dbus/system_bus_socket"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        collector = source(tmp_path)
        collector.seconds = 0.5
        assert failure(collector) == "timeout"
    assert failure(source(tmp_path)) == "econnrefused"
