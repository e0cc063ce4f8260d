"""Standard input, output and error of a process that was started without one of them."""

from __future__ import annotations

import os
import sys

_INPUT, _OUTPUT, _ERROR = 0, 1, 2


def open_standard_streams() -> None:
    """Open those that are closed, so that no other file gets their descriptors.

    Reading gives nothing. A write to the output fails with EBADF, so that what is lost is an error of the one who
    writes. What is written to the error stream is dropped, because nobody could be told.
    """
    for descriptor in (_INPUT, _OUTPUT, _ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if descriptor == _ERROR else os.O_RDONLY)
    sys.stdin = sys.stdin or open(_INPUT, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(_OUTPUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(_ERROR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
