"""A message bus of its own, by dbus-daemon(1), and a service on it that answers as systemd does."""

from __future__ import annotations

import select
import subprocess
import threading
from collections import Counter
from pathlib import Path

from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, new_error, new_method_call, new_method_return
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.systemd1"
MANAGER = "/org/freedesktop/systemd1"
_CONFIGURATION = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/> <allow receive_sender="*"/> <allow own="*"/>
  </policy>
</busconfig>
"""


class MessageBus:
    """dbus-daemon at the place below a root where a node has its system bus."""

    def __init__(self, root: Path) -> None:
        self.socket = root / "run/dbus/system_bus_socket"
        self.socket.parent.mkdir(parents=True)
        configuration = root / "bus.conf"
        configuration.write_text(_CONFIGURATION.format(socket=self.socket))
        self._daemon = subprocess.Popen(
            ["dbus-daemon", f"--config-file={configuration}", "--nofork", "--print-address"], stdout=subprocess.PIPE
        )
        assert self._daemon.stdout
        assert self._daemon.stdout.readline(), "it listens when it has told its address"

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.communicate(timeout=60)


class Systemd:
    """What has the name of systemd on a bus. Used by one test at a time; its thread ends with `close`.

    units: what ListUnits answers. properties: by path, interface without its beginning, and name: a signature and a
    value, or the name of an error. silent: methods that get no answer. calls: how often each was called.
    """

    def __init__(self, socket: Path) -> None:
        self.units: list[tuple[object, ...]] = []
        self.units_signature = "a(ssssssouso)"
        self.properties: dict[tuple[str, str, str], tuple[str, object] | str] = {}
        self.silent: set[str] = set()
        self.calls: Counter[str] = Counter()
        self._bus: DBusConnection = open_dbus_connection(f"unix:path={socket}")
        bus = DBusAddress("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus")
        taken = self._bus.send_and_get_reply(new_method_call(bus, "RequestName", "su", (NAME, 0)), timeout=60)
        assert taken.body == (1,)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def unit(self, name: str, state: str, loaded: str = "loaded", **properties: tuple[str, object] | str) -> str:
        """Add a unit. properties: as ``Service_Type=("s", "notify")``. Return its path."""
        path = f"{MANAGER}/unit/{name.encode().hex()}"
        self.units.append((name, f"the unit {name}()", loaded, state, "sub", "", path, 0, "", "/"))
        for place, value in properties.items():
            interface, _, member = place.partition("_")
            self.properties[path, interface, member] = value
        return path

    def close(self) -> None:
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

    def _answer(self, message) -> None:
        header = message.header
        if header.message_type is not MessageType.method_call:
            return
        assert header.flags & MessageFlag.no_auto_start
        member = header.fields[HeaderFields.member]
        if member == "Get":
            interface, name = message.body
            member = name
            place = (header.fields[HeaderFields.path], interface.removeprefix(f"{NAME}."), name)
            value = self.properties.get(place, "org.freedesktop.DBus.Error.UnknownProperty")
            if isinstance(value, str):
                reply = new_error(message, value, "s", ("no",))
            else:
                reply = new_method_return(message, "v", (value,))
        else:
            assert member == "ListUnits"
            reply = new_method_return(message, self.units_signature, (self.units,))
        self.calls[member] += 1
        if member not in self.silent:
            self._bus.send(reply)
