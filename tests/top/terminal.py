"""A pseudo-terminal, by tmux, with a program in it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 20.0
_ENDED = re.compile(r"ended with ([0-9]+)")


class Terminal:
    """A terminal of tmux. The server of tmux is its own."""

    def __init__(self, folder: str) -> None:
        """folder: for its socket."""
        self._folder = folder

    def tmux(self, *words: str) -> str:
        environ = {**os.environ, "LC_ALL": "C.UTF-8", "TMUX_TMPDIR": self._folder, "TMUX": ""}
        done = subprocess.run(
            ["tmux", "-f", "/dev/null", *words],
            env=environ, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def screen(self) -> list[str]:
        """The lines of the screen, without blanks at their ends."""
        return self.tmux("capture-pane", "-p").split("\n")

    def text(self) -> str:
        return "\n".join(self.screen())

    def styled(self) -> str:
        """The screen with its colours, as escape sequences."""
        return self.tmux("capture-pane", "-pe")

    def keys(self, *names: str) -> None:
        self.tmux("send-keys", *names)

    def typed(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)

    def size(self, width: int, height: int) -> None:
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def pid(self) -> int:
        """Of the program."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(child)

    def until(self, what: str, probe: Callable[[str], object]) -> str:
        """The first screen of which `probe` is true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            text = self.text()
            if probe(text):
                return text
            assert time.monotonic() < deadline, f"never {what}:\n{text}"
            time.sleep(0.02)

    def shows(self, *words: str) -> str:
        """The first screen that has all these words."""
        return self.until(f"shown {words}", lambda text: all(word in text for word in words))

    def status(self) -> int:
        """The exit code of the program, which ends."""
        found = self.until("ended", _ENDED.search)
        return int(_ENDED.search(found)[1])  # type: ignore[index]


@contextlib.contextmanager
def terminal(
    *words: str, width: int = 80, height: int = 24, environ: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Run `pymon WORDS` in a terminal. environ: variables that it has besides."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    variables = {"LC_ALL": "C.UTF-8", **(environ or {})}
    unset = [f"-u{name}" for name in os.environ if name.startswith("PYMON_") or name == "NO_COLOR"]
    command = ["env", *unset, *(f"{key}={value}" for key, value in variables.items()), sys.executable, "-m", "pymon"]
    shell = f"{shlex.join([*command, *words])}; echo ended with $?; exec sleep 600"
    with tempfile.TemporaryDirectory(prefix="pymon-tmux-") as folder:
        here = Terminal(folder)
        here.tmux(
            "new-session", "-d", "-x", str(width), "-y", str(height), "-c", str(REPOSITORY), shell, ";",
            "set-option", "-g", "status", "off", ";", "set-option", "-sg", "escape-time", "0",
        )  # fmt: skip
        try:
            here.size(width, height)
            yield here
        finally:
            here.tmux("kill-server")


def in_a_terminal(*words: str, **environ: str) -> tuple[int, str]:
    """Run python with words in a terminal: its exit code and what it wrote."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(REPOSITORY)
        os.execve(sys.executable, [sys.executable, *words], {**os.environ, **environ})  # noqa: S606
    written = b""
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:  # the terminal of a process that has ended
            break
        written += block
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()
