"""Shell scripts in the place of programs that only illumos has; they print what is in `captures`."""

import threading
import time
from pathlib import Path

CAPTURES = Path(__file__).parent / "captures"


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


class Woken:
    """Counts runs that have ended."""

    def __init__(self):
        self._count = threading.Semaphore(0)

    def __call__(self):
        self._count.release()

    def wait(self):
        assert self._count.acquire(timeout=30), "no run has ended"


def capture(name):
    return (CAPTURES / name).read_text()


def script(directory, name, body):
    """Install a program; its text is replaced in one step."""
    new = directory / f"{name}.new"
    new.write_text(f"#!/bin/sh\n{body}\n")
    new.chmod(0o755)
    new.replace(directory / name)


def printing(directory, name, text):
    """Install a program that prints a text, whatever it is asked."""
    (directory / f"{name}.out").write_text(text)
    script(directory, name, f'echo "$@" >>"{directory}/{name}.argv"; exec cat "{directory}/{name}.out"')


def calls(directory, name):
    path = directory / f"{name}.argv"
    return path.read_text().splitlines() if path.exists() else []


def run_once(program, clock, woken):
    program.refresh_due(clock())
    woken.wait()


def wait_until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
