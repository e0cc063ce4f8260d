"""What is left to the process that fetches: tried by one that wants more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).resolve().parents[2]

ATTEMPTS = """
import ctypes, mmap, os, socket, sys
sys.path.insert(0, sys.argv[1])
from pymon.apps.privileges import SystemCalls, drop

listener = socket.create_server(("127.0.0.1", 0))
address = listener.getsockname()
libc = ctypes.CDLL(None, use_errno=True)
kept = os.open("/proc/self/ns/net", os.O_RDONLY)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

attempts = {
    "open": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "stat": lambda: os.stat("/"),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    "fork": os.fork,
    "execve": lambda: os.execv("/bin/true", ["true"]),
    "kill": lambda: os.kill(os.getppid(), 0),
    "setns": lambda: call("setns", kept, 0x40000000),
    "unshare": lambda: call("unshare", 0x40000000),
    "ptrace": lambda: call("ptrace", 16, os.getppid(), 0, 0),
    "setuid": lambda: os.setuid(0),
    "bind": lambda: opened.bind(("127.0.0.1", 0)),
    "chdir": lambda: os.chdir("/"),
    "mmap": lambda: mmap.mmap(-1, 4096, prot=7),
}
opened = socket.socket()
calls = SystemCalls()
drop(calls)
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, "done")
    except OSError as error:
        print(name, error.errno)
with socket.socket() as connection:
    connection.settimeout(10)
    connection.connect(address)
    connection.sendall(b"x")
    print("connected", connection.getpeername() == address)
"""


def test_nothing_but_connections_is_left() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, str(REPOSITORY)], check=True, capture_output=True, text=True, cwd="/"
    )
    *refused, connected = done.stdout.splitlines()
    assert connected == "connected True"
    assert len(refused) == 15
    assert [line for line in refused if line.split()[1] not in ("1", "13")] == []
