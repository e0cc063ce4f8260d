"""One run of a program: without a shell, in the C locale, in a process group of its own, bounded in time and output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pymon.sources.errors import SourceError

SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""The PATH of programs that are run; they are looked for there where our own PATH has none."""

STDERR_LIMIT_BYTES = 4096
"""What is kept of the messages of a program; the rest is read and dropped."""

_CHUNK_BYTES = 65536
_KILL_SECONDS = 1.0
_POLL_SECONDS = 0.02
_SHOWN_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Output:
    """What a program left behind. status: of its exit, or the negative number of the signal that ended it."""

    status: int
    stdout: bytes
    stderr: str


def shown(text: str) -> str:
    """Text of a program, quoted for a line of a log."""
    return ascii(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def program_directories() -> tuple[str, ...]:
    """Where programs are looked for, in order: PATH without what is relative to wherever we are, then the system's."""
    own = (word for word in os.environ.get("PATH", "").split(":") if word.startswith("/"))
    return tuple(dict.fromkeys((*own, *SYSTEM_DIRECTORIES)))


def find_program(name: str, directories: Sequence[str] | None = None) -> str:
    """The path of a program. SourceError "nodata" where this machine has none."""
    directories = program_directories() if directories is None else directories
    for directory in directories:
        path = Path(directory, name)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise SourceError("nodata", f"{name}: expected in {', '.join(directories)}, not there")


class Runner:
    """Runs programs one after the other, for one thread; `cancel` may be called from any other.

    A program that does not die of SIGKILL hangs in the kernel, as zfs does on a pool whose disks have gone: it is left
    alone, and no other is started while it is there.
    """

    def __init__(self) -> None:
        self._cancelled, self._cancel = os.pipe()
        os.set_blocking(self._cancel, False)
        self._stuck: subprocess.Popen[bytes] | None = None

    def cancel(self) -> None:
        """End what is running; runs from now on fail as well."""
        with suppress(BlockingIOError):
            os.write(self._cancel, b"x")

    def close(self) -> None:
        """Free the descriptors; nothing may be running."""
        os.close(self._cancelled)
        os.close(self._cancel)

    def run(self, argv: Sequence[str], until: float, limit_bytes: int) -> Output:
        """Run a program by its path until `until` (time.monotonic) at most.

        SourceError: "deadline"; "size" when it writes more than `limit_bytes`; "stuck" (see above); "cancelled"; the
        errno when it cannot be started.
        """
        if self._stuck is not None and self._stuck.poll() is None:
            raise SourceError("stuck", f"{argv[0]}: process {self._stuck.pid} cannot be killed, so none is started")
        self._stuck = None
        try:
            process = subprocess.Popen(  # noqa: S603  # a list of words, no shell
                argv,
                bufsize=0,
                cwd="/",
                env={"LC_ALL": "C", "PATH": ":".join(SYSTEM_DIRECTORIES)},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise SourceError.from_os_error(argv[0], error) from None
        try:
            stdout, stderr = self._read(process, until, limit_bytes)
            status = self._wait(process, until)
        except BaseException:
            self._kill(process)
            raise
        finally:
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return Output(status, stdout, stderr.decode("utf-8", "backslashreplace"))

    def _read(self, process: subprocess.Popen[bytes], until: float, limit_bytes: int) -> tuple[bytes, bytes]:
        """What the program writes until it has closed both pipes."""
        parts: tuple[list[bytes], list[bytes]] = ([], [])
        left = [limit_bytes, STDERR_LIMIT_BYTES]
        with selectors.DefaultSelector() as selector:
            selector.register(self._cancelled, selectors.EVENT_READ)
            for number, pipe in enumerate((process.stdout, process.stderr)):
                if pipe is not None:
                    selector.register(pipe.fileno(), selectors.EVENT_READ, number)
            while len(selector.get_map()) > 1:
                for key, _ in self._select(selector, process, until):
                    data = os.read(key.fd, _CHUNK_BYTES)
                    if not data:
                        selector.unregister(key.fd)
                        continue
                    parts[key.data].append(data[: left[key.data]])
                    left[key.data] = max(0, left[key.data] - len(data))
                    if left[0] == 0:
                        raise SourceError("size", f"{_name(process)}: more than {limit_bytes} bytes of output")
        return b"".join(parts[0]), b"".join(parts[1])

    def _wait(self, process: subprocess.Popen[bytes], until: float) -> int:
        """The exit status; nearly always the program has ended with its output."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._cancelled, selectors.EVENT_READ)
            while (status := process.poll()) is None:
                self._select(selector, process, until, _POLL_SECONDS)
        return status

    def _select(
        self,
        selector: selectors.BaseSelector,
        process: subprocess.Popen[bytes],
        until: float,
        most_seconds: float | None = None,
    ) -> list[tuple[selectors.SelectorKey, int]]:
        seconds = until - time.monotonic()
        if seconds <= 0:
            raise SourceError("deadline", f"{_name(process)}: not done in time")
        ready = selector.select(seconds if most_seconds is None else min(seconds, most_seconds))
        if any(key.fd == self._cancelled for key, _ in ready):
            raise SourceError("cancelled", f"{_name(process)}: cancelled")
        return ready

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill the whole group; the process has not been waited for, so its number is still its own."""
        if process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            try:
                process.wait(_KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._stuck = process


def _name(process: subprocess.Popen[bytes]) -> str:
    return Path(str(process.args[0] if isinstance(process.args, list | tuple) else process.args)).name
