"""Publishes the proxy's containers in DNS, through the DNS server and the registrar."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
from itertools import islice
from typing import TYPE_CHECKING

from pymon.config import ConfigError, shown
from pymon.dns.names import absolute, forward_zone, inside
from pymon.dns.records import Records
from pymon.dns.registrar import Registrar, Server
from pymon.dns.view import Instance, Proxy, View
from pymon.dns_label import label_or_none
from pymon.proxy.build import FIRST_ANSWER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from pymon.config import Address, Listen
    from pymon.directory.model import Account, Snapshot
    from pymon.dns.options import DnsOptions
    from pymon.dns.server import DnsServer
    from pymon.proxy.build import Proxy as ProxyParts
    from pymon.proxy.fleet import Fleet
    from pymon.proxy.options import ProxyOptions
    from pymon.proxy.places import Place
    from pymon.proxy.self_metrics import SelfMetrics

LOOK_CONTAINERS = 20
"""How many containers are applied at a time. Each container may share services with many others."""

PAUSE_SECONDS = 0.02
"""The pause after changes were applied. A node's inventory arrives in slices of a few milliseconds. Without the pause,
each slice would be a version of the zone with a NOTIFY of its own."""

READY_SECONDS = 0.05
"""How often a starting proxy is looked at until it is ready."""

TELL_SECONDS = 60.0
"""Minimum time between two checks for names that could not be published. A check costs more than a change."""

PROBLEMS_LOGGED = 10

_log = logging.getLogger(__name__)


class Owners(dict["UUID | None", "tuple[str | None, str]"]):
    """UUID and name of each account in DNS, by UUID; ``(None, "")`` for an account that does not exist.

    The name is "" when another account holds its DNS label, even if that account has no containers.
    """

    def __init__(self, accounts: Snapshot) -> None:
        self._accounts = accounts.accounts
        self._labels = accounts.labels

    def __missing__(self, uuid: UUID | None) -> tuple[str | None, str]:
        account = self._accounts.get(uuid) if uuid is not None else None
        found = self[uuid] = (None, "") if account is None else (str(account.uuid), self._name(account))
        return found

    def _name(self, account: Account) -> str:
        label = label_or_none(account.name)
        return account.name if label is None or self._labels[label].uuid == account.uuid else ""


def renamed(before: Snapshot, now: Snapshot) -> set[UUID]:
    """Return the UUIDs of the accounts in both snapshots whose name in DNS is another one."""
    # Names are looked at only where another account has a name or a label: with thousands of accounts all take long.
    found: set[UUID] = set()
    for old, new in ((before.accounts_by_name, now.accounts_by_name), (before.labels, now.labels)):
        found.update(old[text].uuid for text in old.keys() - new.keys())
        for text, account in new.items():
            other = old.get(text)
            if other is None or other.uuid.int != account.uuid.int:
                found.update(one.uuid for one in (account, other) if one is not None)
    then, owners = Owners(before), Owners(now)
    return {uuid for uuid in found if uuid in before.accounts and uuid in now.accounts and then[uuid] != owners[uuid]}


def instance(place: Place, owners: Owners) -> Instance:
    """Return the DNS instance of a container."""
    return Instance(place.container, *owners[place.owner])


def view(
    places: Iterable[Place],
    nodes: Iterable[str],
    accounts: Snapshot,
    proxies: Mapping[str, tuple[str, ...]],
    zone: str,
    options: DnsOptions,
) -> View:
    """Return the DNS view of all containers, nodes and proxies. nodes: UUIDs. proxies: addresses by name."""
    owners = Owners(accounts)
    return View(
        zone=zone,
        instances=(instance(place, owners) for place in places),
        nodes=nodes,
        proxies=tuple(Proxy(name, addresses) for name, addresses in sorted(proxies.items())),
        reverse=options.reverse,
        name_servers=options.name_servers,
        reverse_ptr_allow=options.reverse_ptr_allow,
    )


class Names:
    """Keeps the zones of a DNS server up to date with a fleet.

    changed: called with the names whose records changed. Call `build` first; nothing is published before it.
    """

    records: Records

    def __init__(
        self,
        fleet: Fleet,
        accounts: Callable[[], Snapshot],
        server: DnsServer,
        zone: str,
        options: DnsOptions,
        proxies: Mapping[str, tuple[str, ...]],
        changed: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._fleet = fleet
        self._accounts = accounts
        self._server = server
        self.changed = changed
        self._woken = asyncio.Event()
        self._journal = fleet.follow(self._woken.set)
        self._nodes = frozenset(node.uuid for node in fleet.nodes())
        self._problems: frozenset[str] = frozenset()
        self._known = accounts()
        self._view: Callable[[Iterable[Place]], View] = lambda places: view(
            places, self._nodes, self._known, proxies, zone, options
        )

    async def build(self) -> None:
        """Publish all current records. Other tasks run meanwhile, and `look` applies their changes later."""
        places = self._fleet.all()
        self._journal.clear()
        await asyncio.to_thread(self._build, places)
        self._tell()

    def _build(self, places: list[Place]) -> None:
        self.records = Records(self._view(places))
        self._server.publish(self.records)

    def set_proxies(self, proxies: Mapping[str, tuple[str, ...]]) -> None:
        """Publish the addresses of the live proxies. proxies: addresses by name."""
        alive = tuple(Proxy(name, addresses) for name, addresses in sorted(proxies.items()))
        self._publish(self.records.update(proxies=alive))

    async def run(self) -> None:
        """Apply changes as they come until cancelled. Problems are logged within `TELL_SECONDS`."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), TELL_SECONDS)
            self._woken.clear()
            try:
                await self.catch_up()
            except Exception:  # noqa: BLE001  # updates of other names must continue
                _log.exception("internal error: names")
                if self._journal:
                    self._woken.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def catch_up(self) -> None:
        """Apply all changes. Other tasks run between batches."""
        while self.look():  # noqa: ASYNC110
            await asyncio.sleep(0)

    def look(self) -> bool:
        """Apply the changes of up to `LOOK_CONTAINERS` containers. Return whether more changes are pending."""
        if self._untold and asyncio.get_running_loop().time() > self._tell_at:
            self._tell()
        nodes = frozenset(node.uuid for node in self._fleet.nodes())
        accounts = self._accounts()
        if accounts is not self._known:
            self._journal.update(self._renamed(self._known, accounts))
            self._known = accounts
        if not self._journal and nodes == self._nodes:
            return False
        self._nodes = nodes
        uuids = tuple(islice(self._journal, LOOK_CONTAINERS))
        self._journal.difference_update(uuids)
        changed, removed, owners = [], [], Owners(accounts)
        for uuid in uuids:
            place = self._fleet.last(uuid)
            if place is None:
                removed.append(uuid)
            else:
                changed.append(instance(place, owners))
        self._publish(self.records.update(changed, removed, nodes=nodes))
        return bool(self._journal)

    def _renamed(self, before: Snapshot, now: Snapshot) -> Iterator[str]:
        """Yield the UUIDs of containers whose account changed its name in DNS. The fleet does not report these."""
        for account in renamed(before, now):
            for place in (*self._fleet.owned(account), *self._fleet.stopped(account)):
                yield place.container.uuid

    def _publish(self, names: Collection[str]) -> None:
        if names:
            self._untold = True
            self._server.update(self.records, names)
            self.changed(names)

    def _tell(self) -> None:
        """Log newly found problems of records that could not be published as requested."""
        found = frozenset(f"{problem.uuid}: {problem.text}".removeprefix(": ") for problem in self.records.problems())
        for text in sorted(found - self._problems)[:PROBLEMS_LOGGED]:
            _log.warning("not in DNS: %s", text)
        self._problems = found
        self._untold = False
        self._tell_at = asyncio.get_running_loop().time() + TELL_SECONDS


