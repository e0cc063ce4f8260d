"""What a terminal has beyond plain lines: bold text, and one line that is written over while somebody waits."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN_SECONDS = 0.1
"""The line is written over at most once in this time."""


def has_cursor(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose lines can be written over."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def bold(text: str, stream: TextIO) -> str:
    """Return a text that is bold if it is for a terminal. It is plain with NO_COLOR, as https://no-color.org has it."""
    return f"\x1b[1m{text}\x1b[0m" if has_cursor(stream) and not os.environ.get("NO_COLOR") else text


class Waiting:
    """A line of standard error that says what goes on, and is gone at the end. Without a terminal it says nothing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -1.0
        self._said = False
        self.live = has_cursor(sys.stderr)

    def say(self, text: str) -> None:
        """Write the text, which must be printable, over what was said before."""
        now = self._clock()
        if self.live and now >= self._next:
            self._next = now + AGAIN_SECONDS
            self._said = True
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{text[:width]}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away. Others may write then."""
        if self._said:
            self._said = False
            self._next = -1.0
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def bar(done: int, total: int, width: int = 24) -> str:
    """Return a bar of ASCII that is filled as far as `done` of `total`."""
    filled = width * min(done, total) // total if total else width
    return f"[{'#' * filled}{' ' * (width - filled)}]"
