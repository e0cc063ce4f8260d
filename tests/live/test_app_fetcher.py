"""The fetcher in real network namespaces and control groups: what it reaches, and all that it does not."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pymon.apps import fetcher as module
from pymon.apps.protocol import AppError, line_of
from tests.live.agent import REPOSITORY
from tests.live.app_fetcher import SERVER, Fetcher, ask_about, inside, namespace_of, served, talking
from tests.live.test_network import alone, joined, linked
from tests.live.world import World, run, until

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def fetcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fetcher]:
    with Fetcher(tmp_path_factory.mktemp("fetcher")) as running:
        yield running


@contextlib.contextmanager
def on_the_host() -> Iterator[tuple[int, list[object]]]:
    """An application on the host's loopback: its port, and who has connected to it."""
    seen: list[object] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = server.accept()
                with connection:
                    seen.append(peer)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nsecret 1\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1], seen
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(30)


def test_an_application_on_the_loopback_of_its_container_is_reached(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = served(group, 'a{path="%(path)s"} 1\\n')
    assert fetcher.fetch(ask_about(process.pid, group, path="/x/y%20z")) == b'a{path="/x/y%20z"} 1\n'
    other = world.group()
    run("nsenter", "-t", str(process.pid), "-n", "ip", "address", "add", "2001:db8::7/128", "dev", "lo")
    second = joined(other, process.pid)
    assert fetcher.fetch(ask_about(second.pid, other)) == b'a{path="/metrics"} 1\n', "as of a pod with one namespace"


def test_an_application_on_an_address_of_its_container_alone_is_reached(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    first = alone(group)
    run("nsenter", "-t", str(first.pid), "-n", "ip", "link", "set", "lo", "up")
    linked(world, first.pid, "eth0", 41)
    program = [sys.executable, "-c", SERVER, "198.18.41.2", "9100", "a 1\\n"]
    process = group.start(["nsenter", "-t", str(first.pid), "-n", *program])
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    assert fetcher.fetch(ask_about(process.pid, group)) == b"a 1\n"


def test_a_container_on_the_hosts_network_is_refused(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = group.sleep()
    with on_the_host() as (port, seen):
        assert fetcher.reason(ask_about(process.pid, group, port=port)) == "host: it is on the host's network"
        for cgroup in ("/", ""):
            assert fetcher.reason(ask_about(os.getpid(), group, cgroup=cgroup, port=port)).startswith("ask: ")
        assert seen == []


def test_the_hosts_localhost_is_not_reached(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = served(group)
    with on_the_host() as (port, seen):
        assert fetcher.reason(ask_about(process.pid, group, port=port)) == f"connect: port {port}: Connection refused"
        assert seen == []


def test_a_redirect_to_the_host_or_to_metadata_is_not_followed(world: World, fetcher: Fetcher) -> None:
    with on_the_host() as (port, seen):
        for number, location in enumerate((f"http://127.0.0.1:{port}/", "http://169.254.169.254/", "//localhost/")):
            group = world.group()
            answer = f"HTTP/1.1 302 Found\\r\\nLocation: {location}\\r\\nContent-Length: 0\\r\\n\\r\\n"
            process = talking(group, answer, 9100 + number)
            assert fetcher.reason(ask_about(process.pid, group, port=9100 + number)).startswith("redirect: ")
        assert seen == []


def test_another_namespace_than_the_one_expected_is_refused(world: World, fetcher: Fetcher) -> None:
    mine, others = world.group(), world.group()
    victim = served(others, "secret 1\\n")
    process = served(mine)
    expected = namespace_of(process.pid)
    told = "namespace: its network namespace is another one by now"
    assert fetcher.reason(ask_about(victim.pid, others, namespace=expected)) == told
    assert fetcher.reason(ask_about(process.pid, others)) == "gone: its process is not in its cgroup"
    moved = mine.start(["nsenter", "-t", str(victim.pid), "-n", "sleep", "1000"])
    until("it is there", lambda: namespace_of(moved.pid) == namespace_of(victim.pid))
    assert fetcher.reason(ask_about(moved.pid, mine, namespace=expected)) == told


def test_a_pid_that_is_used_again_leads_nowhere(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = served(group)
    good = ask_about(process.pid, group)
    assert fetcher.reason(ask_about(process.pid, group, start_ticks=good.start_ticks - 1)) == (
        "gone: its process has gone"
    )
    process.kill()
    until("it is a zombie", lambda: " Z " in Path(f"/proc/{process.pid}/stat").read_text())
    assert fetcher.reason(good).startswith("gone: ")
    process.wait()
    assert fetcher.reason(good) == "gone: its process has gone"


def test_a_container_that_dies_in_the_middle_ends_the_fetch(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = talking(group, "HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\na 1\\n", keep=True)
    with fetcher.connect(ask_about(process.pid, group, seconds=15.0)) as connection, connection.makefile("rb") as file:
        fetcher.child()
        group.kill()
        line = file.readline()
    assert b'"reason":"malformed"' in line or b'"reason":"connect"' in line, line
    until("no child", lambda: not fetcher.children())


def test_what_fetches_has_no_privilege_and_is_where_the_container_is(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = talking(group, "", keep=True)
    with fetcher.connect(ask_about(process.pid, group, seconds=15.0)):
        child = fetcher.child()
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
        assert status["Uid"] == status["Gid"] == "\t".join(["65534"] * 4)
        assert status["Groups"].strip() == ""
        assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert namespace_of(child) == namespace_of(process.pid)
        assert namespace_of(fetcher.process.pid) != namespace_of(process.pid)
        # Standard streams, the connection to the agent, the one to the application, and the pair for signals.
        links = [str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir()]
        assert len([link for link in links if link.startswith("socket:")]) == 4
        assert not [link for link in links if "ns:" in link or link.startswith("anon_inode:[pidfd]")]
    until("killed when the agent hangs up", lambda: not fetcher.children())


def test_who_is_not_the_agent_gets_no_answer(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = served(group)
    program = f"""
import socket, sys
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect({str(fetcher.socket)!r})
except PermissionError:
    sys.exit("not let in")
connection.settimeout(30)
try:
    connection.sendall(sys.stdin.buffer.read())
    print(connection.recv(100))
except ConnectionError:
    print(b"")
"""

    def attempt() -> subprocess.CompletedProcess[bytes]:
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", program]
        ask = line_of(ask_about(process.pid, group))
        return subprocess.run(words, check=False, capture_output=True, input=ask, cwd="/")

    assert attempt().stderr.strip() in (b"not let in", b"[Errno 13] Permission denied")
    above = (folder for folder in fetcher.socket.parents if folder.is_relative_to(tempfile.gettempdir()))
    modes = {path: path.stat().st_mode & 0o7777 for path in (fetcher.socket, *above)}
    try:
        for path, mode in modes.items():
            path.chmod(mode | 0o777)
        assert attempt().stdout.strip() == b"b''"
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    until("the refusal", lambda: fetcher.fetch(ask_about(process.pid, group)) == b"a 1\n")


def test_the_capabilities_of_its_unit_are_enough(world: World, tmp_path: Path) -> None:
    unit = (REPOSITORY / "deploy/pymon-app-fetcher.service").read_text()
    (named,) = re.findall("^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    kept = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in named.split())
    setpriv = ("setpriv", "--no-new-privs", f"--bounding-set=-all,{kept}", "--inh-caps=-all")
    group, silent = world.group(), world.group()
    with Fetcher(tmp_path, setpriv) as limited:
        assert limited.fetch(ask_about(served(group).pid, group)) == b"a 1\n"
        process = talking(silent, "", keep=True)
        with limited.connect(ask_about(process.pid, silent, seconds=15.0)):
            limited.child()
        until("it kills what has become nobody's", lambda: not limited.children())


def test_a_private_network_is_never_taken_for_the_hosts() -> None:
    program = "from pymon.apps.namespace import host_namespace; print(host_namespace())"
    words = ["unshare", "--net", sys.executable, "-c", program]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=REPOSITORY)
    try:
        first = Path("/proc/1/ns/net").stat()
    except PermissionError:
        assert "PermissionError" in done.stderr
    else:
        assert done.stdout == f"(Namespace(device={first.st_dev}, inode={first.st_ino}), True)\n"


def test_no_more_processes_than_the_limit_whoever_asks(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = talking(group, "", keep=True)
    with contextlib.ExitStack() as connections:
        for _ in range(module.MAX_CHILDREN + 10):
            connections.enter_context(fetcher.connect(ask_about(process.pid, group, seconds=15.0)))
        until("all places are taken", lambda: len(fetcher.children()) == module.MAX_CHILDREN)
    until("all have ended", lambda: not fetcher.children())
    other = world.group()
    assert fetcher.fetch(ask_about(served(other).pid, other)) == b"a 1\n"


def test_an_agent_that_says_nothing_is_left(world: World, fetcher: Fetcher) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(fetcher.socket))
        assert b'"reason":"ask"' in connection.recv(1000)
    until("no child", lambda: not fetcher.children())


def test_what_is_no_http_or_too_much_is_refused(world: World, fetcher: Fetcher) -> None:
    group = world.group()
    process = inside(group, sys.executable, "-c", ENDLESS, "9100")
    with pytest.raises(AppError) as caught:
        fetcher.fetch(ask_about(process.pid, group))
    assert caught.value.reason == "too_large"


ENDLESS = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    try:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
        while True:
            connection.sendall(b"a 1\\n" * 10000)
    except OSError:
        pass
"""
