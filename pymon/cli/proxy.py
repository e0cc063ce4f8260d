"""``pymon proxy``: answer tenants' scrapes and discovery from the agents of many nodes."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pymon
from pymon.data_lock import locked
from pymon.dns.options import DnsOptions, dns_options
from pymon.dns.options import typed as dns_typed
from pymon.front.names import check_names
from pymon.front.proxy import serve_proxy
from pymon.log import setup
from pymon.proxy import access_log
from pymon.proxy.build import Proxy
from pymon.proxy.options import ProxyOptions, load_proxy_options
from pymon.proxy.options import option_table as proxy_table
from pymon.service.ending import stop_on_signals
from pymon.service.loop import run as run_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymon.config import Listen, Option

_log = logging.getLogger("pymon.proxy")


def option_table() -> tuple[Option, ...]:
    """Return the options of the command."""
    return *proxy_table(), *dns_options()


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code."""
    version = f"pymon {pymon.__version__}"
    options, settings = load_proxy_options(argv, os.environ, os.geteuid(), version=version, more=dns_options())
    dns = dns_typed(settings)
    check_names(dns, options.zone, options.listen_addresses)
    setup(options.log_level, options.log_format)
    if options.access_log is not None:
        access_log.check(options.access_log)
    with locked(options.data_dir, "proxy"):
        run_loop(_run(options, dns))
    return 0


async def _run(options: ProxyOptions, dns: DnsOptions) -> None:
    stop = stop_on_signals(drain_seconds=options.drain_seconds)
    await serve_proxy(Proxy(options), options, dns, stop, _started)


def _started(name: str, addresses: tuple[Listen, ...]) -> None:
    """Log the addresses on which a part of the proxy listens."""
    for address in addresses:
        _log.info("listening", extra={"fields": {"part": name, "address": str(address)}})
