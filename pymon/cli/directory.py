"""``pymon directory``: maintain the directory's schema, copy and back up the directory."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from pymon.cli.verbs import Call, Verb, run_verb
from pymon.cli.waiting import Waiting, bar
from pymon.directory import labels
from pymon.directory.copying import backup, copy

_SAY_SECONDS = 1.0


def run(argv: Sequence[str]) -> int:
    """Run the verb in `argv`. Return the exit code."""
    return run_verb("directory", VERBS, argv)


def _upgrade(call: Call) -> int:
    with call.open() as directory:
        upgraded = directory.upgrade()
        conflicts = labels.conflicts(directory.snapshot())
    print("upgraded" if upgraded else "nothing to upgrade")
    for line in conflicts:
        print(line)
    return 0


def _copy(call: Call) -> int:
    source, target = call.arguments
    with Waiting() as waiting:
        rows = copy(source, target, _Say(waiting))
    print(f"{rows} rows copied, and each compared")
    return 0


def _backup(call: Call) -> int:
    (file,) = call.arguments
    with Waiting() as waiting:
        rows = backup(call.directory_url, file, _Say(waiting))
    print(f"{rows} rows copied, and each compared")
    return 0


class _Say:
    """Shows progress in the line of a terminal, or writes it to standard error once in `_SAY_SECONDS`."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._next = time.monotonic() + _SAY_SECONDS

    def __call__(self, what: str, table: str, done: int, total: int) -> None:
        if self._waiting.live:
            self._waiting.say(f"{what} {bar(done, total)} {table}: {done} of {total}")
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SAY_SECONDS
            print(f"{table}: {done} of {total} {what}", file=sys.stderr)


VERBS = (
    Verb("upgrade", "", "add the tables and columns that older versions did not make; they can go on", _upgrade),
    Verb("copy", "FROM TO", "copy a directory into an empty one, SQLite or PostgreSQL", _copy),
    Verb("backup", "FILE", "copy the directory into a new file, while proxies use it", _backup),
)  # fmt: skip
