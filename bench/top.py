"""The CPU time that `pymon top` takes at a terminal of 80x24, beside a server whose numbers all change."""

from __future__ import annotations

import contextlib
import fcntl
import http.server
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator

from pymon.summary_document import COLUMNS, NUMBER_COLUMNS

COLUMNS_OF_TERMINAL, LINES = 80, 24
SECONDS = 60.0
SETTLE_SECONDS = 8.0


def document(containers: int) -> bytes:
    """A summary of now, in which every number of every container has grown."""
    now = time.time()
    rows = []
    for number in range(containers):
        items: dict[str, object] = {"uuid": f"{number:032x}", "name": f"app-{number}", "image": "registry/app:1"}
        items |= dict.fromkeys(NUMBER_COLUMNS, now * (number + 1) / 1000)
        items |= {"runtime": "docker", "state": "running", "health": "", "owner": "a", "start_seconds": 1.7e9}
        rows.append([items[column] for column in COLUMNS])
    node = {"uuid": "n", "hostname": "node", "time": now, "containers": rows, "collectors": {"container_cpu": True}}
    node["machine"] = {"cpus": 2, "memory_bytes": 1 << 34, "load": [0.1, 0.2, 0.3]}
    return json.dumps({"columns": COLUMNS, "nodes": [node]}, separators=(",", ":")).encode()


@contextlib.contextmanager
def served(containers: int) -> Iterator[tuple[int, list[float]]]:
    """A server of the summary: its port, and the times at which it was asked."""
    asked: list[float] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # named by http.server
            asked.append(time.monotonic())
            body = document(containers)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stream:  # noqa: PTH123
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(terminal: int, seconds: float) -> int:
    """Read what a terminal is sent for a time. Return the bytes."""
    end = time.monotonic() + seconds
    read = 0
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            read += len(os.read(terminal, 65536))
    return read


def measure(containers: int, seconds: float = SECONDS) -> dict[str, object]:
    """The part of a core that it takes once it shows rates, and what it sends to the terminal."""
    with served(containers) as (port, asked):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm-256color"
            argv = [sys.executable, "-m", "pymon", "top", "--url", f"http://127.0.0.1:{port}"]
            os.execv(sys.executable, argv)  # noqa: S606
        try:
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS_OF_TERMINAL, 0, 0))
            drain(terminal, SETTLE_SECONDS)
            before, readings = cpu_seconds(pid), len(asked)
            sent = drain(terminal, seconds)
            used, readings = cpu_seconds(pid) - before, len(asked) - readings
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(terminal)
    return {
        "containers": containers,
        "seconds": seconds,
        "readings": readings,
        "core_percent": 100 * used / seconds,
        "cpu_ms_a_reading": 1e3 * used / readings,
        "terminal_bytes_a_reading": sent / readings,
    }
