"""The error of a source that could not be read or understood, and its reasons."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Self

# On Linux EOPNOTSUPP and ENOTSUP are the same number, and errno.errorcode has the name ENOTSUP.
_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}


NOT_OFFERED = frozenset({"enoent", "eopnotsupp", "nodata"})
"""Reasons why there is no number that do not make a collector fail: this kernel or machine does not offer it."""


class SourceError(Exception):
    """A file, device or call that could not be read or understood.

    reason: one short word, used as a label value: the errno name in lower case ("enoent", "eio", "eacces",
    "eopnotsupp"), "parse" (the content is not what was expected) or "nodata" (this machine has no such data).
    The text is one line that names the file and what was expected.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    @classmethod
    def from_os_error(cls, path: Path | str, error: OSError) -> Self:
        """Return the error for a system call on `path` that failed with `error`."""
        number = error.errno or 0
        return cls(_NAMES.get(number, "oserror").lower(), f"{path}: {os.strerror(number)}")
