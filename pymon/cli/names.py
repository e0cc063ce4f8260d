"""Containers in DNS: what the proxy knows, handed to the DNS server and to who registers.

Here because proxy and dns know nothing of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import math
import secrets
import socket
from itertools import islice
from typing import TYPE_CHECKING

from pymon.config import ConfigError, shown
from pymon.directory.presence import Presence
from pymon.dns.names import absolute, forward_zone, inside
from pymon.dns.records import Records
from pymon.dns.registrar import Registrar, Server
from pymon.dns.server import DnsServer
from pymon.dns.view import Instance, Proxy, View
from pymon.proxy.build import FIRST_ANSWER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from pymon.config import Address, Listen
    from pymon.directory.model import Snapshot
    from pymon.dns.options import DnsOptions
    from pymon.proxy.build import Proxy as ProxyParts
    from pymon.proxy.fleet import Fleet, Place
    from pymon.proxy.options import ProxyOptions
    from pymon.proxy.self_metrics import SelfMetrics

LOOK_SECONDS = 0.2
LOOK_CONTAINERS = 20
"""Taken over at a time: each can be in services of many others."""

TELL_SECONDS = 60.0
"""Between two looks at what is not in DNS as asked for, which costs more than a change does."""

PROBLEMS_LOGGED = 10

_UP = (None, "up")
_SHOWN = (None, "false")

_log = logging.getLogger(__name__)


class Owners(dict["UUID | None", "tuple[str | None, str]"]):
    """UUID and name of each account as DNS needs them, by UUID; None and "" for one that is not there."""

    def __init__(self, accounts: Snapshot) -> None:
        self._accounts = accounts.accounts

    def __missing__(self, uuid: UUID | None) -> tuple[str | None, str]:
        account = self._accounts.get(uuid) if uuid is not None else None
        found = self[uuid] = (None, "") if account is None else (str(account.uuid), account.name)
        return found


def instance(place: Place, owners: Owners) -> Instance:
    """A container as DNS needs it."""
    container = place.container
    account, account_name = owners[place.owner]
    return Instance(
        container.uuid,
        container.name,
        account,
        account_name,
        container.state != "stopped",
        container.health == "unhealthy" or container.cns_status not in _UP,
        container.addresses,
        container.services,
        container.cns_disable not in _SHOWN,
        container.cns_reverse_ptr or "",
    )


def view(
    places: Iterable[Place],
    nodes: Iterable[str],
    accounts: Snapshot,
    proxies: Mapping[str, tuple[str, ...]],
    zone: str,
    options: DnsOptions,
) -> View:
    """All that is known, as DNS needs it."""
    owners = Owners(accounts)
    return View(
        zone=zone,
        instances=(instance(place, owners) for place in places),
        nodes=nodes,
        proxies=tuple(Proxy(name, addresses) for name, addresses in sorted(proxies.items())),
        reverse=options.reverse,
        name_servers=options.name_servers,
    )


class Names:
    """Keeps the zones of a server in step with a fleet. `changed` is told the names whose records have changed.

    Nothing is published before `build`, which comes first of all.
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
        self._journal = fleet.follow()
        self._nodes = frozenset(node.uuid for node in fleet.nodes())
        self._problems: frozenset[str] = frozenset()
        self._known = accounts()
        self._view: Callable[[Iterable[Place]], View] = lambda places: view(
            places, self._nodes, self._known, proxies, zone, options
        )

    async def build(self) -> None:
        """Publish all that is known now. Other tasks go on meanwhile; what they change is for the next look."""
        places = self._fleet.all()
        self._journal.clear()
        await asyncio.to_thread(self._build, places)
        self._tell()

    def _build(self, places: list[Place]) -> None:
        self.records = Records(self._view(places))
        self._server.publish(self.records)

    def set_proxies(self, proxies: Mapping[str, tuple[str, ...]]) -> None:
        """Other proxies are alive."""
        alive = tuple(Proxy(name, addresses) for name, addresses in sorted(proxies.items()))
        self._publish(self.records.update(proxies=alive))

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.catch_up()
            except Exception:  # noqa: BLE001  # the names of others must go on changing
                _log.exception("internal error: names")

    async def catch_up(self) -> None:
        """Take over all that has changed; other tasks have their turns where that is much."""
        while self.look():  # noqa: ASYNC110
            await asyncio.sleep(0)

    def look(self) -> bool:
        """Take over what has changed since the last look, of so many containers at most; whether there are more."""
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
        """Containers of the accounts that have another name: nothing else about them has changed."""
        for uuid, account in now.accounts.items():
            known = before.accounts.get(uuid)
            if known is not None and known.name != account.name:
                for place in (*self._fleet.owned(uuid), *self._fleet.stopped(uuid)):
                    yield place.container.uuid

    def _publish(self, names: Collection[str]) -> None:
        if names:
            self._untold = True
            self._server.update(self.records, names)
            self.changed(names)

    def _tell(self) -> None:
        """Log what is not in DNS as asked for, once."""
        found = frozenset(f"{problem.uuid}: {problem.text}".removeprefix(": ") for problem in self.records.problems())
        for text in sorted(found - self._problems)[:PROBLEMS_LOGGED]:
            _log.warning("not in DNS: %s", text)
        self._problems = found
        self._untold = False
        self._tell_at = asyncio.get_running_loop().time() + TELL_SECONDS


