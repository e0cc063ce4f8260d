"""Containers to register, and what a primary server should have then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any
from uuid import UUID

from pymon.dns.records import Records
from pymon.dns.update_plan import mark, marker
from pymon.dns.view import Instance, Proxy, View
from tests.dns import instances
from tests.e2e.primaries import Primary

ZONE = "pymon.test."
REVERSE = "10.in-addr.arpa."
OWNER = "site-1"
ACCOUNT = str(UUID(int=7))

FOREIGN = {
    ZONE: 'www A 192.0.2.1\nweb1.inst.alice A 192.0.2.9\n_pymon.web2.inst.alice TXT "heritage=pymon,owner=other"\n'
    "cmon MX 10 mail.invalid.",
    REVERSE: "9.9.9 PTR printer.invalid.",
}
THEIRS = {f"web1.inst.alice.{ZONE}", f"web2.inst.alice.{ZONE}", f"cmon.{ZONE}"}
"""Of what is wanted, what is somebody else's."""


def instance(
    number: int, *, alias: str = "", addresses: tuple[str, ...] = (), running: bool = True, services: str = "web:80"
) -> Instance:
    return instances.instance(
        str(UUID(int=number)), alias or f"web{number}", ACCOUNT, "alice", running, False,
        addresses or (f"10.0.{number >> 8}.{number & 255}",), services,
    )  # fmt: skip


def view(count: int) -> View:
    return View(
        "pymon.test", [instance(number) for number in range(1, count + 1)], nodes=[str(UUID(int=1 << 40))],
        proxies=(Proxy("p", ("192.0.2.7",)),), reverse=(ip_network("10.0.0.0/8"),),
    )  # fmt: skip


def expected(records: Records, zone: str, theirs: frozenset[str] | set[str] = frozenset()) -> set[tuple[str, ...]]:
    """Name, type, TTL and data of all that should be ours, with the marks."""
    found = set()
    for name, made in records.content(zone).items():
        if name != zone and name not in theirs:
            found |= {(name, *record) for record in made}
            found.add((marker(name), "TXT", 30, mark(OWNER)))
    return found


def ours(primary: Primary, zone: str, before: Mapping[str, set[tuple[str, ...]]]) -> set[tuple[str, ...]]:
    """All that was not there before, without the term."""
    return {record for record in primary.records(zone) - before.get(zone, set()) if ",term=" not in record[3]}


async def eventually(what: str, probe: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first answer of `probe` that is true; other tasks run meanwhile."""
    deadline = time.monotonic() + seconds
    while not (answer := await asyncio.to_thread(probe)):
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return answer
