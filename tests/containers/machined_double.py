"""What has the name of systemd-machined on a message bus of its own, and answers as it does."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jeepney import (
    DBusAddress,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    new_error,
    new_method_call,
    new_method_return,
    new_signal,
)
from jeepney.io.blocking import DBusConnection, open_dbus_connection

from tests.sources.node.message_bus import MessageBus

NAME = "org.freedesktop.machine1"
MANAGER = DBusAddress("/org/freedesktop/machine1", NAME, f"{NAME}.Manager")


class MachinedDouble:
    """Answers until `close`.

    machines: properties by name. replies: what is answered in place of what a method returns: signature and values.
    asked: the methods.
    """

    def __init__(self, path: Path) -> None:
        self.machines: dict[str, dict[str, tuple[str, Any]]] = {}
        self.replies: dict[str, tuple[str, tuple[Any, ...]]] = {}
        self.silent = False
        self.asked: list[str] = []
        self._bus: DBusConnection = open_dbus_connection(f"unix:path={path}")
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        taken = self._bus.send_and_get_reply(new_method_call(bus, "RequestName", "su", (NAME, 0)), timeout=60)
        assert taken.body == (1,)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def machine(self, name: str, unit: str, **properties: tuple[str, Any]) -> None:
        """Add a machine that runs."""
        self.machines[name] = {
            "Name": ("s", name),
            "Id": ("ay", b"\0" * 16),
            "Timestamp": ("t", 1_793_000_555_000_000),
            "Service": ("s", "systemd-nspawn"),
            "Unit": ("s", unit),
            "Leader": ("u", 4711),
            "Class": ("s", "container"),
            "RootDirectory": ("s", f"/var/lib/machines/{name}"),
            "State": ("s", "running"),
        } | properties

    def tell(self, name: str, signal: str = "MachineNew") -> None:
        """Send a signal about a machine."""
        self._bus.send(new_signal(MANAGER, signal, "so", (name, f"{MANAGER.object_path}/machine/x")))

    def close(self) -> None:
        """Leave the bus, and wait for at most 60 s until the thread has ended."""
        self._end.set()
        self._thread.join(60)
        self._bus.close()

    def _serve(self) -> None:
        while not self._end.is_set():
            if not select.select([self._bus.sock], [], [], 0.05)[0]:
                continue
            try:
                while True:
                    self._answer(self._bus.receive(timeout=0))
            except TimeoutError:
                pass
            except ConnectionError:
                return

    def _answer(self, message: Message) -> None:
        header = message.header
        if header.message_type is not MessageType.method_call:
            return
        assert header.flags & MessageFlag.no_auto_start
        member = header.fields[HeaderFields.member]
        self.asked.append(member)
        if member in self.replies:
            reply = new_method_return(message, *self.replies[member])
        elif member == "GetMachine":
            (name,) = message.body
            path = f"{MANAGER.object_path}/machine/{name.encode().hex()}"
            reply = new_method_return(message, "o", (path,))
            if name not in self.machines:
                reply = new_error(message, f"{NAME}.NoSuchMachine", "s", ("no",))
        else:
            assert (member, message.body) == ("GetAll", (f"{NAME}.Machine",))
            name = bytes.fromhex(header.fields[HeaderFields.path].rpartition("/")[2]).decode()
            reply = new_method_return(message, "a{sv}", (self.machines[name],))
        if not self.silent:
            self._bus.send(reply)


@contextlib.contextmanager
def machined_double(root: Path) -> Iterator[MachinedDouble]:
    """A bus at the place below a root where a node has its system bus, with machined on it."""
    bus = MessageBus(root)
    try:
        double = MachinedDouble(bus.socket)
        try:
            yield double
        finally:
            double.close()
    finally:
        bus.close()
