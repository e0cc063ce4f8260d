"""Runs a proxy with all of its listeners: tenants, TLS terminators, telemetry and DNS."""

from __future__ import annotations

import asyncio
import ctypes
import sys
from typing import TYPE_CHECKING

from pymon.config import Address
from pymon.dns.tsig import LiveKeys
from pymon.front.keys import follow_keys
from pymon.front.names import own_addresses, serve_names, wanted
from pymon.front.node_sources import follow_lists
from pymon.front.servers import SWITCH_SECONDS, TenantServers
from pymon.front.workers import Workers
from pymon.proxy.telemetry import serve_telemetry
from pymon.service.serve import serve
from pymon.service.together import together

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymon.config import Listen
    from pymon.dns.options import DnsOptions
    from pymon.proxy.build import Proxy
    from pymon.proxy.options import ProxyOptions
    from pymon.service.reload import FileThread

_WILDCARDS = frozenset(("", "0.0.0.0", "::"))  # noqa: S104  # what it does not listen on

MAPPED_BYTES = 1 << 20
"""Blocks of memory from this size are taken from the kernel one by one."""

_M_MMAP_THRESHOLD = -3  # mallopt(3)


def _map_large_blocks() -> None:
    """Have glibc take large blocks of memory from the kernel one by one, and give them back when they are freed.

    By default it raises the limit to the size of the largest block freed so far. Large answers of agents then grow by
    copies, which block the event loop for milliseconds, and leave holes in the heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)


async def serve_proxy(
    proxy: Proxy,
    options: ProxyOptions,
    dns: DnsOptions,
    stop: asyncio.Event,
    started: Callable[[str, tuple[Listen, ...]], None],
) -> None:
    """Serve until `stop` is set and `options.drain_seconds` have passed.

    In this time the proxy is not ready and not in DNS, and each connection is closed after its next answer.
    started: called with the part ("proxy", "terminator", "telemetry" or "dns") and its addresses once it listens.
    """
    # Each time an event arrives, a computing thread delays the event loop by up to this interval.
    sys.setswitchinterval(SWITCH_SECONDS)
    _map_large_blocks()
    metrics = proxy.metrics
    servers = TenantServers(proxy.tenants, metrics, options, closing=lambda: proxy.presence.left)
    proxy.reloads += servers.reloads
    proxy.peers.fingerprint = servers.fingerprint
    files: list[FileThread] = []
    workers = None
    if options.workers > 1:
        workers = Workers(proxy, options)
        metrics.others = workers.samples

    def listening(name: str) -> Callable[[tuple[Listen, ...]], None]:
        def tell(addresses: tuple[Listen, ...]) -> None:
            if name == "proxy" and isinstance(addresses[0], Address):
                proxy.tenants.port = addresses[0].port
                proxy.peers.url = peer_url(options, dns, addresses[0])
                proxy.peers.tell()
            started(name, addresses)

        return tell

    ended = asyncio.Event()

    async def drain() -> None:
        await stop.wait()
        servers.drain()
        await asyncio.sleep(options.drain_seconds)
        ended.set()
        # Stop first: agents may stop at the same time, and their absence would be logged as failures.
        await proxy.stop_following()

    if isinstance(dns.keys, LiveKeys):
        files.append(follow_keys(proxy, dns.keys))
    proxy.peers.addresses = own_addresses(dns, options.listen_addresses) if wanted(dns) else ()
    proxy.start()
    servers.start()
    for one in files:
        one.start()
    try:
        await proxy.poller.loaded()
        async with together() as group:
            group.create_task(drain())
            group.create_task(follow_lists(options, stop))
            if wanted(dns):
                group.create_task(
                    serve_names(proxy, options, dns, stop, ended, lambda addresses: started("dns", addresses))
                )
            group.create_task(
                serve_telemetry(
                    metrics,
                    proxy.not_ready,
                    options.telemetry_address,
                    stop=ended,
                    started=listening("telemetry"),
                    collect=workers.collect if workers is not None else None,
                )
            )
            if workers is not None:
                group.create_task(workers.serve(tuple(servers.by_name), stop=stop, started=listening))
            else:
                for name, (server, addresses) in servers.by_name.items():
                    group.create_task(serve(server, addresses, stop=ended, started=listening(name)), name=name)
    finally:
        servers.stop()
        for one in files:
            one.stop()
        await proxy.stop()


def peer_url(options: ProxyOptions, dns: DnsOptions, bound: Address) -> str:
    """Return the URL at which other proxies reach this one, "" if that is not known. bound: where it listens."""
    given = options.peer_address
    host, port = (given.host, given.port or bound.port) if given is not None else (bound.host, bound.port)
    if host in _WILDCARDS:
        host = dns.proxy_addresses[0] if dns.proxy_addresses else ""
    return f"https://{Address(host, port)}" if host else ""