# --- serving -------------------------------------------------------------------------------------


def wanted(dns: DnsOptions) -> bool:
    """Return whether the options ask for a DNS server or for registration."""
    return bool(dns.listen_addresses or dns.primaries)


def check_names(dns: DnsOptions, zone: str, listen_addresses: Sequence[Address]) -> None:
    """Raise ConfigError when the options for DNS are invalid."""
    for error in name_errors(dns, zone, listen_addresses):
        raise ConfigError(error)


def name_errors(dns: DnsOptions, zone: str, listen_addresses: Sequence[Address]) -> Iterator[str]:
    """Yield an error text of one line for each invalid option for DNS."""
    if not wanted(dns):
        return
    try:
        own_addresses(dns, listen_addresses)
    except ConfigError as error:
        yield str(error)
    yield from zone_errors(dns, zone)


def check_zone(dns: DnsOptions, zone: str) -> None:
    """Raise ConfigError when the zone or its name servers are invalid."""
    for error in zone_errors(dns, zone):
        raise ConfigError(error)


def zone_errors(dns: DnsOptions, zone: str) -> Iterator[str]:
    """Yield an error text of one line for each problem of the zone and its name servers."""
    try:
        origin = forward_zone(zone)
    except ValueError as error:
        yield f"zone: {error}"
        return
    for name in dns.name_servers:
        if inside(absolute(name), origin):
            expected = f"expected a server outside the zone {zone}, which would not have its address"
            yield f"dns.name-server: {expected}, got {shown(name)}"


