"""Builds a proxy from its options."""

from __future__ import annotations

import asyncio
import math
import secrets
import socket
import ssl
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pymon.directory.live import LiveDirectory
from pymon.directory.presence import Presence
from pymon.exposition.reload_metrics import tell_of_reloads
from pymon.proxy.claims import Claims
from pymon.proxy.credential_ends import CredentialEnds
from pymon.proxy.fair import FairGate
from pymon.proxy.fleet import Fleet
from pymon.proxy.holders import Holders
from pymon.proxy.inventory import Poller
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.last_look import HASTY_BURST, HASTY_PER_SECOND
from pymon.proxy.limits import AccountLimits, PassLimits
from pymon.proxy.nodes import Nodes
from pymon.proxy.peer_identity import PeerIdentity, authorities
from pymon.proxy.peer_web import Knowledge, PeerWeb
from pymon.proxy.peers import Peers
from pymon.proxy.quota_shares import QuotaShares
from pymon.proxy.reach import Reach
from pymon.proxy.self_metrics import SelfMetrics
from pymon.proxy.tenants import Tenants
from pymon.service.reload import first_end
from pymon.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from uuid import UUID

    from pymon.directory.model import Snapshot
    from pymon.proxy.options import ProxyOptions

DIRECTORY_COPY = "directory-copy.json"
HOLDERS_COPY = "holders-copy.jsonl"
PRESENCE_COPY = "presence-copy.json"
INVENTORY_FOLDER = "inventory"
"""Names in the data directory: the copies of the directory, of the holders of UUIDs and of the other proxies, and the
folder with the last inventory of each node."""

FIRST_ANSWER_SECONDS = 10.0
"""How long after the start discovery waits for nodes whose inventory is unknown."""


