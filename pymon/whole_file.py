"""Atomic replacement of files. Readers see the old or the new content, and a failure leaves no temporary file."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

_SUFFIX = ".tmp"


def replace_file(file: Path, *data: bytes | memoryview, sync: bool = True) -> None:
    """Replace a file atomically with these bytes. Its mode is 0600. A missing directory is created. Raises OSError.

    sync: write the data to disk first, so that the file is also complete after a power failure.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(_SUFFIX, ".", file.parent)
    try:
        with open(descriptor, "wb") as stream:  # noqa: PTH123  # a descriptor
            stream.writelines(data)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that killed writers left in a directory. No other process may be writing there."""
    with suppress(OSError):
        for file in folder.glob(f"*{_SUFFIX}"):
            file.unlink()
