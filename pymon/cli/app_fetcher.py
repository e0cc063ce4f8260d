"""``pymon app-fetcher``: fetch the metrics of applications for an agent, from inside their containers' network."""

from __future__ import annotations

import logging
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pymon
from pymon.apps.fetcher import Fetcher, listening
from pymon.apps.namespace import host_namespace
from pymon.apps.privileges import SystemCalls
from pymon.apps.protocol import DEFAULT_SOCKET
from pymon.config import (
    LOG_FORMAT,
    LOG_LEVEL,
    PATH,
    ConfigError,
    LogFormat,
    LogLevel,
    load,
    option,
    options_of,
    setting,
    values_of,
)
from pymon.log import setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.config import Option

_log = logging.getLogger("pymon.app-fetcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    socket: Path = option("socket", PATH, Path(DEFAULT_SOCKET), "Unix socket to listen on, for root and for this "
        "process' group.")  # fmt: skip
    log_level: LogLevel = setting(LOG_LEVEL)
    log_format: LogFormat = setting(LOG_FORMAT)


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return options_of(_Options)


def run(argv: Sequence[str]) -> int:
    """Answer an agent until SIGTERM or SIGINT. Return the exit code."""
    settings = load(
        option_table(),
        argv,
        os.environ,
        program="pymon app-fetcher",
        description="Fetch the metrics of applications for the agent, from inside their containers' network.",
        version=f"pymon {pymon.__version__}",
    )
    options = _Options(**values_of(_Options, settings))
    setup(options.log_level, options.log_format)
    if os.geteuid():
        raise ConfigError("app-fetcher: expected to run as root, which may enter network namespaces")
    calls = None
    try:
        calls = SystemCalls()
    except OSError as error:
        _log.warning("no filter of system calls: %s", error)
    host, certain = host_namespace()
    if not certain:
        _log.warning("the first process may not be looked at: this process' network counts as the host's")
    stop, waking = socket.socketpair()
    with stop, waking, listening(options.socket) as listener:
        waking.setblocking(False)
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        _log.info("listening", extra={"fields": {"socket": options.socket, "seccomp": calls is not None}})
        Fetcher(listener, host, calls).run(stop.fileno())
    return 0
