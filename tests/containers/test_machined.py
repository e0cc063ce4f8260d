"""What systemd-machined says of machines over a message bus, by dbus-daemon(1), and what is refused."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pymon.agent import descriptions, engine_events
from pymon.agent.descriptions import Descriptions
from pymon.containers import engine, machined
from pymon.containers.engine import connect
from pymon.containers.files import UnreadableError
from pymon.containers.machined import Bus
from pymon.containers.model import Details, Match
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes
from tests.containers.machined_double import MachinedDouble, machined_double

pytestmark = pytest.mark.skipif(shutil.which("dbus-daemon") is None, reason="needs dbus-daemon")

NSPAWN = "/machine.slice/systemd-nspawn@trixie.service"
LIBVIRT = r"/machine.slice/machine-qemu\x2d3\x2dweb.scope"
PATIENCE_SECONDS = 40


@pytest.fixture
def node(tmp_path: Path) -> Iterator[MachinedDouble]:
    with machined_double(tmp_path) as double:
        yield double


def match(path: str) -> Match:
    found = recognise(path)
    assert found is not None
    return found


def describe(root: Path, path: str) -> Details:
    return Runtimes(root).describe(match(path))


def test_a_machine_is_described(node: MachinedDouble, tmp_path: Path) -> None:
    node.machine("trixie", "systemd-nspawn@trixie.service")
    details = describe(tmp_path, NSPAWN)
    assert (details.name, details.state, details.started_at) == ("trixie", "running", 1793000555.0)
    assert details.labels == {
        "org.freedesktop.machine1.class": "container",
        "org.freedesktop.machine1.service": "systemd-nspawn",
        "org.freedesktop.machine1.leader": "4711",
        "org.freedesktop.machine1.rootdirectory": "/var/lib/machines/trixie",
        "org.freedesktop.machine1.unit": "systemd-nspawn@trixie.service",
    }
    assert (details.reason, details.asked) == ("", True)
    assert node.asked == ["GetMachine", "GetAll"]


def test_a_domain_of_libvirt_is_called_as_libvirt_calls_it(node: MachinedDouble, tmp_path: Path) -> None:
    node.machine("qemu-3-web", r"machine-qemu\x2d3\x2dweb.scope", Class=("s", "vm"), Service=("s", "libvirt-qemu"))
    details = describe(tmp_path, LIBVIRT)
    assert (details.name, details.labels["org.freedesktop.machine1.class"]) == ("web", "vm")


def test_files_say_the_same_without_a_bus(tmp_path: Path) -> None:
    file = tmp_path / "run/systemd/machines/trixie"
    file.parent.mkdir(parents=True)
    file.write_text(
        "NAME=trixie\nSCOPE=systemd-nspawn@trixie.service\nSERVICE=systemd-nspawn\nROOT=/var/lib/machines/trixie\n"
        "CLASS=container\nLEADER=4711\nREALTIME=1793000555000000\n"
    )
    by_file = describe(tmp_path, NSPAWN)
    with machined_double(tmp_path) as node:
        node.machine("trixie", "systemd-nspawn@trixie.service")
        by_bus = describe(tmp_path, NSPAWN)
    assert (by_file.labels, by_file.started_at) == (by_bus.labels, by_bus.started_at)
    assert (by_file.asked, by_bus.asked) == (False, True)


@pytest.mark.parametrize(
    "properties",
    [
        {"Unit": ("s", "other.service")},
        {"Unit": ("u", 7)},
        {"Unit": ("as", [])},
    ],
)
def test_a_machine_of_that_name_in_another_unit_is_another(
    node: MachinedDouble, tmp_path: Path, properties: dict[str, tuple[str, Any]]
) -> None:
    node.machine("trixie", "systemd-nspawn@trixie.service", **properties)
    details = describe(tmp_path, NSPAWN)
    assert (details.labels, details.asked) == ({}, False)


@pytest.mark.parametrize(
    "properties",
    [
        {"Timestamp": ("s", "soon")},
        {"Timestamp": ("t", 0)},
        {"State": ("s", "opening")},
        {"State": ("ay", b"running")},
        {"Class": ("a{sv}", {}), "Leader": ("d", 1.5)},
        {"Service": ("s", "x" * 100_000)},
    ],
)
def test_properties_of_another_kind(
    node: MachinedDouble, tmp_path: Path, properties: dict[str, tuple[str, Any]]
) -> None:
    node.machine("trixie", "systemd-nspawn@trixie.service", **properties)
    details = describe(tmp_path, NSPAWN)
    assert details.labels["org.freedesktop.machine1.unit"] == "systemd-nspawn@trixie.service"
    assert all(len(value) < 1000 for value in details.labels.values())
    assert (details.started_at is None) == bool({"Timestamp", "State"} & properties.keys())


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GetMachine", ("", ())),
        ("GetMachine", ("u", (7,))),
        ("GetAll", ("s", ("no",))),
        ("GetAll", ("as", (["no"],))),
        ("GetAll", ("ay", (bytes(machined.MESSAGE_LIMIT + 1),))),
    ],
)
def test_answers_of_another_kind(
    node: MachinedDouble, tmp_path: Path, method: str, reply: tuple[str, tuple[Any, ...]]
) -> None:
    node.machine("trixie", "systemd-nspawn@trixie.service")
    node.replies[method] = reply
    details = describe(tmp_path, NSPAWN)
    assert (details.name, details.labels, details.asked) == ("trixie", {}, False)


@pytest.mark.parametrize("path", [r"/machine.slice/machine-a\x2fb.scope", "/system.slice/web.service/payload"])
def test_no_such_machine_is_asked_for(node: MachinedDouble, tmp_path: Path, path: str) -> None:
    assert not describe(tmp_path, path).asked
    assert node.asked == []


def test_one_that_is_silent(node: MachinedDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.3)
    node.silent = True
    runtimes = Runtimes(tmp_path)
    details = runtimes.describe(match(NSPAWN))
    assert details.reason
    asked = len(node.asked)
    runtimes.describe(match(NSPAWN))
    assert len(node.asked) == asked, "it is left alone for a while"


def bus_that_says(data: bytes, tmp_path: Path) -> Bus:
    """A bus of which nothing is true after it has let us in."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
    try:
        theirs.sendall(data)
        return Bus(ours, tmp_path)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        b"l\x02\x00\x01\xff\xff\xff\x7f\x01\x00\x00\x00\x00\x00\x00\x00" + bytes(100),
        b"l\x02\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\xff\xff\xff\x7f" + bytes(100),
        b"l\x02\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00" + b"\xff" * 8,
    ],
)
def test_bytes_that_are_no_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.3)
    with pytest.raises(UnreadableError):
        bus_that_says(data, tmp_path)


