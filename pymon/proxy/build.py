"""Putting a proxy together from its options."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from typing import TYPE_CHECKING

from pymon.config import ConfigError
from pymon.directory.live import LiveDirectory
from pymon.proxy.account_metrics import AccountMetrics
from pymon.proxy.authn import REASONS, Authenticator
from pymon.proxy.discovery_cache import DiscoveryCache
from pymon.proxy.fleet import Fleet
from pymon.proxy.inventory import Poller
from pymon.proxy.inventory_store import InventoryStore
from pymon.proxy.limits import AccountLimits, AddressLimits
from pymon.proxy.relay import Node as RelayNode
from pymon.proxy.relay import Relay
from pymon.proxy.self_metrics import SelfMetrics
from pymon.proxy.turns import Turns
from pymon.proxy.upstream import Upstream
from pymon.proxy.web import ProxyWeb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymon.directory.model import Node, Snapshot
    from pymon.proxy.options import ProxyOptions

DIRECTORY_COPY = "directory-copy.json"
INVENTORY_FOLDER = "inventory"
"""In the data directory: what was last known of accounts and nodes, and of each node's containers."""

FAILED_AUTHENTICATIONS_PER_SECOND = 1.0
FAILED_AUTHENTICATIONS_BURST = 20
"""From one source address, before anything more is computed for it."""

FIRST_ANSWER_SECONDS = 10.0
"""After the start a node that was never heard may take so long before discovery goes on without it."""

_ADDRESSES = 65536


class Nodes:
    """The agents of the directory's nodes: how each is reached, and the turns that accounts take."""

    def __init__(self, context: ssl.SSLContext, pinned: ssl.SSLContext, *, slots: int) -> None:
        self._context = context
        self._pinned = pinned
        self._slots = slots
        self._nodes: dict[str, tuple[Node, RelayNode]] = {}

    def find(self, name: str) -> RelayNode:
        """A node by its name. KeyError when it is not in the directory."""
        return self._nodes[name][1]

    def set(self, nodes: Mapping[str, Node]) -> None:
        """Have these nodes and no others. One that is reached in another way is a new one."""
        for name, (node, known) in tuple(self._nodes.items()):
            if nodes.get(name) != node:
                del self._nodes[name]
                known.upstream.close()
        for name, node in nodes.items():
            if name not in self._nodes:
                self._nodes[name] = (node, RelayNode(self._upstream(node), self._slots))

    def close(self) -> None:
        """End every connection."""
        self.set({})

    def connections(self) -> int:
        """Open ones."""
        return sum(known.upstream.connections for _, known in self._nodes.values())

    def waiting(self) -> int:
        """Scrapes that wait for their turn."""
        return sum(known.gate.waiting for _, known in self._nodes.values())

    def _upstream(self, node: Node) -> Upstream:
        context = self._pinned if node.tls_fingerprint else self._context
        return Upstream(node.url, context, server_name=node.tls_server_name, fingerprint=node.tls_fingerprint)