# --- serving -------------------------------------------------------------------------------------


def wanted(dns: DnsOptions) -> bool:
    """Whether there is anything to do for DNS."""
    return bool(dns.listen_addresses or dns.primaries)


def check_names(dns: DnsOptions, zone: str, listen_addresses: Sequence[Address]) -> None:
    """Raise ConfigError where what is wanted for DNS cannot be."""
    if wanted(dns):
        own_addresses(dns, listen_addresses)
        check_zone(dns, zone)


def check_zone(dns: DnsOptions, zone: str) -> None:
    """Raise ConfigError where there cannot be such a zone."""
    try:
        origin = forward_zone(zone)
    except ValueError as error:
        raise ConfigError(f"zone: {error}") from None
    for name in dns.name_servers:
        if inside(absolute(name), origin):
            expected = f"expected a server outside the zone {zone}, which would not have its address"
            raise ConfigError(f"dns.name-server: {expected}, got {shown(name)}")


async def serve_names(
    proxy: ProxyParts,
    options: ProxyOptions,
    dns: DnsOptions,
    stop: asyncio.Event,
    started: Callable[[tuple[Listen, ...]], None],
) -> None:
    """Answer DNS and register names until `stop`. OSError names an address that cannot be had.

    Nothing is answered before the nodes had time to say what they have, and nothing registered before one has: a name
    that is not known yet must not be told to be none.
    """
    server = DnsServer(dns)
    _tell_of(proxy.metrics, server)
    own = own_addresses(dns, options.listen_addresses)
    await _settled(proxy, stop, FIRST_ANSWER_SECONDS)
    name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    names = Names(proxy.fleet, lambda: proxy.live.snapshot, server, options.zone, dns, {name: own})
    await names.build()
    presence = Presence(options.directory, name, own, names.set_proxies)
    registrar = _registrar(names, options, dns, name) if dns.primaries else None
    if registrar is not None:
        names.changed = registrar.changed
        _tell_of_registration(proxy.metrics, registrar)
    if dns.listen_addresses:
        await server.start()
    following = [asyncio.create_task(names.run())]
    presence.start()
    if registrar is not None:
        following.append(asyncio.create_task(_register(proxy, names, registrar, stop)))
    try:
        if dns.listen_addresses:
            started(server.addresses)
        await stop.wait()
    finally:
        for task in following:
            task.cancel()
        if registrar is not None:
            await registrar.stop()
        await presence.stop()
        if dns.listen_addresses:
            await server.stop()


async def _settled(proxy: ProxyParts, stop: asyncio.Event, seconds: float) -> None:
    """Wait until the inventory is known, the time is over, or the end begins."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while proxy.ready() is not None and loop.time() - begun < seconds and not stop.is_set():  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)


async def _register(proxy: ProxyParts, names: Names, registrar: Registrar, stop: asyncio.Event) -> None:
    await _settled(proxy, stop, math.inf)
    await names.catch_up()
    registrar.start()


def _registrar(names: Names, options: ProxyOptions, dns: DnsOptions, name: str) -> Registrar:
    keys = dns.keys or {}
    servers = [Server(primary.address, keys[primary.key], names.records.origins) for primary in dns.primaries]
    return Registrar(
        servers,
        owner=dns.register_owner,
        holder=name,
        directory=options.directory,
        content=names.records.content,
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
    """Addresses under which this proxy is reached, for ``cmon.ZONE``. ConfigError where they are not to be guessed."""
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
