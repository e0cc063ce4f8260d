"""SIGHUP: read the configuration again. SIGUSR1 and SIGUSR2, which would end the process, do nothing."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from pymon.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymon.service.reload import Reload


def read_again_on_signal(read: Callable[[], Callable[[], None]], reload: Reload) -> asyncio.Task[None]:
    """Return a task that reads the configuration again after each SIGHUP. Call it on the event loop.

    read: called on a thread; checks the configuration and returns what applies it, which is called on the loop. It
    raises ConfigError if something in it is not valid: then nothing is applied, and `reload` counts it.
    """
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    # Not the kernel's action "ignore", which plugins would inherit.
    signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(asked.set))
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda *_: None)

    async def keep() -> None:
        while await asked.wait():
            asked.clear()
            try:
                apply = await asyncio.to_thread(read)
            except ConfigError as error:
                reload.failed("the configuration", error, changed=True)
            else:
                apply()
                reload.worked()

    return asyncio.create_task(keep())
