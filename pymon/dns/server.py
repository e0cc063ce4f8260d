"""The embedded authoritative server: sockets, zones, and who is told of their changes.

Queries over UDP are answered by a thread of native code. The loop of this process answers TCP, transfers, and what the
thread hands over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import dns.rcode

from pymon._native.responder import Responder, Zones
from pymon.config import Address
from pymon.dns import listen
from pymon.dns.acl import transfer_policy
from pymon.dns.authority import Authority
from pymon.dns.notify import Notifier
from pymon.dns.options import DnsOptions
from pymon.dns.records import Record, Records
from pymon.dns.tcp import Connections, Limits
from pymon.dns.zone import Zone
from pymon.token_bucket import TokenBucket

_log = logging.getLogger(__name__)

EXCESS_BYTES_PER_SECOND = 1_000_000
"""By which answers to one network may be longer than its queries: what a spoofed victim gets at most."""

SLIP = 2
"""Every so many queries over the limit are told to come by TCP, so a spoofed network is not without DNS."""

HANDED_PER_SECOND = 300.0
"""Messages over UDP that are no ordinary queries; others are dropped, and asked again."""

_TURN = 16
_PROBLEMS_LOGGED = 10

Values = Mapping[tuple[str, ...], float]


class Family(NamedTuple):
    """A metric. kind: gauge or counter (its name without ``_total``). read: the values now, by labels."""

    kind: str
    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Values]


class DnsServer:
    """A server. `start` and `stop` belong to one loop; zones may be there before.

    zones: by name. addresses: those it listens on, as bound.
    """

    def __init__(
        self, options: DnsOptions, *, clock: Callable[[], float] = time.time, limits: Limits | None = None
    ) -> None:
        """clock: of serials and signatures, seconds since the epoch."""
        self._options = options
        self._clock = clock
        self._natives = Zones()
        self.zones: dict[str, Zone] = {}
        self.authority = Authority(self._natives, self.zones, transfer_policy(options), options.keys or {}, clock)
        self.addresses: tuple[Address, ...] = ()
        self._limits = limits or Limits()
        self._close = contextlib.ExitStack()
        self._servers: list[asyncio.Server] = []
        self.tcp: Connections | None = None
        self._responder: Responder | None = None
        self._notifier: Notifier | None = None
        self._notified: Counter[str] = Counter()
        self._handed = TokenBucket(HANDED_PER_SECOND, HANDED_PER_SECOND / 4)
        self._udp_responses: Counter[int] = Counter()
        self._dropped: Counter[str] = Counter()
        self._native_counts: dict[str, int] = {}
        self._native_responses: dict[str, int] = {}

    # The zones.

    def publish(self, records: Records) -> None:
        """Make these the whole content of all zones, and tell of those that changed. Before `start` in any thread."""
        for origin in set(self.zones) - set(records.origins):
            self.zones.pop(origin).close()
        for origin in records.origins:
            zone = self.zones.get(origin)
            if zone is None:
                zone = self.zones[origin] = Zone(self._natives, origin, clock=self._clock)
            self._changing(zone, lambda zone=zone, origin=origin: zone.replace(records.content(origin)))  # type: ignore[misc]

    def update(self, records: Records, names: Iterable[str]) -> None:
        """Take over the records of names that changed (see `Records.update`), and tell of the zones they are in."""
        changes: dict[str, dict[str, tuple[Record, ...]]] = {}
        for name in names:
            origin = records.origin(name)
            if origin is not None:
                changes.setdefault(origin, {})[name] = records.get(name)
        for origin, changed in changes.items():
            zone = self.zones[origin]
            self._changing(zone, lambda zone=zone, changed=changed: zone.update(changed))  # type: ignore[misc]

    def _changing(self, zone: Zone, change: Callable[[], list[str]]) -> None:
        before = zone.serial
        problems = change()
        for problem in problems[:_PROBLEMS_LOGGED]:
            _log.warning("not in DNS: %s", problem)
        if len(problems) > _PROBLEMS_LOGGED:
            _log.warning("not in DNS: %d more names of %s", len(problems) - _PROBLEMS_LOGGED, zone.origin)
        if zone.serial != before and self._notifier is not None:
            self._notifier.changed(zone)

    # Serving.

    async def start(self) -> None:
        """Listen on all addresses and tell the secondaries of all zones. OSError names what cannot be had."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as close:
            pairs = []
            for address in self._options.listen_addresses:
                for pair in listen.bind(address):
                    close.callback(listen.close, pair)
                    pairs.append(pair)
            rate = self._options.responses_per_second
            self._responder = Responder(
                self._natives,
                [pair.udp for pair in pairs],
                responses_per_second=rate,
                excess_bytes_per_second=EXCESS_BYTES_PER_SECOND if rate else 0,
                slip=SLIP,
            )
            close.callback(self._end_responder, self._responder)
            loop.add_reader(self._responder.fileno(), self._take)
            close.callback(loop.remove_reader, self._responder.fileno())
            self.tcp = Connections(self.authority, self._limits)
            for pair in pairs:
                self._servers.append(await loop.create_server(self.tcp, sock=pair.tcp))
            self.addresses = tuple(pair.address for pair in pairs)
            self._close = close.pop_all()
        own = [address.host for address in self.addresses if address.host not in {"", "0.0.0.0", "::"}]  # noqa: S104
        self._notifier = Notifier(self._options.secondaries, self._options.keys, self._notified, own)
        for zone in self.zones.values():
            if zone.serial:
                self._notifier.changed(zone)

    async def stop(self) -> None:
        """End all of it. The zones stay."""
        notifier, self._notifier = self._notifier, None
        if notifier is not None:
            await notifier.close()
        for server in self._servers:
            server.close()
        if self.tcp is not None:
            await self.tcp.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self._close.close()

    def _end_responder(self, responder: Responder) -> None:
        self._native_counts, self._native_responses = responder.counters(), responder.responses()
        self._responder = None
        responder.close()

    def _take(self) -> None:
        """Answer what the native part handed over, some of it before others have their turn."""
        responder = self._responder
        now = asyncio.get_running_loop().time()
        for _ in range(_TURN):
            query = responder.take() if responder is not None else None
            if query is None or responder is None:
                return
            if self._handed.take(now):
                self._dropped["busy"] += 1
                continue
            answer = self.authority.answer(query.wire, query.source[0], udp=True)
            if not isinstance(answer, bytes):
                self._dropped["ignored"] += 1
                continue
            self._udp_responses[answer[3] & 15] += 1
            try:
                responder.reply(query, answer)
            except OSError:
                self._dropped["unsent"] += 1

    # What it says of itself.

    def families(self) -> tuple[Family, ...]:
        """The metrics."""
        return (
            Family("counter", "pymon_dns_queries", "Messages received, by transport.", ("transport",), self._queries),
            Family("counter", "pymon_dns_responses", "Answers, by transport and RCODE.", ("transport", "rcode"),
                   self._responses),
            Family("counter", "pymon_dns_dropped", "Messages over UDP without an answer, by reason.", ("reason",),
                   self._drops),
            Family("counter", "pymon_dns_truncated", "Answers over UDP that say to come by TCP, by reason.",
                   ("reason",), self._truncations),
            Family("counter", "pymon_dns_refused", "Transfers, notifications and updates refused, by kind.", ("kind",),
                   lambda: _labelled(self.authority.refused)),
            Family("counter", "pymon_dns_bad_signatures", "Messages with a TSIG that does not hold, by error.",
                   ("error",), lambda: _labelled(self.authority.signatures)),
            Family("counter", "pymon_dns_transfers_started", "Zone transfers begun, by kind.", ("kind",),
                   lambda: _labelled(self.authority.transfers)),
            Family("counter", "pymon_dns_transfers", "Zone transfers ended, by outcome.", ("outcome",),
                   lambda: _labelled(self.tcp.transfers) if self.tcp else {}),
            Family("counter", "pymon_dns_transfer_bytes", "Octets of zone transfers.", (),
                   lambda: {(): self.tcp.sent_bytes} if self.tcp else {}),
            Family("gauge", "pymon_dns_tcp_connections", "Open TCP connections.", (),
                   lambda: {(): len(self.tcp.open)} if self.tcp else {}),
            Family("counter", "pymon_dns_tcp_accepted", "TCP connections accepted.", (),
                   lambda: {(): self.tcp.accepted} if self.tcp else {}),
            Family("counter", "pymon_dns_tcp_closed", "TCP connections that the server ended, by reason.", ("reason",),
                   lambda: _labelled(self.tcp.closed) if self.tcp else {}),
            Family("counter", "pymon_dns_notifies", "What secondaries were told (NOTIFY), by outcome.", ("outcome",),
                   lambda: _labelled(self._notified)),
            Family("gauge", "pymon_dns_zone_serial", "Serial of each zone.", ("zone",),
                   lambda: {(origin,): zone.serial for origin, zone in tuple(self.zones.items())}),
            Family("gauge", "pymon_dns_zone_records", "Records of each zone.", ("zone",),
                   lambda: {(origin,): len(zone) for origin, zone in tuple(self.zones.items())}),
        )  # fmt: skip

    def _counts(self) -> tuple[dict[str, int], dict[str, int]]:
        responder = self._responder
        if responder is None:
            return self._native_counts, self._native_responses
        return responder.counters(), responder.responses()

    def _queries(self) -> Values:
        return {("udp",): self._counts()[0].get("queries", 0), ("tcp",): self.tcp.queries if self.tcp else 0}

    def _responses(self) -> Values:
        found: Counter[tuple[str, ...]] = Counter()
        for rcode, count in self._counts()[1].items():
            found["udp", rcode] += count
        for transport, counts in (("udp", self._udp_responses), ("tcp", self.tcp.responses if self.tcp else {})):
            for number, count in counts.items():
                found[transport, dns.rcode.to_text(dns.rcode.Rcode.make(number))] += count
        return found

    def _drops(self) -> Values:
        counts = self._counts()[0]
        found: Counter[tuple[str, ...]] = Counter()
        for reason in ("limited", "ignored", "unsent"):
            found[reason,] += counts.get(reason, 0)
        found["busy",] += counts.get("handed_lost", 0)
        for reason, count in self._dropped.items():
            found[reason,] += count
        return found

    def _truncations(self) -> Values:
        counts = self._counts()[0]
        return {("size",): counts.get("truncated", 0), ("limited",): counts.get("slipped", 0)}


def _labelled(counts: Mapping[str, int]) -> Values:
    return {(name,): count for name, count in counts.items()}