async def serve_names(
    proxy: ProxyParts,
    options: ProxyOptions,
    dns: DnsOptions,
    stop: asyncio.Event,
    ended: asyncio.Event,
    started: Callable[[tuple[Listen, ...]], None],
) -> None:
    """Answer DNS queries until `ended` is set, and register names until `stop` is set.

    When `stop` is set, this proxy leaves ``cmon.ZONE``, unless it is the only one there.

    Queries are answered once the proxy is ready or `FIRST_ANSWER_SECONDS` have passed, and names are registered only
    once the proxy is ready. Otherwise names that are not known yet would be reported as nonexistent. Nothing is
    published before the first look at the directory has shown which proxies are alive.
    started: called with the addresses of the DNS server. Raises OSError, which names an address that cannot be bound.
    """
    from pymon.dns.server import DnsServer  # noqa: PLC0415 - Linux alone has it, and options are checked everywhere

    server = DnsServer(dns)
    _tell_of(proxy.metrics, server)
    presence = proxy.presence
    await _settled(proxy, stop, ready_seconds=FIRST_ANSWER_SECONDS)
    await presence.looked.wait()
    names = Names(proxy.fleet, lambda: proxy.live.snapshot, server, options.zone, dns, presence.alive.names)
    await names.build()
    server.hold(incomplete=bool(proxy.unknown_nodes()))
    presence.changed.append(lambda: names.set_proxies(presence.alive.names))
    names.set_proxies(presence.alive.names)
    registrar = _registrar(names, options, dns, proxy, server) if dns.primaries else None
    if registrar is not None:
        names.changed = registrar.changed
        _tell_of_registration(proxy.metrics, registrar)
    if dns.listen_addresses:
        await server.start()
    following = [asyncio.create_task(names.run()), asyncio.create_task(_hold(proxy, server))]
    registering = None if registrar is None else asyncio.create_task(_register(proxy, names, registrar, stop))
    try:
        if dns.listen_addresses:
            started(server.addresses)
        await stop.wait()
        presence.leave(leaves=True)
        await _stop_registering(registrar, registering)
        await ended.wait()
    finally:
        for task in following:
            task.cancel()
        await _stop_registering(registrar, registering)
        if dns.listen_addresses:
            await server.stop()


