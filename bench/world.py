"""Real cgroups with a sleeping process each, and an agent that watches them; all of it gone afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pymon.sources.cgroup import Hierarchies, find_hierarchies

ROOT = Path(__file__).parent.parent
CONTROLLERS = ("memory", "cpu", "cpuacct", "blkio", "pids")
CGROUPFS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The cgroups of a benchmark, by name below each of the roots."""

    roots: tuple[Path, ...]
    parent: str
    names: tuple[str, ...]


def roots_of(hierarchies: Hierarchies) -> tuple[Path, ...]:
    """The hierarchies that the agent reads."""
    roots = dict.fromkeys(hierarchies.v1[name] for name in CONTROLLERS if name in hierarchies.v1)
    if hierarchies.v2:
        roots[hierarchies.v2] = None
    return tuple(roots)


@contextlib.contextmanager
def cgroups(count: int) -> Iterator[Cgroups]:
    """`count` cgroups in every hierarchy, each with one sleeping process."""
    roots = roots_of(find_hierarchies(CGROUPFS))
    parent = f"pymon-bench-{os.getpid()}"
    names = tuple(f"c{i:05d}" for i in range(count))
    sleepers: list[subprocess.Popen[bytes]] = []
    try:
        for root in roots:
            (root / parent).mkdir()
            for name in names:
                (root / parent / name).mkdir()
        for name in names:
            sleeper = subprocess.Popen(["/bin/sleep", "100000"])
            sleepers.append(sleeper)
            for root in roots:
                (root / parent / name / "cgroup.procs").write_text(str(sleeper.pid))
        yield Cgroups(roots, parent, names)
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()
        for root in roots:
            for name in names:
                remove(root / parent / name)
            remove(root / parent)


def remove(group: Path) -> None:
    """Remove a cgroup, waiting for the kernel to let go of its last process."""
    for _ in range(200):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"{group}: still busy")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Agent:
    """A running agent."""

    process: subprocess.Popen[bytes]
    port: int

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        return cpu_seconds(self.process.pid)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return rss_bytes(self.process.pid)


@contextlib.contextmanager
def agent(parent: str, *flags: str, cpus: str | None = None, prefix: Sequence[str] = ()) -> Iterator[Agent]:
    """An agent for the cgroups below `parent`, ready to answer. cpus: pinned to these. prefix: a program to run it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *prefix,
        sys.executable,
        "-m",
        "pymon",
        "agent",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--container.pattern=/{parent}/(?P<name>[^/]+)",
        *flags,
    ]
    if cpus is not None:
        command = ["taskset", "-c", cpus, *command]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the agent did not start") from None
                time.sleep(0.05)
        yield Agent(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


class Client:
    """One keep-alive connection, with nothing that costs: the time of a scrape is the agent's."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._host = host
        self._socket = socket.create_connection((host, port), 60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(64 << 20)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get(self, path: str, *, gzip: bool = False) -> memoryview:
        """The body of a GET. RuntimeError unless the status is 200; ConnectionError at the end of the connection."""
        head, body = self.receive(path, gzip=gzip)
        return body if b"content-length:" in head else memoryview(b"".join(_chunks(body)))

    def receive(self, path: str, *, gzip: bool = False) -> tuple[bytes, memoryview]:
        """The head of an answer in lower case, and its body, in chunks if it came so. Errors are those of get."""
        coding = "gzip" if gzip else "identity"
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept-Encoding: {coding}\r\n\r\n".encode())
        view = memoryview(self._buffer)
        got = 0
        end = -1
        while end < 0:
            got += self._received(view[got:])
            end = self._buffer.find(b"\r\n\r\n", 0, got)
        head, start = bytes(view[:end]).lower() + b"\r\n", end + 4
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            raise RuntimeError(head.decode())
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        if length:
            stop = start + int(length[1])
            while got < stop:
                got += self._received(view[got:])
            return head, view[start:stop]
        if b"\r\ntransfer-encoding: chunked\r\n" not in head:
            raise RuntimeError("the answer has neither a length nor chunks")
        while view[max(start, got - 5) : got] != b"0\r\n\r\n":
            got += self._received(view[got:])
        return head, view[start:got]

    def _received(self, view: memoryview) -> int:
        got = self._socket.recv_into(view)
        # Or a server that writes an answer in two parts would wait 40 ms for the acknowledgement of the first.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        if not got:
            raise ConnectionError("the server has closed the connection")
        return got


def _chunks(body: memoryview) -> Iterator[bytes]:
    """The data of a chunked body."""
    data, at = bytes(body), 0
    while True:
        end = data.index(b"\r\n", at)
        size = int(data[at:end].partition(b";")[0], 16)
        if size == 0:
            return
        yield data[end + 2 : end + 2 + size]
        at = end + 4 + size
