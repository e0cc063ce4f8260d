"""A real PostgreSQL on a unix socket, for the tests of the directory."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

BIN = Path("/usr/lib/postgresql/15/bin")


class Server:
    def __init__(self, folder: Path, prefix: list[str]) -> None:
        self.folder = folder
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def sql(self, text: str, database: str = "postgres") -> str:
        command = [
            BIN / "psql",
            "-h",
            self.folder,
            "-U",
            "postgres",
            "-d",
            database,
            "-v",
            "ON_ERROR_STOP=1",
            "-Atc",
            text,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self) -> None:
        options = [
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
            "-k",
            str(self.folder),
            "-D",
            str(self.folder / "data"),
        ]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen([*self._prefix, BIN / "postgres", *options], stdout=log, stderr=log)
        waiting = ["timeout", "30", "sh", "-c", f"until {BIN}/pg_isready -q -h {self.folder}; do sleep 0.05; done"]
        if subprocess.run(waiting, check=False).returncode:
            raise RuntimeError((self.folder / "log").read_text())

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """No process of the server runs, but the kernel keeps its connections."""
        assert self._process is not None
        pid = self._process.pid
        self._process.send_signal(signal.SIGSTOP)
        stopped = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for one in stopped[1:]:
            os.kill(one, signal.SIGSTOP)
        try:
            yield
        finally:
            for one in reversed(stopped):
                os.kill(one, signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server with an empty database."""
    initdb = [BIN / "initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
    with made_by(initdb) as server:
        yield server


@contextlib.contextmanager
def made_by(command: Sequence[str | Path]) -> Iterator[Server]:
    """A server that runs, whose data directory this command makes; ``-D DIRECTORY`` is added to it."""
    if not (BIN / "initdb").exists():
        pytest.skip(f"needs PostgreSQL 15 in {BIN}")
    folder = Path(tempfile.mkdtemp(prefix="pymon-pg-", dir="/tmp"))
    prefix: list[str] = []
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    server = Server(folder, prefix)
    try:
        making = [*prefix, *command, "-D", folder / "data"]
        subprocess.run(making, check=True, capture_output=True, cwd=folder)
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
