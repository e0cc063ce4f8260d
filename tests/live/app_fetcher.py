"""A fetcher as a process, containers with a network namespace and an application of their own, and asks about them."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from pymon.apps.protocol import AppError, Ask, line_of, read_answer
from tests.live.agent import REPOSITORY
from tests.live.world import Group, until

_BAD = re.compile(r"Traceback|internal error|level=error|Warning:")

SERVER = """
import http.server, os, sys
class Application(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = sys.argv[3].encode().decode("unicode_escape").encode() % {b"path": self.path.encode()}
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Application)
print("ready", flush=True)
server.serve_forever()
"""
"""An application at an address and a port, with the body that it answers."""

TALKER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(sys.argv[2].encode().decode("unicode_escape").encode("latin-1"))
    if sys.argv[3] == "close":
        connection.close()
    else:
        kept = globals().setdefault("kept", []) + [connection]
"""
"""An application that sends bytes to each connection, and then closes or keeps it."""


def inside(group: Group, *program: str) -> subprocess.Popen[bytes]:
    """Run a program in a group, in a network namespace of its own whose loopback is up, until it says that it is ready.

    The process is the program itself.
    """
    process = group.start(["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *program])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    return process


def served(group: Group, body: str = "a 1\\n", port: int = 9100, address: str = "127.0.0.1") -> subprocess.Popen[bytes]:
    """Run an application that answers well."""
    return inside(group, sys.executable, "-c", SERVER, address, str(port), body)


def talking(group: Group, data: str, port: int = 9100, *, keep: bool = False) -> subprocess.Popen[bytes]:
    """Run an application that sends these bytes, whatever it is asked."""
    return inside(group, sys.executable, "-c", TALKER, str(port), data, "keep" if keep else "close")


def namespace_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def ask_about(pid: int, group: Group, **fields: object) -> Ask:
    """An ask that is right, but for these fields."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    known = {
        "pid": pid, "start_ticks": int(stat.rpartition(")")[2].split()[19]), "cgroup": group.path,
        "namespace": namespace_of(pid), "port": 9100, "path": "/metrics", "seconds": 10.0, "max_bytes": 1 << 20,
    }  # fmt: skip
    return Ask(**(known | fields))  # type: ignore[arg-type]


class Fetcher:
    """`with Fetcher(folder) as fetcher:`; the end asserts that it stopped well and complained of nothing."""

    def __init__(self, folder: Path, prefix: tuple[str, ...] = ()) -> None:
        """prefix: a program that runs it, such as setpriv."""
        self.socket = folder / "app-fetcher.sock"
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pymon", "app-fetcher", f"--socket={self.socket}"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if "msg=listening" in line:
                return self
        raise AssertionError(self.log)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        try:
            _, rest = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self.log += rest.splitlines()
        if kind is None:
            assert self.process.returncode == 0, self.log
            assert not [line for line in self.log if _BAD.search(line)], self.log
            assert not self.socket.exists()

    def connect(self, ask: Ask) -> socket.socket:
        """Send an ask, and return the connection."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(60)
        connection.connect(str(self.socket))
        connection.sendall(line_of(ask))
        return connection

    def fetch(self, ask: Ask) -> bytes:
        """Return the body. Raises AppError."""
        with self.connect(ask) as connection, connection.makefile("rb") as file:
            return file.read(read_answer(file.readline(), ask.max_bytes))

    def reason(self, ask: Ask) -> str:
        """Return the reason of a fetch that must fail, and its text."""
        try:
            body = self.fetch(ask)
        except AppError as error:
            return f"{error.reason}: {error}"
        raise AssertionError(body)

    def children(self) -> list[int]:
        """Return the processes that it has forked and that still run."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in pids]

    def child(self) -> int:
        """Return the process that fetches, as soon as it has given up everything."""
        return int(until("a child without privileges", lambda: next(filter(_is_bare, self.children()), 0)))


def _is_bare(pid: int) -> bool:
    try:
        return "Seccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
