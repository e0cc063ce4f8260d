"""A server with a small zone, and what its tests ask it with."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shutil
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import dns.message
import dns.name
import dns.query
import dns.tsig
import dns.zone
import pytest

from pymon.config import Address
from pymon.dns.options import DnsOptions, Secondary, Source
from pymon.dns.records import Records
from pymon.dns.server import DnsServer
from pymon.dns.tcp import Limits
from pymon.dns.view import Instance, Proxy, View
from tests.dns import instances

ZONE = "pymon.internal"
ORIGIN = f"{ZONE}."
REVERSE = "10.in-addr.arpa."
ACCOUNT = "11111111-1111-4111-8111-111111111111"
KEY = dns.tsig.Key("transfer.example.", b"0123456789abcdef0123456789abcdef", "hmac-sha256.")
OTHER_KEY = dns.tsig.Key("other.example.", b"fedcba9876543210fedcba9876543210", "hmac-sha512.")
KEYS = {KEY.name: KEY, OTHER_KEY.name: OTHER_KEY}
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
OPTIONS = DnsOptions(
    listen_addresses=(Address("127.0.0.1", 0),),
    reverse=(ipaddress.ip_network("10.0.0.0/8"),),
    transfer_from=(Source(LOOPBACK, None),),
)
SIGNED = replace(OPTIONS, keys=KEYS)


def uuid_of(number: int) -> str:
    return str(UUID(int=number + (4 << 76) + (8 << 60)))


def instance(number: int, *, last: int = 0, running: bool = True) -> Instance:
    address = str(ipaddress.ip_address(0x0A000001 + number + (last << 16)))
    return instances.instance(
        uuid_of(number), f"web-{number}", ACCOUNT, "alice", running, False, (address,), "web:8080"
    )


def view(count: int = 3) -> View:
    return View(
        ZONE,
        [instance(number) for number in range(count)],
        [],
        (Proxy("p1", ("192.0.2.1", "2001:db8::1")),),
        OPTIONS.reverse,
    )


class Served:
    """A server, its records and its address."""

    def __init__(self, options: DnsOptions, count: int, limits: Limits | None) -> None:
        self.records = Records(view(count))
        self.server = DnsServer(options, limits=limits)
        self.server.publish(self.records)

    @property
    def zone(self):
        return self.server.zones[ORIGIN]

    @property
    def where(self) -> tuple[str, int]:
        address = self.server.addresses[0]
        return address.host, address.port

    def change(self, *instances: Instance, removed: tuple[str, ...] = ()) -> None:
        self.server.update(self.records, self.records.update(instances, removed))

    async def udp(self, message, **keywords):
        host, port = self.where
        return await asyncio.to_thread(dns.query.udp, message, host, port=port, timeout=10, **keywords)

    async def tcp(self, message, **keywords):
        host, port = self.where
        return await asyncio.to_thread(dns.query.tcp, message, host, port=port, timeout=10, **keywords)

    async def transfer(self, zone: dns.zone.Zone, query: dns.message.Message | None = None, **keywords) -> None:
        host, port = self.where
        query = query or dns.message.make_query(zone.origin, "AXFR")
        await asyncio.to_thread(dns.query.inbound_xfr, host, zone, query, port=port, timeout=30, **keywords)

    def text(self, origin: str = ORIGIN) -> str:
        return "\n".join(self.server.zones[origin].text())

    def expected(self, origin: str = ORIGIN) -> dns.zone.Zone:
        return dns.zone.from_text(self.text(origin), origin, relativize=False)

    async def connect(self) -> Client:
        return Client(*await asyncio.open_connection(*self.where))


class Client:
    """A TCP connection that is used octet by octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *messages: dns.message.Message | bytes) -> None:
        wires = [message if isinstance(message, bytes) else message.to_wire() for message in messages]
        self.writer.write(b"".join(struct.pack("!H", len(wire)) + wire for wire in wires))

    async def read(self) -> dns.message.Message:
        return dns.message.from_wire(await self.read_wire())

    async def read_wire(self) -> bytes:
        async with asyncio.timeout(20):
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            return await self.reader.readexactly(size)

    async def ended(self) -> bool:
        """Whether the server has closed the connection; waits for it."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(65536):
                    pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(options: DnsOptions = OPTIONS, count: int = 3, limits: Limits | None = None) -> AsyncIterator[Served]:
    served = Served(options, count, limits)
    await served.server.start()
    try:
        yield served
    finally:
        await served.server.stop()


async def until(condition, what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


async def dig(served: Served, *arguments: str) -> str:
    program = shutil.which("dig")
    if program is None:
        pytest.skip("dig is not installed")
    host, port = served.where
    process = await asyncio.create_subprocess_exec(
        program, f"@{host}", "-p", str(port), "+tries=1", "+time=10", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output
    return output.decode()


def secondary(port: int, key: dns.name.Name | None = None) -> Secondary:
    return Secondary(Address("127.0.0.1", port), key)
