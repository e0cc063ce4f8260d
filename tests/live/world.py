"""Real control groups with real processes, network namespaces and interfaces, in every hierarchy that the agent reads.

Works where controllers have hierarchies of their own, where they are in the version 2 tree, and where both are mounted.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "blkio", "pids")
"""Version 1 hierarchies to make groups in. A group of cpuset takes no process before its CPUs are set."""

PATIENCE_SECONDS = 30.0
"""How long a thing that has to happen may take, on a slow machine too."""

PREFIX = f"pymon-test-{os.getpid()}"
_counter = itertools.count()


def until(what: str, probe: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The first answer of `probe` that is true; AssertionError that names `what` after the time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(0.01)


class Hierarchies:
    """The hierarchies that are mounted, as /proc/mounts has them: directories by controller, and the version 2 tree."""

    def __init__(self) -> None:
        self.v1: dict[str, Path] = {}
        self.v2: Path | None = None
        for line in Path("/proc/mounts").read_text().splitlines():
            _, where, kind, options = line.split()[:4]
            if kind == "cgroup2":
                self.v2 = self.v2 or Path(where)
            elif kind == "cgroup":
                for option in set(options.split(",")) & set(V1_CONTROLLERS):
                    self.v1[option] = Path(where)
        self.v2_controllers = frozenset((self.v2 / "cgroup.controllers").read_text().split() if self.v2 else ())

    @property
    def roots(self) -> list[Path]:
        """Directories to make groups in."""
        return [*dict.fromkeys(self.v1.values()), *([self.v2] if self.v2 else [])]

    def root(self, controller: str) -> Path | None:
        """Where the files of a controller are; "" is what the version 2 tree has itself."""
        if controller in self.v1:
            return self.v1[controller]
        if controller == "" or controller in self.v2_controllers:
            return self.v2
        return None

    def version(self, controller: str) -> int:
        """1, 2, or 0 when the controller is not to be had."""
        return 1 if controller in self.v1 else 2 if self.root(controller) else 0


HIERARCHIES = Hierarchies()


class Group:
    """A control group in every hierarchy, and the processes started in it."""

    def __init__(self, name: str | bytes) -> None:
        self.name = os.fsdecode(name)
        self.path = f"/{self.name}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._directories = [root / self.name for root in HIERARCHIES.roots]
        for directory in self._directories:
            directory.mkdir()

    def file(self, controller: str, name: str) -> Path:
        """A file of the group."""
        root = HIERARCHIES.root(controller)
        assert root is not None, controller
        return root / self.name / name

    def read(self, controller: str, name: str) -> str | None:
        """The content of a file; None when this kernel has no such file."""
        try:
            return self.file(controller, name).read_text()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return None
            raise

    def limit(self, controller: str, v1: Mapping[str, str], v2: Mapping[str, str]) -> None:
        """Write the settings for the version of the controller's interface."""
        for name, value in (v1 if HIERARCHIES.version(controller) == 1 else v2).items():
            self.file(controller, name).write_text(value)

    def start(self, argv: Sequence[str], **options: object) -> subprocess.Popen[bytes]:
        """Run a program in the group: the shell that becomes it waits until it has been put there."""
        process = subprocess.Popen(
            ["sh", "-c", 'read -r go; exec "$@"', "sh", *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,  # type: ignore[arg-type]
        )
        self.processes.append(process)
        for directory in self._directories:
            (directory / "cgroup.procs").write_text(str(process.pid))
        assert process.stdin
        process.stdin.write(b"go\n")
        process.stdin.flush()
        return process

    def sleep(self) -> subprocess.Popen[bytes]:
        """A process that does nothing."""
        return self.start(["sleep", "1000"])

    def remove(self) -> None:
        """Kill what is inside and remove the group, and groups below it, everywhere."""
        until(f"{self.path} removed", self._try_remove)
        for process in self.processes:
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()

    def kill(self) -> None:
        """Kill the processes that were started in it, and reap them."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _try_remove(self) -> bool:
        for process in self.processes:
            process.poll()
        for top in self._directories:
            for directory in [*(Path(where) for where, _, _ in os.walk(top, topdown=False))]:
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if error.errno != errno.EBUSY:
                        raise
                    for pid in (directory / "cgroup.procs").read_text().split():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(int(pid), signal.SIGKILL)
        return not any(directory.exists() for directory in self._directories)


class World:
    """What a test made, to be taken away with `close` whatever happened."""

    def __init__(self) -> None:
        self._groups: list[Group] = []
        self._links: list[str] = []

    def group(self, name: str | bytes = "") -> Group:
        """A new group /pymon-test-PID-N-NAME."""
        group = Group(b"-".join(filter(None, (f"{PREFIX}-{next(_counter)}".encode(), os.fsencode(name)))))
        self._groups.append(group)
        return group

    def again(self, group: Group) -> Group:
        """A group that was removed, made again."""
        made = Group(group.name)
        self._groups.append(made)
        return made

    def child(self, parent: Group, name: str) -> Group:
        """A new group below another one."""
        group = Group(f"{parent.name}/{name}")
        self._groups.append(group)
        return group

    def veth(self, pid: int, name: str, address: str, peer_address: str) -> str:
        """A pair of interfaces: `name` with `address` in the network namespace of a process, the other end here.

        The name of the other end. Both are up and say nothing by themselves. LinkError when the kernel has no veth.
        """
        outer = f"pmt{os.getpid() % 10**6}{next(_counter) % 1000}"
        made = ip("link", "add", outer, "type", "veth", "peer", "name", name, "netns", str(pid), check=False)
        if made.returncode:
            raise LinkError(made.stderr.decode().strip())
        self._links.append(outer)
        Path(f"/proc/sys/net/ipv6/conf/{outer}/disable_ipv6").write_text("1")
        ip("address", "add", f"{peer_address}/30", "dev", outer)
        ip("link", "set", outer, "up")
        inside = ("nsenter", "-t", str(pid), "-n")
        # The mount of /proc/sys shows the namespace of the process that opens it.
        run(*inside, "sh", "-c", 'echo 1 > "$0"', f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        run(*inside, "ip", "address", "add", f"{address}/30", "dev", name)
        run(*inside, "ip", "link", "set", name, "up")
        return outer

    def close(self) -> None:
        """Take everything away; the first failure is raised at the end."""
        failures: list[BaseException] = []
        for group in self._groups:
            for process in group.processes:
                process.kill()
        for group in self._groups:
            try:
                group.remove()
            except (OSError, AssertionError) as error:
                failures.append(error)
        for link in self._links:
            ip("link", "delete", link, check=False)
        if failures:
            raise failures[0]


class LinkError(Exception):
    """An interface that this kernel does not make."""


def run(*argv: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run a program, and return what it printed. check: it must succeed."""
    done = subprocess.run(argv, check=False, capture_output=True)
    assert not check or done.returncode == 0, f"{' '.join(argv)}: {done.stderr.decode()}"
    return done


def ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run ip(8)."""
    return run("ip", *words, check=check)


def link_counters(pid: int) -> dict[str, dict[str, dict[str, int]]]:
    """`rx` and `tx` counters of the interfaces in a process's network namespace, as ip(8) has them."""
    output = run("nsenter", "-t", str(pid), "-n", "ip", "-s", "-j", "link").stdout
    return {link["ifname"]: link["stats64"] for link in json.loads(output)}
