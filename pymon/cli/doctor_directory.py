"""The lines of ``pymon doctor`` about problems in the directory."""

from __future__ import annotations

from collections.abc import Iterator

from pymon.config import ConfigError
from pymon.directory import labels
from pymon.directory.directory import open_directory
from pymon.directory.model import DirectoryError, UnavailableError


def report(url: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of a heading and a line about a directory. Never raises for an unusable one; a line says why.

    url: URL or path of the directory.
    """
    try:
        with open_directory(url, read_only=True) as directory:
            snapshot, off = directory.snapshot(), directory.off()
    except UnavailableError as error:
        yield "directory", f"unknown ({error})"
    except (ConfigError, DirectoryError, OSError) as error:
        yield "directory", str(error)
    else:
        yield "directory", f"{directory.label}: {len(snapshot.accounts)} accounts, {len(snapshot.nodes)} nodes"
        for line in (*off, *labels.conflicts(snapshot)):
            yield "directory", line
