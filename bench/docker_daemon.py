"""A daemon with Docker's API over a Unix socket, and control groups that come and go as its containers do.

`SOCKET COUNT RATE LIFE GROUP ...`: COUNT containers run, RATE more are started a second and end after LIFE seconds.
Each has a directory in every GROUP. Says a line when COUNT run; ends, and removes them, at the end of its standard
input.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

DOCUMENT = {
    "Created": "2026-11-02T10:00:00.123456789Z",
    "Path": "/docker-entrypoint.sh",
    "Args": ["nginx", "-g", "daemon off;"],
    "Image": "sha256:" + "5c" * 32,
    "ResolvConfPath": "/var/lib/docker/containers/x/resolv.conf",
    "RestartCount": 0,
    "Driver": "overlay2",
    "HostConfig": dict.fromkeys(map("Field{}".format, range(60)), (7, None, "value", False)),
    "GraphDriver": {"Data": dict.fromkeys(("L", "M", "U"), "/var/lib/docker/overlay2/" + "ab" * 120)},
    "Mounts": [],
    "Config": {
        "Image": "registry.example/shop/web:8",
        "Env": [f"VARIABLE_{number}=some value of it" for number in range(20)],
        "Labels": dict.fromkeys(map("com.example.label-{}".format, range(10)), "value"),
    },
    "NetworkSettings": {"Ports": {"80/tcp": None}, "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}},
}
"""Some 6 KB, as `docker inspect` answers of a small container."""


class Daemon:
    """Containers by id, with what is answered of them."""

    def __init__(self, tops: list[Path]) -> None:
        self.tops = tops
        self.answers: dict[str, bytes] = {}
        self.streams: list[socket.socket] = []
        self.asked = 0

    def start(self, number: int) -> str:
        """Start a container. Return its id."""
        identifier = hashlib.sha256(b"%d" % number).hexdigest()
        self._answer(identifier, Running=True, StartedAt=_now())
        for top in self.tops:
            (top / f"docker-{identifier}.scope").mkdir()
        self._tell_start(identifier)
        return identifier

    def end(self, identifier: str) -> None:
        """Answer from now on that a container has ended, and remove its control groups."""
        self._answer(identifier, Running=False, StartedAt=_now(), FinishedAt=_now(), ExitCode=3)
        for top in self.tops:
            (top / f"docker-{identifier}.scope").rmdir()

    def _answer(self, identifier: str, **state: object) -> None:
        document = DOCUMENT | {"Id": identifier, "Name": f"/name-{identifier[:12]}", "State": state}
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.answers[identifier] = head.encode() + body

    def _tell_start(self, identifier: str) -> None:
        actor = {"ID": identifier, "Attributes": DOCUMENT["Config"]["Labels"]}  # type: ignore[index]
        event = {"status": "start", "id": identifier, "Type": "container", "Action": "start", "Actor": actor}
        line = json.dumps(event | {"timeNano": time.time_ns()}).encode() + b"\n"
        for stream in self.streams:
            with contextlib.suppress(OSError):
                stream.sendall(b"%x\r\n%s\r\n" % (len(line), line))

    def serve(self, path: str) -> None:
        """Answer on a socket, for ever."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        while True:
            threading.Thread(target=self._serve, args=(listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(65536):
                data += part
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    target = head.split(b" ")[1]
                    if target.startswith(b"/events"):
                        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                        self.streams.append(connection)
                        return
                    self.asked += 1
                    none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n{}\n"
                    connection.sendall(self.answers.get(target.split(b"/")[2].decode(), none))
                    if b" HTTP/1.0" in head:
                        connection.close()
                        return


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def main(path: str, count: str, rate: str, life: str, *groups: str) -> None:
    """Run until the end of the standard input."""
    tops = [Path(group) for group in groups]
    for top in tops:
        top.mkdir()
    Path(path).parent.mkdir(parents=True)
    daemon = Daemon(tops)
    threading.Thread(target=daemon.serve, args=(path,), daemon=True).start()
    there = [daemon.start(number) for number in range(int(count))]
    print("ready", flush=True)
    young: deque[str] = deque()
    begin, made = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], max(0.0, begin + made / int(rate) - time.monotonic()))[0]:
        young.append(daemon.start(int(count) + made))
        made += 1
        if len(young) > float(life) * int(rate):
            daemon.end(young.popleft())
    for identifier in (*young, *there):
        daemon.end(identifier)
    for top in tops:
        top.rmdir()
    print(f"asked {daemon.asked} times, {made} started", file=sys.stderr)


main(*sys.argv[1:])
