"""The event loop that everything is served on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on uvloop, or on asyncio's own loop where that is not installed.

    The garbage collector does not look through what exists now, mostly modules, any more. Each look would block the
    event loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    try:
        import uvloop  # noqa: PLC0415 - it takes a while to load, and is not for every platform
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
