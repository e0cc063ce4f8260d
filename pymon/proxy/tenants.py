"""What answers the requests of tenants, put together: the same in a proxy of one process and in a worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pymon.directory.data_dir import MACHINES_FOLDER
from pymon.proxy.access_log import AccessLog
from pymon.proxy.account_metrics import AccountMetrics
from pymon.proxy.authn import REASONS, Authenticator
from pymon.proxy.discovery_cache import DiscoveryCache
from pymon.proxy.join_web import Joining
from pymon.proxy.last_look import LastLook
from pymon.proxy.limits import AddressLimits, PassLimits
from pymon.proxy.relay import Relay
from pymon.proxy.request_log import RequestLog
from pymon.proxy.summary import AccountSummary
from pymon.proxy.turns import Turns
from pymon.proxy.web import ProxyWeb

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from pymon.directory.model import Snapshot
    from pymon.proxy.limits import AccountLimits
    from pymon.proxy.nodes import Nodes
    from pymon.proxy.options import ProxyOptions
    from pymon.proxy.peer_web import PeerWeb
    from pymon.proxy.places import Places
    from pymon.proxy.relay import Others, Reached
    from pymon.proxy.self_metrics import SelfMetrics

FAILED_AUTHENTICATIONS_PER_SECOND = 1.0
FAILED_AUTHENTICATIONS_BURST = 20
"""Limits of failed authentications from one source address. Above them, unknown credentials are not checked."""

_ADDRESSES = 65536


class Tenants:
    """The endpoints of tenants with their limits and caches.

    snapshot: returns the current directory. ready: returns None, or the reason why discovery would be incomplete.
    unknown: as in `ProxyWeb`. hasten: as in `LastLook`. reach, others: as in `Relay`. peers: makes what answers other
    proxies. parts: processes that have memory limits in common; each has its part. failed: called with the source
    address of each failed authentication. hash_key, found_good: see `Authenticator`. look: the last look at the
    directory. port: of the listener, for targets, 0 while it is not known.
    """

    def __init__(
        self,
        options: ProxyOptions,
        places: Places,
        nodes: Nodes,
        metrics: SelfMetrics,
        accounts: AccountLimits,
        passes: PassLimits,
        *,
        snapshot: Callable[[], Snapshot],
        ready: Callable[[], str | None],
        unknown: Callable[[Collection[UUID | None]], str | None],
        hasten: Callable[[], None],
        reach: Reached | None = None,
        others: Others | None = None,
        peers: Callable[[Relay], PeerWeb] | None = None,
        parts: int = 1,
        failed: Callable[[str], None] = lambda _: None,
        hash_key: bytes = b"",
        found_good: Callable[[bytes], None] | None = None,
    ) -> None:
        self.port = options.listen_addresses[0].port
        self.addresses = AddressLimits(FAILED_AUTHENTICATIONS_PER_SECOND, FAILED_AUTHENTICATIONS_BURST, _ADDRESSES)
        self.authenticator = Authenticator(
            snapshot,
            clock=time.time,
            allow_expired_self_signed=options.allow_expired_self_signed,
            hash_key=hash_key,
            found_good=found_good,
        )
        self.look = LastLook(hasten)
        access = None if options.access_log is None else AccessLog(options.access_log, options.log_format)
        self._access = access
        self.requests = RequestLog(metrics, access)
        self.joining = Joining(options.directory, options.data_dir / MACHINES_FOLDER, lambda: self.port)
        self.relay = Relay(nodes.find, metrics.asked_agent, reach, others)
        turns = Turns()
        self.account_metrics = AccountMetrics(places, self.relay, turns, parts=parts)
        self.web = ProxyWeb(
            snapshot,
            self.authenticator,
            places,
            self.relay,
            DiscoveryCache(
                places,
                turns,
                zone=options.zone,
                port=lambda: self.port,
                stopped=options.include_stopped,
                parts=parts,
            ),
            self.account_metrics,
            AccountSummary(places, self.relay, turns, parts=parts),
            metrics,
            self.requests,
            self.joining.answer,
            accounts=accounts,
            passes=passes,
            addresses=self.addresses,
            failed=failed,
            look=self.look,
            ready=ready,
            unknown=unknown,
            peers=peers(self.relay) if peers is not None else None,
            zone=options.zone,
            terminator_header=options.terminator_header,
            terminator_trust=options.terminator_trust,
            parts=parts,
        )
        # Series start at 0, because `rate` does not see the first failure of a series that starts at 1.
        metrics.authentication_failures.update(dict.fromkeys(REASONS, 0))
        metrics.counters(
            "pymon_proxy_scrapes", "Scrapes sent, by route: to the agent, or through another proxy.", ("route",),
            lambda: {(route,): count for route, count in self.relay.routes.items()},
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_shared_scrapes", "Scrapes answered with what another one had asked for.", (),
            lambda: {(): self.relay.shared},
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_account_metrics_cut", "Answers of /v1/account/metrics that ended before their end, by reason.",
            ("reason",), lambda: {(reason,): count for reason, count in self.account_metrics.cut.items()},
        )  # fmt: skip
        metrics.gauge("pymon_proxy_upstream_connections", "Open connections to agents.", nodes.connections)
        metrics.gauge("pymon_proxy_upstream_waiting", "Scrapes that wait for a turn.", nodes.waiting)

    def close(self) -> None:
        """Stop the threads."""
        if self._access is not None:
            self._access.close()
        self.joining.close()
        self.authenticator.close()
