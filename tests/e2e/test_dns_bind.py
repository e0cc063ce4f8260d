"""Debian's BIND as a secondary: transfers with TSIG, follows NOTIFY, serves the same records."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.zone
import pytest

from pymon.dns.zone import serial_after
from tests.dns.serving import KEY, OPTIONS, ORIGIN, REVERSE, SIGNED, instance, secondary, serving, until, uuid_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
key "{name}" {{ algorithm hmac-sha256; secret "{secret}"; }};
options {{
    directory "{directory}"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none;
    session-keyfile none; managed-keys-directory "{directory}"; recursion no; dnssec-validation no;
    allow-transfer {{ any; }}; notify no; empty-zones-enable no;
}};
controls {{ }};
"""
ZONE = 'zone "{origin}" {{ type secondary; file "{file}"; primaries {{ 127.0.0.1 port {port}{key}; }}; }};\n'


class Bind:
    """A named with its own directory and port; a context manager."""

    def __init__(self, directory: Path, port: int, primary: int, *, key: dns.tsig.Key | None) -> None:
        program = shutil.which("named")
        if program is None:
            pytest.skip("named is not installed")
        self.port = port
        self.log = directory / "named.log"
        config = directory / "named.conf"
        secret = base64.b64encode(key.secret if key else b"0" * 32).decode()
        name = key.name.to_text(omit_final_dot=True) if key else "unused"
        text = CONFIG.format(name=name, secret=secret, directory=directory, port=port)
        for index, origin in enumerate((ORIGIN, REVERSE)):
            used = f' key "{name}"' if key else ""
            text += ZONE.format(origin=origin, file=f"{index}.zone", port=primary, key=used)
        config.write_text(text)
        self._command = [program, "-g", "-n", "1", "-c", str(config)]

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, name: str, kind: str) -> dns.message.Message | None:
        with contextlib.suppress(dns.exception.Timeout, OSError):
            query = dns.message.make_query(name, kind)
            return dns.query.udp(query, "127.0.0.1", port=self.port, timeout=1)
        return None

    def serial(self, origin: str = ORIGIN) -> int:
        answer = self.ask(origin, "SOA")
        return answer.answer[0][0].serial if answer is not None and answer.answer else 0

    def zone(self, origin: str = ORIGIN) -> dns.zone.Zone:
        zone = dns.zone.Zone(origin, relativize=False)
        dns.query.inbound_xfr("127.0.0.1", zone, port=self.port, timeout=20)
        return zone

    async def has(self, serial: int, origin: str = ORIGIN, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while await asyncio.to_thread(self.serial, origin) != serial:
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            await asyncio.sleep(0.02)


def free_port() -> int:
    """One that is free for UDP and TCP now."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
            tcp.bind(("127.0.0.1", 0))
            udp.bind(tcp.getsockname())
            return tcp.getsockname()[1]


@pytest.fixture
def bind_directory(tmp_path: Path) -> Iterator[Path]:
    """named runs as whoever runs the test."""
    os.chmod(tmp_path, 0o755)  # noqa: PTH101, S103
    return tmp_path


def with_secondary(options, port: int, key: dns.tsig.Key | None):
    return replace(options, transfer_from=(), secondaries=(secondary(port, key.name if key else None),))


@pytest.mark.parametrize("key", [KEY, None], ids=["signed", "unsigned"])
async def test_bind_serves_the_same_records(bind_directory, key):
    port = free_port()
    async with serving(with_secondary(SIGNED if key else OPTIONS, port, key), count=500) as served:
        with Bind(bind_directory, port, served.where[1], key=key) as bind:
            for origin in (ORIGIN, REVERSE):
                await bind.has(served.server.zones[origin].serial, origin)
                assert await asyncio.to_thread(bind.zone, origin) == served.expected(origin)
            assert served.server.authority.transfers["axfr"] == 2
            for name, kind in (
                (f"{uuid_of(1)}.cmon.{ORIGIN}", "A"),
                (f"web-1.inst.alice.{ORIGIN}", "A"),
                (f"web-1.inst.alice.{ORIGIN}", "TXT"),
                (f"nothing.{ORIGIN}", "A"),
                ("2.0.0.10.in-addr.arpa.", "PTR"),
            ):
                theirs = await asyncio.to_thread(bind.ask, name, kind)
                ours = await served.udp(dns.message.make_query(name, kind))
                assert theirs.rcode() == ours.rcode()
                assert theirs.answer == ours.answer
                assert theirs.authority == ours.authority or ours.answer


async def test_bind_follows_notify_with_incremental_transfers(bind_directory):
    port = free_port()
    async with serving(with_secondary(SIGNED, port, KEY), count=300) as served:
        with Bind(bind_directory, port, served.where[1], key=KEY) as bind:
            await bind.has(served.zone.serial)
            await bind.has(served.server.zones[REVERSE].serial, REVERSE)
            for step in range(1, 6):
                served.change(instance(step, last=step), instance(400 + step), removed=(uuid_of(100 + step),))
                await bind.has(served.zone.serial)  # far sooner than the SOA record says to look: 30 s
            await bind.has(served.server.zones[REVERSE].serial, REVERSE)
            for origin in (ORIGIN, REVERSE):
                assert await asyncio.to_thread(bind.zone, origin) == served.expected(origin)
            assert served.server.authority.transfers["axfr"] == 2
            assert served.server.authority.transfers["ixfr"] >= 6  # the reverse zone may have had several at once
            family = next(family for family in served.server.families() if family.name == "pymon_dns_notifies")
            await until(lambda: family.read().get(("acknowledged",), 0) >= 6, "BIND did not acknowledge")
            assert "refused" not in {outcome for (outcome,) in family.read()}


async def test_bind_goes_on_after_a_restart_of_the_primary(bind_directory):
    port = free_port()
    options = with_secondary(SIGNED, port, KEY)
    async with serving(options) as served:
        options = replace(options, listen_addresses=served.server.addresses)
        with Bind(bind_directory, port, served.where[1], key=KEY) as bind:
            await bind.has(served.zone.serial)
            before = served.zone.serial
            await served.server.stop()
            async with serving(options, count=5) as again:
                assert serial_after(again.zone.serial, before)
                await bind.has(again.zone.serial)
                assert await asyncio.to_thread(bind.zone) == again.expected()


@pytest.mark.parametrize(
    "key",
    [None, dns.tsig.Key(KEY.name, b"wrong" * 8), dns.tsig.Key("unknown.example.", KEY.secret)],
    ids=["none", "wrong", "unknown"],
)
async def test_bind_gets_nothing_without_the_right_key(bind_directory, key):
    port = free_port()
    async with serving(with_secondary(SIGNED, port, KEY)) as served:
        with Bind(bind_directory, port, served.where[1], key=key) as bind:
            authority = served.server.authority
            await until(lambda: authority.refused["axfr"] or authority.signatures, bind.log.read_text())
            answer = None
            while answer is None:
                answer = await asyncio.to_thread(bind.ask, ORIGIN, "SOA")
            assert answer.rcode() == dns.rcode.SERVFAIL
            assert not authority.transfers
