"""The embedded authoritative DNS server: sockets, zones, and NOTIFY.

A native thread answers queries over UDP. The event loop answers TCP, transfers, and the messages that the thread hands
over.
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
"""Limit on answer bytes minus query bytes over UDP for one network. It bounds an amplification attack on a victim."""

SLIP = 2
"""One in this many queries over the limit gets a truncated answer. So a network whose address is spoofed can still use
TCP.
"""

HANDED_PER_SECOND = 300.0
"""Limit for UDP messages that are not ordinary queries (signed messages, transfers, updates), of all sources together.

Messages over the limit are dropped, and clients repeat them.
"""

HANDED_OF_SOURCE_PER_SECOND = 30
"""Limit for such messages of one source, with a burst of two seconds. One source cannot use up the total limit."""

_TURN = 16
_PROBLEMS_LOGGED = 10

Values = Mapping[tuple[str, ...], float]


class Family(NamedTuple):
    """A metric family. kind: gauge or counter. name: without ``_total``. read: returns label values -> value."""

    kind: str
    name: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Values]


class DnsServer:
    """The DNS server. `start` and `stop` must run on the same event loop. Zones may be published before `start`.

    zones: by name. addresses: the bound listen addresses.
    """

    def __init__(
        self, options: DnsOptions, *, clock: Callable[[], float] = time.time, limits: Limits | None = None
    ) -> None:
        """clock: returns seconds since the epoch, for serials and signatures."""
        self._options = options
        self._clock = clock
        self._natives = Zones()
        self.zones: dict[str, Zone] = {}
        self.incomplete = False
        """Whether the zones lack names that other servers may know, as `hold` has set it."""
        policy = transfer_policy(options)
        self.authority = Authority(
            self._natives, self.zones, policy, options.keys or {}, clock, lambda: self.incomplete
        )
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
        """Replace the content of all zones, and send NOTIFY for those that changed.

        May be called in any thread before `start`, and only on the event loop after it.
        """
        for origin in set(self.zones) - set(records.origins):
            self.zones.pop(origin).close()
        for origin in records.origins:
            zone = self.zones.get(origin)
            if zone is None:
                zone = self.zones[origin] = Zone(self._natives, origin, clock=self._clock)
            self._changing(zone, lambda zone=zone, origin=origin: zone.replace(records.content(origin)))  # type: ignore[misc]

    def update(self, records: Records, names: Iterable[str]) -> None:
        """Publish the records of changed names, and send NOTIFY for their zones. names: as `Records.update` returns."""
        changes: dict[str, dict[str, tuple[Record, ...]]] = {}
        for name in names:
            origin = records.origin(name)
            if origin is not None:
                changes.setdefault(origin, {})[name] = records.get(name)
        for origin, changed in changes.items():
            zone = self.zones[origin]
            self._changing(zone, lambda zone=zone, changed=changed: zone.update(changed))  # type: ignore[misc]

    def hold(self, *, incomplete: bool) -> None:
        """Allow no transfer and send no NOTIFY while zones are incomplete, so that secondaries keep what they have."""
        before, self.incomplete = self.incomplete, incomplete
        if before and not incomplete:
            self._notify_all()

    def _notify_all(self) -> None:
        for zone in self.zones.values():
            if zone.serial and self._notifier is not None and not self.incomplete:
                self._notifier.changed(zone)

    def _changing(self, zone: Zone, change: Callable[[], list[str]]) -> None:
        before = zone.serial
        problems = change()
        for problem in problems[:_PROBLEMS_LOGGED]:
            _log.warning("not in DNS: %s", problem)
        if len(problems) > _PROBLEMS_LOGGED:
            _log.warning("not in DNS: %d more names of %s", len(problems) - _PROBLEMS_LOGGED, zone.origin)
        if zone.serial != before and self._notifier is not None and not self.incomplete:
            self._notifier.changed(zone)

    # Serving.

    async def start(self) -> None:
        """Listen on all addresses and send NOTIFY for all zones. Raises OSError whose text names the address."""
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
                handed_per_second=HANDED_OF_SOURCE_PER_SECOND,
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
        self._notify_all()

    async def stop(self) -> None:
        """Close all sockets and connections, and wait for their tasks. The zones stay."""
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
        """Answer messages that the native thread handed over, at most `_TURN`, so as not to block the event loop."""
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

    # Metrics.

    def families(self) -> tuple[Family, ...]:
        """Return the metric families of the server."""
        return (
            Family("counter", "pymon_dns_queries", "Messages received, by transport.", ("transport",), self._queries),
            Family("counter", "pymon_dns_responses", "Answers, by transport and RCODE.", ("transport", "rcode"),
                   self._responses),
            Family("counter", "pymon_dns_dropped", "Messages over UDP without an answer, by reason.", ("reason",),
                   self._drops),
            Family("counter", "pymon_dns_truncated", "Truncated answers over UDP, by reason.",
                   ("reason",), self._truncations),
            Family("counter", "pymon_dns_refused", "Transfers, notifications and updates refused, by kind.", ("kind",),
                   lambda: _labelled(self.authority.refused)),
            Family("counter", "pymon_dns_bad_signatures", "Messages with an invalid TSIG signature, by error.",
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
            Family("counter", "pymon_dns_notifies", "NOTIFY messages to secondaries, by outcome.", ("outcome",),
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
