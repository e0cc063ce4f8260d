"""The servers of tenants and of TLS terminators: the same in a proxy of one process and in a worker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pymon.proxy.tls import FollowedContext, LiveContext
from pymon.service.gate import Gate, GateLimits
from pymon.service.reload import FileThread
from pymon.service.server import Server, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymon.config import Listen
    from pymon.proxy.options import ProxyOptions
    from pymon.proxy.self_metrics import SelfMetrics
    from pymon.proxy.tenants import Tenants
    from pymon.service.reload import Reload

SWITCH_SECONDS = 0.0005
"""How long a thread keeps the GIL while another thread waits for it."""

HANDSHAKES_PER_SECOND = 200.0
HANDSHAKES_BURST = 2000
"""Limits of TLS handshakes from one source address: enough for a restarted Prometheus with 10,000 targets at one scrape
a minute."""


class TenantServers:
    """The servers of tenants and of TLS terminators.

    by_name: server and addresses of "proxy" and "terminator". reloads: what became of reading their files again.

    The constructor raises ConfigError for a certificate that cannot be used.
    """

    def __init__(
        self,
        tenants: Tenants,
        metrics: SelfMetrics,
        options: ProxyOptions,
        *,
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        """closing: returns whether kept connections are to be closed after their next answer."""
        self.by_name: dict[str, tuple[Server, Sequence[Listen]]] = {}
        self.reloads: list[Reload] = []
        self.fingerprint: Callable[[], str] = lambda: ""
        """Returns the SHA-256 of the server's certificate, "" without one."""
        self._web = tenants.web
        self._files: list[FileThread] = []
        parts = options.workers
        limits = GateLimits()
        gate = Gate(
            GateLimits(
                pending=limits.pending // parts,
                pending_of_source=limits.pending_of_source // parts,
                handshakes_per_second=HANDSHAKES_PER_SECOND / parts,
                handshakes_burst=HANDSHAKES_BURST // parts,
            )
        )
        metrics.counters(
            "pymon_proxy_handshakes", "TLS handshakes, by outcome.", ("outcome",),
            lambda: {(outcome,): count for outcome, count in gate.handshakes.items()},
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_connections_refused", "Connections ended before their first request, by reason.", ("reason",),
            lambda: {(reason,): count for reason, count in gate.refused.items()},
        )  # fmt: skip

        def malformed(_: int) -> None:
            pass  # `Server.refused` counts

        times = Times(age=options.connection_age_seconds or math.inf)
        if options.tls_cert is not None and options.tls_key is not None:
            context = LiveContext(options.tls_cert, options.tls_key)
            self.reloads.append(context.reload)
            self._files.append(FileThread("server certificate", context.refresh))
            server = Server(
                self._web.handle, malformed, FollowedContext(context), gate=gate, cancel_handlers=True, times=times
            )
            server.closing = closing
            server.refused = tenants.requests.refused
            self.fingerprint = lambda: context.fingerprint
            self.by_name["proxy"] = server, options.listen_addresses
        if options.terminator_addresses:
            server = Server(self._web.handle_terminated, malformed, None, cancel_handlers=True, times=times)
            server.refused = tenants.requests.refused
            self.by_name["terminator"] = server, options.terminator_addresses

    def start(self) -> None:
        """Read files again when they change, from now on."""
        for one in self._files:
            one.start()

    def stop(self) -> None:
        """Stop reading files."""
        for one in self._files:
            one.stop()

    def drain(self) -> None:
        """Say that this process is ending, and close each connection after its next answer."""
        self._web.ending = True
        for server, _ in self.by_name.values():
            server.stopping = True