async def _stop_registering(registrar: Registrar | None, registering: asyncio.Task[None] | None) -> None:
    """Stop registration, so that another proxy does it. May be called more than once."""
    if registrar is not None and registering is not None:
        registering.cancel()
        await registrar.stop()


async def _settled(
    proxy: ProxyParts, stop: asyncio.Event, *, ready_seconds: float, whole_seconds: float = FIRST_ANSWER_SECONDS
) -> None:
    """Wait until the proxy is ready, and then until it knows something of every node, for these times at most.

    Returns at once when `stop` is set.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while not stop.is_set():
        waited = loop.time() - begun
        ready = proxy.ready() is None or waited >= ready_seconds
        if ready and (not proxy.unknown_nodes() or waited >= whole_seconds):
            return
        await asyncio.sleep(READY_SECONDS)


async def _register(proxy: ProxyParts, names: Names, registrar: Registrar, stop: asyncio.Event) -> None:
    await _settled(proxy, stop, ready_seconds=math.inf)
    await names.catch_up()
    registrar.start()


async def _hold(proxy: ProxyParts, server: DnsServer) -> None:
    """Let nobody transfer zones while nothing is known of a node that other proxies have heard, until cancelled.

    The zones would lack its containers, and a secondary would lose them.
    """
    while True:
        server.hold(incomplete=bool(proxy.unknown_nodes()))
        await asyncio.sleep(READY_SECONDS)


def _registrar(names: Names, options: ProxyOptions, dns: DnsOptions, proxy: ProxyParts, server: DnsServer) -> Registrar:
    keys = dns.keys or {}
    servers = [Server(primary.address, keys[primary.key], names.records.origins) for primary in dns.primaries]
    return Registrar(
        servers,
        owner=dns.register_owner,
        holder=proxy.presence.name,
        directory=options.directory,
        content=names.records.content,
        complete=lambda: not server.incomplete,
    )


def _tell_of(metrics: SelfMetrics, server: DnsServer) -> None:
    for family in server.families():
        add = metrics.gauges if family.kind == "gauge" else metrics.counters
        add(family.name, family.help, family.labels, family.read)


def _tell_of_registration(metrics: SelfMetrics, registrar: Registrar) -> None:
    metrics.gauges(
        "pymon_dns_registration_age_seconds",
        "Time since the zone at the server was last known to be as it should, where this proxy registers.",
        ("server", "zone"),
        lambda: {
            (one.server, one.zone): one.age_seconds for one in registrar.status() if math.isfinite(one.age_seconds)
        },
    )
    metrics.gauges(
        "pymon_dns_registered_names", "Names of ours at the server, where this proxy registers.", ("server", "zone"),
        lambda: {(one.server, one.zone): one.names for one in registrar.status()},
    )  # fmt: skip
    metrics.counters(
        "pymon_dns_updates", "UPDATE messages that servers have done.", ("server", "zone"), registrar.updates
    )
    metrics.counters(
        "pymon_dns_registration_failures", "Failures of registration, by reason.", ("server", "reason"),
        registrar.failures,
    )  # fmt: skip
    metrics.gauge("pymon_dns_registers", "Whether this proxy is the one that registers.", registrar.leads)


def own_addresses(dns: DnsOptions, listen_addresses: Sequence[Address]) -> tuple[str, ...]:
    """Return the addresses at which this proxy is reached, for ``cmon.ZONE``.

    Raises ConfigError when they are not configured and cannot be derived from the listen addresses.
    """
    if dns.proxy_addresses:
        return dns.proxy_addresses
    found = [address.host for address in listen_addresses]
    with contextlib.suppress(ValueError):
        addresses = [ipaddress.ip_address(host) for host in found]
        if not any(address.is_unspecified for address in addresses):
            return tuple(map(str, addresses))
    raise ConfigError(
        "dns.proxy-address: expected the addresses at which this proxy is reached, as it listens on "
        + ", ".join(map(str, listen_addresses))
    )
