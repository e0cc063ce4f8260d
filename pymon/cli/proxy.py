"""``pymon proxy``: answer tenants' scrapes and discovery from the agents of many nodes."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import uvloop

import pymon
from pymon.cli.names import check_names, serve_names, wanted
from pymon.config import Address
from pymon.dns.options import DnsOptions, dns_options
from pymon.dns.options import typed as dns_typed
from pymon.log import setup
from pymon.proxy.build import Proxy
from pymon.proxy.options import ProxyOptions, load_proxy_options
from pymon.proxy.telemetry import TelemetryWeb
from pymon.proxy.tls import LiveContext
from pymon.service.gate import Gate, GateLimits
from pymon.service.serve import Server, serve, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.config import Listen

_log = logging.getLogger("pymon.proxy")

HANDSHAKES_PER_SECOND = 200.0
HANDSHAKES_BURST = 2000
"""Of one source address: a Prometheus with 10,000 targets that begins anew, at one scrape a minute."""


def run(argv: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT."""
    version = f"pymon {pymon.__version__}"
    options, settings = load_proxy_options(argv, os.environ, os.geteuid(), version=version, more=dns_options())
    dns = dns_typed(settings)
    check_names(dns, options.zone, options.listen_addresses)
    setup(options.log_level, options.log_format)
    uvloop.run(_run(options, dns))
    return 0


async def _run(options: ProxyOptions, dns: DnsOptions) -> None:
    stop = stop_on_signals()
    await serve_proxy(Proxy(options), options, dns, stop, started)


async def serve_proxy(
    proxy: Proxy,
    options: ProxyOptions,
    dns: DnsOptions,
    stop: asyncio.Event,
    started: Callable[[str, tuple[Listen, ...]], None],
) -> None:
    """Serve until `stop`. started: called with "proxy", "terminator", "telemetry" or "dns", and the addresses of it."""
    metrics = proxy.metrics
    gate = Gate(GateLimits(handshakes_per_second=HANDSHAKES_PER_SECOND, handshakes_burst=HANDSHAKES_BURST))
    metrics.counters(
        "pymon_proxy_handshakes", "TLS handshakes, by outcome.", ("outcome",),
        lambda: {(outcome,): count for outcome, count in gate.handshakes.items()},
    )  # fmt: skip
    metrics.counters(
        "pymon_proxy_connections_refused", "Connections ended before their first request, by reason.", ("reason",),
        lambda: {(reason,): count for reason, count in gate.refused.items()},
    )  # fmt: skip

    def malformed(status: int) -> None:
        metrics.requests["", "malformed", status] += 1

    web = proxy.web
    telemetry = TelemetryWeb(metrics.registry, proxy.ready)
    servers: list[tuple[str, Server, Sequence[Listen], Callable[[], None]]] = [
        ("telemetry", Server(telemetry.handle, lambda _: None, None), [options.telemetry_address], telemetry.stopping)
    ]
    if options.tls_cert is not None and options.tls_key is not None:
        context = LiveContext(options.tls_cert, options.tls_key)
        server = Server(web.handle, malformed, context, gate=gate, handler_cancellation=True)
        servers.append(("proxy", server, options.listen_addresses, web.stopping))
    if options.terminator_addresses:
        server = Server(web.handle_terminated, malformed, None, handler_cancellation=True)
        servers.append(("terminator", server, options.terminator_addresses, web.stopping))

    def listening(name: str) -> Callable[[tuple[Listen, ...]], None]:
        def tell(addresses: tuple[Listen, ...]) -> None:
            if name == "proxy" and isinstance(addresses[0], Address):
                proxy.port = addresses[0].port
            started(name, addresses)

        return tell

    async def stop_following() -> None:
        # Before the agents that may end with us, whose absence would be news.
        await stop.wait()
        await proxy.stop_following()

    proxy.start()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(stop_following())
            if wanted(dns):
                group.create_task(serve_names(proxy, options, dns, stop, lambda addresses: started("dns", addresses)))
            for name, server, addresses, stopping in servers:
                group.create_task(
                    serve(server, addresses, stop=stop, stopping=stopping, started=listening(name)), name=name
                )
    except* OSError as errors:
        # One line about the first: the others ended because of it.
        raise errors.exceptions[0] from None
    finally:
        await proxy.stop()


def started(name: str, addresses: tuple[Listen, ...]) -> None:
    """Log where a part listens."""
    for address in addresses:
        _log.info("listening", extra={"fields": {"part": name, "address": str(address)}})
