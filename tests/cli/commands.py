"""What tests of commands on the directory have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pymon.directory.directory import open_directory
from pymon.directory.model import Snapshot

Pymon = Callable[..., str]
"""The fixture `pymon`."""


def snapshot(data_dir: Path) -> Snapshot:
    with open_directory(str(data_dir / "directory.db"), read_only=True) as directory:
        return directory.snapshot()
