"""Runs a program without a shell, in the C locale, in its own process group, with limits of time and output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pymon.sources.errors import SourceError

SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""PATH of the programs that are run. They are searched here after the directories of this process's own PATH."""

STDERR_LIMIT_BYTES = 4096
"""Most bytes of standard error that are kept. The rest is read and dropped."""

_CHUNK_BYTES = 65536
KILL_SECONDS = 1.0
"""How long a program may take to exit after SIGKILL. One that is stuck in the kernel takes longer."""

_POLL_SECONDS = 0.02
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Output:
    """Result of a program. status: its exit status, or the negative number of the signal that ended it."""

    status: int
    stdout: bytes
    stderr: str


def shown(text: str) -> str:
    """Return text from a program, shortened and quoted for one line of a log."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def program_directories() -> tuple[str, ...]:
    """Return the directories to search for programs, in order: absolute ones of PATH, then SYSTEM_DIRECTORIES."""
    own = (word for word in os.environ.get("PATH", "").split(":") if word.startswith("/"))
    return tuple(dict.fromkeys((*own, *SYSTEM_DIRECTORIES)))


def find_program(name: str, directories: Sequence[str] | None = None) -> str:
    """Return the path of a program. Raises SourceError "nodata" when it is not installed.

    directories: where to search; `program_directories()` by default.
    """
    directories = program_directories() if directories is None else directories
    for directory in directories:
        path = Path(directory, name)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise SourceError("nodata", f"{name}: expected in {', '.join(directories)}, not there")


@dataclass(frozen=True, slots=True)
class Execution:
    """A program that was started and has ended, or has been given up.

    status: as in `Output`; None if it does not exit. stderr: what was kept of it. error: why it was ended before it
    ended itself, or None. stuck: the process, if it did not exit after SIGKILL, or None.
    """

    status: int | None
    stdout: bytes
    stderr: bytes
    error: SourceError | None
    stuck: subprocess.Popen[bytes] | None


_starting = threading.Lock()
"""Serializes the start of processes, which holds the GIL, so that the event loop can run in between."""


def execute(
    argv: Sequence[str],
    *,
    until: float,
    stop: int,
    limit_bytes: int,
    stderr_limit_bytes: int,
    env: Mapping[str, str] | None = None,
    kill_seconds: float = KILL_SECONDS,
) -> Execution:
    """Run a program in a process group of its own, and kill the group when the program has exited or is given up.

    argv: its path and arguments. until: deadline, in seconds of time.monotonic. stop: a descriptor that becomes
    readable when the program must end at once. limit_bytes: of standard output. stderr_limit_bytes: of standard error;
    more is dropped. kill_seconds: how long it may take to exit after SIGKILL.

    The reasons of `Execution.error` are "deadline", "size", "cancelled", or an errno name when its output cannot be
    read. Raises SourceError when the program cannot be started.
    """
    try:
        with _starting:
            process = subprocess.Popen(  # noqa: S603  # a list of words, no shell
                list(argv),
                bufsize=0,
                cwd="/",
                env=env,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
    except OSError as error:
        raise SourceError.from_os_error(argv[0], error) from None
    except ValueError as error:
        raise SourceError("einval", f"{argv[0]}: {error}") from None
    stdout, stderr = bytearray(), bytearray()
    failure = stuck = None
    try:
        _communicate(process, until, stop, (stdout, limit_bytes), (stderr, stderr_limit_bytes))
    except SourceError as error:
        failure = error
    except OSError as error:  # no descriptor is left for the selector
        failure = SourceError.from_os_error(argv[0], error)
    finally:
        # It has not been reaped, so its PID, which is the group's too, cannot have been used again.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(kill_seconds)
        except subprocess.TimeoutExpired:
            stuck = process
    return Execution(process.returncode, bytes(stdout), bytes(stderr), failure, stuck)


def _communicate(
    process: subprocess.Popen[bytes],
    until: float,
    stop: int,
    stdout: tuple[bytearray, int],
    stderr: tuple[bytearray, int],
) -> None:
    """Read both pipes to their ends, each into a buffer with a limit, and wait for the process without reaping it."""
    name = Path(str(process.args[0] if isinstance(process.args, list | tuple) else process.args)).name
    with selectors.DefaultSelector() as selector:
        selector.register(stop, selectors.EVENT_READ)
        for pipe, kept in ((process.stdout, stdout), (process.stderr, stderr)):
            if pipe is not None:
                selector.register(pipe.fileno(), selectors.EVENT_READ, kept)
        while (reading := len(selector.get_map()) > 1) or not _has_exited(process):
            seconds = until - time.monotonic()
            if seconds <= 0:
                raise SourceError("deadline", f"{name}: not done in time")
            for key, _ in selector.select(seconds if reading else min(seconds, _POLL_SECONDS)):
                if key.fd == stop:
                    raise SourceError("cancelled", f"{name}: cancelled")
                data = os.read(key.fd, _CHUNK_BYTES)
                buffer, limit = key.data
                if not data:
                    selector.unregister(key.fd)
                elif len(buffer) + len(data) <= limit:
                    buffer += data
                elif key.data is stdout:
                    raise SourceError("size", f"{name}: more than {limit} bytes of output")
                else:
                    buffer += data[: limit - len(buffer)]


def _has_exited(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


class Runner:
    """Runs programs one after the other. One thread may use it; `cancel` may be called from any thread.

    A program that does not exit after SIGKILL hangs in the kernel, as zfs does on a pool that lost its disks. It is
    left running, and no other program is started until it has exited.
    """

    def __init__(self, kill_seconds: float = KILL_SECONDS) -> None:
        """kill_seconds: as for `execute`."""
        self._kill_seconds = kill_seconds
        self._cancelled, self._cancel = os.pipe()
        os.set_blocking(self._cancel, False)
        self._stuck: subprocess.Popen[bytes] | None = None

    def cancel(self) -> None:
        """Kill the running program. All later runs fail."""
        with suppress(BlockingIOError):
            os.write(self._cancel, b"x")

    def close(self) -> None:
        """Close the descriptors. No run may be in progress."""
        os.close(self._cancelled)
        os.close(self._cancel)

    def run(self, argv: Sequence[str], until: float, limit_bytes: int) -> Output:
        """Run a program and return its output.

        argv: its path and arguments. until: deadline, in seconds of time.monotonic. limit_bytes: of standard output.

        Raises SourceError with the reason "deadline" when it is not done in time, "size" when it exceeds `limit_bytes`,
        "stuck" when an earlier program still hangs in the kernel, "cancelled" after `cancel`, or an errno name when it
        cannot be started or read.
        """
        if self._stuck is not None and self._stuck.poll() is None:
            raise SourceError("stuck", f"{argv[0]}: process {self._stuck.pid} cannot be killed, so none is started")
        done = execute(
            argv,
            until=until,
            stop=self._cancelled,
            limit_bytes=limit_bytes,
            stderr_limit_bytes=STDERR_LIMIT_BYTES,
            env={"LC_ALL": "C", "PATH": ":".join(SYSTEM_DIRECTORIES)},
            kill_seconds=self._kill_seconds,
        )
        self._stuck = done.stuck
        if done.error is not None:
            raise done.error
        return Output(done.status or 0, done.stdout, done.stderr.decode("utf-8", "backslashreplace"))
