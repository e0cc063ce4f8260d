"""Optional modules that make an agent faster, and their slower replacements. Not every platform has them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

_ACCELERATORS = {
    "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd": "no zstd",
    "isal": "gzip by zlib",
    "uvloop": "connections by asyncio's own loop",
}
"""For each optional module, the replacement that is used when it is not installed."""


def missing_accelerators() -> Iterator[str]:
    """Yield a line of text for each optional module that is not installed."""
    for name, instead in _ACCELERATORS.items():
        if not _is_installed(name):
            yield f"{instead}: {name} is not installed"


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