def client_context(options: ProxyOptions, *, pinned: bool = False) -> ssl.SSLContext:
    """For TLS to agents. ConfigError names the file that cannot be used.

    pinned: for agents whose certificate is known by its fingerprint, which nobody needs to have signed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    ca, cert, key = options.upstream_ca, options.upstream_cert, options.upstream_key
    if pinned:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    try:
        file = ca
        if ca is not None and not pinned:
            context.load_verify_locations(cafile=ca)
        file = cert
        if cert is not None and key is not None:
            context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = (error.reason or "no PEM") if isinstance(error, ssl.SSLError) else error
        what = "certificates" if file is ca else f"a certificate and its key in {key}"
        raise ConfigError(f"{file}: expected {what} in PEM: {reason}") from None
    except OSError as error:
        raise ConfigError(f"{error.filename or file}: cannot be read: {error.strerror}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


class Proxy:
    """A proxy without its sockets. `start` and `stop` belong to one loop. ConfigError where the options are wrong."""

    def __init__(self, options: ProxyOptions) -> None:
        self.metrics = SelfMetrics()
        # A rate sees nothing of the first failure if its series begins with it.
        self.metrics.authentication_failures.update(dict.fromkeys(REASONS, 0))
        self.fleet = Fleet()
        self.live = LiveDirectory(options.directory, options.data_dir / DIRECTORY_COPY, self._changed)
        self._nodes = Nodes(
            client_context(options), client_context(options, pinned=True), slots=options.upstream_max_requests
        )
        self.authenticator = Authenticator(
            lambda: self.live.snapshot,
            clock=time.time,
            allow_expired_self_signed=options.allow_expired_self_signed,
        )
        self.relay = Relay(self._nodes.find, self.metrics.upstream.observe)
        self.poller = Poller(
            self.fleet,
            lambda: self.live.snapshot,
            lambda node: self._nodes.find(node.name).upstream,
            InventoryStore(options.data_dir / INVENTORY_FOLDER),
        )
        self.port = options.listen_addresses[0].port
        accounts = AccountLimits()
        turns = Turns()
        self.web = ProxyWeb(
            lambda: self.live.snapshot,
            self.authenticator,
            self.fleet,
            self.relay,
            DiscoveryCache(
                self.fleet, turns, zone=options.zone, port=lambda: self.port, stopped=options.include_stopped
            ),
            AccountMetrics(self.fleet, self.relay, turns, accounts.charge),
            self.metrics,
            accounts=accounts,
            addresses=AddressLimits(FAILED_AUTHENTICATIONS_PER_SECOND, FAILED_AUTHENTICATIONS_BURST, _ADDRESSES),
            ready=self.ready,
            zone=options.zone,
            terminator_header=options.terminator_header,
            terminator_trust=options.terminator_trust,
        )
        self._started_at = 0.0
        self._tell()

    def start(self) -> None:
        """Load the directory and begin to follow it and the nodes. DirectoryError when it is not usable."""
        self.live.start()
        self._started_at = asyncio.get_running_loop().time()
        self._changed(self.live.snapshot)

    async def stop_following(self) -> None:
        """Look at the directory and the nodes no more. Again is allowed."""
        await asyncio.gather(self.live.stop(), self.poller.stop())

    async def stop(self) -> None:
        """Let go of everything."""
        await self.stop_following()
        self._nodes.close()
        self.authenticator.close()

    def _changed(self, snapshot: Snapshot) -> None:
        self.fleet.resolve_owners(snapshot)
        self._nodes.set(snapshot.nodes)
        self.poller.set_nodes(snapshot.nodes)

    def ready(self) -> str | None:
        """None, or why discovery would be less than the truth: no node was heard, or one may still answer."""
        if not self._started_at:
            return "the directory is not loaded"
        nodes = self.live.snapshot.nodes
        if nodes and all(math.isinf(self.poller.age_seconds(name)) for name in nodes):
            return "no node was heard yet"
        unknown = self.poller.unknown()
        if unknown and asyncio.get_running_loop().time() - self._started_at < FIRST_ANSWER_SECONDS:
            return f"node {unknown[0]} was not asked yet"
        return None

    def _tell(self) -> None:
        """What is read when the proxy's metrics are."""
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
            "pymon_proxy_shared_scrapes", "Scrapes answered with what another one had asked for.", (),
            lambda: {(): self.relay.shared},
        )  # fmt: skip
        metrics.gauge("pymon_proxy_containers", "Containers that can be scraped.", lambda: len(self.fleet))
        metrics.gauge("pymon_proxy_upstream_connections", "Open connections to agents.", self._nodes.connections)
        metrics.gauge("pymon_proxy_upstream_waiting", "Scrapes that wait for a turn.", self._nodes.waiting)
        metrics.gauge(
            "pymon_proxy_directory_age_seconds", "Time since the directory was last read.", self.live.age_seconds
        )
        metrics.gauge(
            "pymon_proxy_directory_up", "Whether the last look at the directory went well.",
            lambda: float(not self.live.error),
        )  # fmt: skip