async def until(what: str, fact: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", [NSPAWN, LIBVIRT])
def test_signals_and_a_machined_that_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 1000.0)
    monkeypatch.setattr(descriptions, "AGAIN_SECONDS", ())
    monkeypatch.setattr(engine_events, "RETRY_SECONDS", (0.02, 0.02))
    monkeypatch.setattr(machined, "SILENCE_SECONDS", 0.05)
    name, unit = ("trixie", path) if path == NSPAWN else ("qemu-3-web", path)
    told: dict[str, Details] = {}

    async def main() -> None:
        followed = Descriptions(Runtimes(tmp_path))
        followed.start(asyncio.get_running_loop())
        followed.follow(match(path), partial(told.__setitem__, path))
        await until("described by its path", lambda: path in told)
        assert not told[path].asked
        with machined_double(tmp_path) as node:
            (origin,) = followed._origins.values()
            await until("listened to", lambda: origin.events is not None and origin.events.listening)
            node.machine(name, unit.rpartition("/")[2])
            node.tell(name)
            await until("described", lambda: told[path].state == "running")
            node.machine(name, unit.rpartition("/")[2], State=("s", "closing"))
            node.tell("another")
            node.tell(name, "MachineRemoved")
            await until("it ends", lambda: told[path].state == "stopping")
        followed.close()

    asyncio.run(main())


def test_one_connection_serves_all_questions(node: MachinedDouble, tmp_path: Path) -> None:
    path = tmp_path / "run/dbus/system_bus_socket"
    node.machine("trixie", "x")
    bus = Bus(connect(tmp_path, path, None), path)
    for _ in range(3):
        assert bus.alive()
        assert machined.machine(bus, path, "trixie")["Unit"] == "x"
    with pytest.raises(UnreadableError) as refused:
        machined.machine(bus, path, "none")
    assert refused.value.missing
    assert bus.alive()
    bus.close()
