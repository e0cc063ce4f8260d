"""The end of a process that serves: at a signal, gracefully, and in time whatever hangs."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time

END_SECONDS = 5.0
"""The most time from the end of the service to the end of the process."""

_MARGIN_SECONDS = 0.5

SAME_SECONDS = 0.2
"""A signal that follows the first one within this time is the same request."""


def stop_on_signals(*signals: signal.Signals, drain_seconds: float = 0.0) -> asyncio.Event:
    """Return an event that the first of the signals sets, by default SIGTERM and SIGINT. Call it on the event loop.

    From then on the process ends within `drain_seconds` and `END_SECONDS`, whatever hangs, and a second signal ends it
    at once, unless it comes within `SAME_SECONDS`. The handlers are not the event loop's, which may hang itself.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = signals or (signal.SIGTERM, signal.SIGINT)

    def first(*_: object) -> None:
        same_until = time.monotonic() + SAME_SECONDS

        def again(number: int, _: object) -> None:
            if time.monotonic() < same_until:
                return
            if os.getpid() == 1:  # the first process of a container, which the kernel's own action does not end
                os._exit(1)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        # Not the kernel's own action: for a signal that has just arrived Python would write a traceback then.
        for number in numbers:
            signal.signal(number, again)
        end_within(drain_seconds + END_SECONDS - _MARGIN_SECONDS)
        loop.call_soon_threadsafe(stop.set)

    for number in numbers:
        signal.signal(number, first)
    return stop


def end_within(seconds: float, status: int = 0) -> None:
    """End this process with this exit code after `seconds`, unless it ends by itself before. What hangs is left."""

    def end() -> None:
        time.sleep(seconds)
        if select.select([], [sys.stderr], [], 0)[1]:  # a line that waits for its reader would wait for ever
            os.write(sys.stderr.fileno(), b"pymon: ended without what did not end in time\n")
        os._exit(status)

    threading.Thread(target=end, name="end", daemon=True).start()