class Proxy:
    """All parts of a proxy except its sockets. Call `start` and `stop` on one event loop.

    reloads: what became of reading files again, for metrics. Whoever reads other files for this proxy adds his.

    The constructor raises ConfigError for bad options.
    """

    def __init__(self, options: ProxyOptions) -> None:
        self.metrics = SelfMetrics()
        self.fleet = Fleet(Claims(max_containers=options.node_max_containers))
        self.live = LiveDirectory(options.directory, options.data_dir / DIRECTORY_COPY, self._changed, self._seen)
        self.holders = Holders(options.directory, options.data_dir / HOLDERS_COPY, self.fleet)
        name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self.presence = Presence(options.directory, name, options.data_dir / PRESENCE_COPY)
        self._nodes = Nodes(options, lambda _: FairGate(options.upstream_max_requests))
        self._hasty = TokenBucket(HASTY_PER_SECOND, HASTY_BURST)
        self.reloads = list(self._nodes.reloads)
        self._tasks: list[asyncio.Task[None]] = []
        self._reached: tuple[Snapshot, int, Snapshot] | None = None
        self._unknown: tuple[Snapshot, bool, int, list[str]] | None = None
        self.reach = Reach(lambda name: self._nodes.find(name).upstream)
        self.peers = Peers(self.presence, self.reach, lambda: self.live.snapshot.nodes, lambda: self._nodes.pinned)
        self._nodes.renewed = lambda: self.peers.use(self._nodes.pinned)
        self.peer_identity = PeerIdentity(authorities(options.data_dir, options.upstream_ca), options.peer_crl)
        self.store = InventoryStore(options.data_dir / INVENTORY_FOLDER)
        self.poller = Poller(
            self.fleet,
            lambda: self.live.snapshot,
            lambda node: self._nodes.newest(node.name),
            self.store,
            pins=self.holders,
            answered=self._answered,
            copies=self.peers,
            reach=self.reach.tell,
            max_containers=options.node_max_containers,
        )
        self.knowledge = Knowledge(self.poller.heard, self.reach)
        accounts = AccountLimits()
        self.quotas = QuotaShares(options.directory, accounts)
        self.tenants = Tenants(
            options,
            self.fleet,
            self._nodes,
            self.metrics,
            accounts,
            PassLimits(),
            snapshot=lambda: self.live.snapshot,
            ready=self.incomplete,
            unknown=self.unknown,
            hasten=self.hasten,
            reach=self.reach,
            others=self.peers,
            peers=lambda relay: PeerWeb(self.peer_identity, self.knowledge.known, relay),
        )
        self.directory_changed: Callable[[], None] = lambda: None
        """Called after a change of the directory."""
        self.directory_seen: Callable[[float], None] = self.tenants.look.seen
        """Called after each look at the directory, with the time when it began."""
        self.not_serving: Callable[[], str | None] = lambda: None
        """Returns None, or the reason why requests are not answered."""
        self._started_at = 0.0
        self._tell()

    def start(self) -> None:
        """Load the directory, and start following it and the nodes. Raises DirectoryError when it is unusable."""
        self.peer_identity.refresh()
        self.live.start()
        self.peers.start()
        self.presence.start()
        self.fleet.resolve_owners(self.live.snapshot)
        self.holders.start()
        self._started_at = asyncio.get_running_loop().time()
        self._changed(self.live.snapshot)
        self.quotas.start()
        self._nodes.start()
        tasks = (self.tenants.joining.announce(), self.peer_identity.follow())
        self._tasks = [asyncio.create_task(one) for one in tasks]

    async def stop_following(self) -> None:
        """Stop following the directory and the nodes. May be called more than once."""
        await asyncio.gather(
            self.presence.stop(),
            self.live.stop(),
            self.poller.stop(),
            self.quotas.stop(),
            self.reach.stop(),
            self.peers.stop(),
        )
        await self.holders.stop()

    async def stop(self) -> None:
        """Stop all tasks and close all connections."""
        for task in self._tasks:
            task.cancel()
        await self.stop_following()
        self._nodes.close()
        self.tenants.close()

    def _changed(self, snapshot: Snapshot) -> None:
        self.fleet.resolve_owners(snapshot)
        self._nodes.set(snapshot.nodes)
        self.poller.set_nodes(snapshot.nodes)
        self.directory_changed()

    def hasten(self) -> None:
        """Look at the directory now, unless this was asked for too often."""
        if not self._hasty.take(time.monotonic()):
            self.live.hasten()

    def _seen(self, at: float) -> None:
        self.directory_seen(at)

    def _answered(self, name: str) -> None:
        if self._nodes.answered(name):
            self.directory_changed()

    def directory(self) -> Snapshot:
        """Return the directory with the nodes as they are reached now. Equal until one of both changes."""
        snapshot, version = self.live.snapshot, self._nodes.version
        if self._reached is None or self._reached[0] is not snapshot or self._reached[1] != version:
            moving = self._nodes.moving()
            reached = replace(snapshot, nodes={**snapshot.nodes, **moving}) if moving else snapshot
            self._reached = snapshot, version, reached
        return self._reached[2]

    def not_ready(self) -> str | None:
        """Return None, or the reason why new clients should go to another proxy."""
        return "it is ending" if self.tenants.web.ending else self.ready()

    def ready(self) -> str | None:
        """Return None, or the reason why the proxy should get no requests."""
        return self.incomplete() or self.not_serving()

    def incomplete(self) -> str | None:
        """Return None, or the reason why discovery would be incomplete.

        It is incomplete when no node has answered, or when a node may still answer soon after the start.
        """
        if not self._started_at:
            return "the directory is not loaded"
        nodes = self.live.snapshot.nodes
        if nodes and all(math.isinf(self.poller.age_seconds(name)) for name in nodes):
            return "no node was heard yet"
        if asyncio.get_running_loop().time() - self._started_at >= FIRST_ANSWER_SECONDS:
            return None
        unknown = self.poller.unknown()
        return f"node {unknown[0]} was not asked yet" if unknown else None

    def _ends(self) -> dict[str, float]:
        """Return when the certificates that are used or trusted end, by use, in seconds since the epoch."""
        ends = {one.use: one.ends_at for one in self.reloads} | self._nodes.ends()
        if (authority := self.live.snapshot.authority) is not None:
            ends["tenants_authority"] = first_end(ssl.DER_cert_to_PEM_cert(authority).encode())
        return ends

    def unknown(self, owners: Collection[UUID | None]) -> str | None:
        """Return the name of a node of which nothing is known and that may have containers of these owners, or None.

        A node that no proxy has ever heard has no UUID in the directory. Nobody has its containers, so it counts only
        where UUIDs are not in the directory.
        """
        allowed = self.fleet.claims.allowed
        return next((name for name in self.unknown_nodes() if any(allowed(name, owner) for owner in owners)), None)

    def unknown_nodes(self) -> list[str]:
        """Return the names of the nodes that a proxy has heard and of which this one knows nothing."""
        snapshot, durable, version = self.live.snapshot, self.fleet.claims.durable, self.poller.never_heard_version
        before = self._unknown
        if before is None or before[0] is not snapshot or before[1:3] != (durable, version):
            known = ((name, snapshot.nodes.get(name)) for name in sorted(self.poller.never_heard))
            names = [name for name, node in known if node is not None and (node.uuid is not None or not durable)]
            self._unknown = before = snapshot, durable, version, names
        return before[3]

    def _tell(self) -> None:
        """Register the metrics that are read from other parts at each scrape."""
        metrics, poller = self.metrics, self.poller
        metrics.gauges(
            "pymon_proxy_inventory_age_seconds", "Time since the node last said what it has.", ("node",),
            lambda: {
                (name,): age for name in self.live.snapshot.nodes if math.isfinite(age := poller.age_seconds(name))
            },
        )  # fmt: skip
        metrics.gauges(
            "pymon_proxy_inventory_up", "Whether the node's last inventory could be read.", ("node",),
            lambda: {(name,): float(poller.up(name)) for name in self.live.snapshot.nodes},
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_inventory_failures", "Inventories that could not be read, by node and reason.",
            ("node", "reason"), lambda: dict(poller.failures.items()),
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_inventory_conflicts", "Containers that a second node began to claim.", (),
            lambda: {(): self.fleet.conflicts},
        )  # fmt: skip
        metrics.counters(
            "pymon_proxy_claims_refused", "Claims to UUIDs that were refused, by node and reason.", ("node", "reason"),
            lambda: dict(self.fleet.claims.counts.items()),
        )  # fmt: skip
        metrics.gauges(
            "pymon_proxy_containers_left_out", "Containers of the node beyond what a node may have.", ("node",),
            lambda: {(name,): float(poller.left_out(name)) for name in self.live.snapshot.nodes},
        )  # fmt: skip
        metrics.gauge(
            "pymon_proxy_holders", "UUIDs that cannot be checked and have a holder.",
            lambda: len(self.fleet.claims.rows),
        )  # fmt: skip
        metrics.gauge(
            "pymon_proxy_holders_up", "Whether the last look at the holders in the directory went well.",
            lambda: float(not self.holders.error),
        )  # fmt: skip
        metrics.gauge(
            "pymon_proxy_quota_proxies", "Proxies among which quotas are divided, this one included.",
            lambda: self.quotas.proxies,
        )  # fmt: skip
        metrics.gauge(
            "pymon_proxy_quota_exchange_up", "Whether the last exchange of demands with the other proxies went well.",
            lambda: float(not self.quotas.error),
        )  # fmt: skip
        metrics.gauge("pymon_proxy_nodes_reached", "Nodes whose agents answer this proxy.",
                      lambda: len(self.reach.reached))  # fmt: skip
        metrics.gauge(
            "pymon_proxy_nodes_unknown", "Nodes that other proxies have heard and of which this one knows nothing.",
            lambda: len(self.unknown_nodes()),
        )  # fmt: skip
        metrics.gauge("pymon_proxy_peers", "Other proxies that say how they are reached.",
                      lambda: len(self.presence.alive.peers.keys() - {self.presence.name}))  # fmt: skip
        metrics.gauge("pymon_proxy_left", "Whether this proxy is out of DNS because it reaches too few nodes.",
                      lambda: float(self.presence.left))  # fmt: skip
        metrics.gauges(
            "pymon_proxy_copy_pending", "Copies on disk that could not be written yet, by what they hold.", ("of",),
            lambda: {
                ("directory",): float(bool(self.live.copy_error)),
                ("holders",): float(bool(self.holders.copy_error)),
                ("inventories",): float(len(self.store.unwritten)),
                ("proxies",): float(bool(self.presence.copy_error)),
            },
        )  # fmt: skip
        metrics.gauge("pymon_proxy_containers", "Containers that can be scraped.", lambda: len(self.fleet))
        metrics.gauges(
            "pymon_proxy_upstream_certificate_expiry_time_seconds",
            "When the certificate that is shown to agents expires, in seconds since the epoch.", (),
            lambda: {(): ends_at} if math.isfinite(ends_at := self._nodes.certificate_ends_at) else {},
        )  # fmt: skip
        tell_of_reloads(metrics, self.reloads, self._ends)
        metrics.gauges(
            "pymon_proxy_credential_expiry_timestamp_seconds",
            "When the next token or certificate of an account expires, in seconds since the epoch.",
            ("account", "kind"), CredentialEnds(lambda: self.live.snapshot, time.time).values,
        )  # fmt: skip
        metrics.gauge(
            "pymon_proxy_directory_age_seconds", "Time since the directory was last read.", self.live.age_seconds
        )
        metrics.gauge(
            "pymon_proxy_directory_up", "Whether the directory has answered within the last 5 s.",
            lambda: float(self.live.up()),
        )  # fmt: skip
