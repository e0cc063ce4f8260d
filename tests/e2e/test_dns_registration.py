"""Registration in real servers of three kinds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path

import dns.tsig
import pytest

from pymon.directory import sqlite
from pymon.directory.lease import LEASE_SECONDS
from pymon.dns import inbound
from pymon.dns import registrar as registrar_module
from pymon.dns.records import Records
from pymon.dns.registrar import Registrar, Server
from pymon.dns.update_plan import sort_out
from pymon.dns.view import Proxy
from tests.e2e import primaries
from tests.e2e.primaries import Primary, started
from tests.e2e.proxy import REPOSITORY
from tests.e2e.registered import FOREIGN, OWNER, REVERSE, THEIRS, ZONE, eventually, expected, instance, ours, view

EMPTY = {ZONE: "", REVERSE: ""}
ALL = pytest.mark.parametrize("kind", ["bind", "knot", "powerdns"])


@pytest.fixture
def directory(tmp_path: Path) -> str:
    sqlite.create(tmp_path / "directory.db")
    return str(tmp_path / "directory.db")


@contextlib.asynccontextmanager
async def registering(
    primary: Primary, records: Records, directory: str, key: dns.tsig.Key = primaries.PYMON, holder: str = "p"
) -> AsyncIterator[Registrar]:
    server = Server(primary.address, key, records.origins)
    made = Registrar([server], owner=OWNER, holder=holder, directory=directory, content=records.content)
    made.start()
    try:
        yield made
    finally:
        await made.stop()


async def settled(
    primary: Primary,
    records: Records,
    theirs: set[str] | frozenset[str] = frozenset(),
    before=None,
    seconds: float = 30.0,
) -> None:
    def same() -> bool:
        return all(ours(primary, zone, before or {}) == expected(records, zone, theirs) for zone in records.origins)

    await eventually("the server has the records", same, seconds)


@ALL
@pytest.mark.parametrize("transfers", [True, False])
async def test_names_of_others_are_left_alone(kind: str, transfers: bool, tmp_path: Path, directory: str) -> None:
    records = Records(view(5))
    with started(kind, tmp_path, FOREIGN, transfers=transfers) as primary:
        before = {zone: primary.records(zone) for zone in FOREIGN}
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records, THEIRS, before)
            await eventually("it knows", lambda: [status.names for status in registrar.status()][1:] == [5])
            forward, reverse = registrar.status()
            assert (forward.by_transfer, forward.foreign, forward.refused) == (transfers, THEIRS, {})
            assert (reverse.names, reverse.foreign) == (5, frozenset())
            registrar.changed(
                records.update([instance(1, addresses=("10.9.9.9",))], proxies=(Proxy("q", ("192.0.2.8",)),))
            )
            theirs = {*THEIRS, f"9.9.9.{REVERSE}"}
            await settled(primary, records, theirs, before)
            for zone in FOREIGN:
                assert before[zone] <= primary.records(zone)
            assert registrar.failures() == {}


@ALL
async def test_changes_are_there_within_two_seconds_and_only_they_are_sent(
    kind: str, tmp_path: Path, directory: str
) -> None:
    records = Records(view(20))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records)
            sent = registrar.updates()
            # What somebody adds to a name of ours is theirs.
            primary.edit(ZONE, f"add cmon.{ZONE} 300 MX 10 mail.invalid.")
            before = {ZONE: {(f"cmon.{ZONE}", "MX", 300, "10 mail.invalid.")}}
            for changes, removed in (
                ([instance(1, running=False)], []),
                ([instance(2, addresses=("10.1.0.2", "2001:db8::2"))], []),
                ([], [instance(3).container.uuid]),
                ([instance(21, alias="Größe")], []),
                ([instance(1)], []),
            ):
                began = time.monotonic()
                registrar.changed(records.update(changes, removed))
                await settled(primary, records, before=before)
                assert time.monotonic() - began < 5
            registrar.changed(records.update(proxies=(Proxy("p", ("192.0.2.8",)),)))
            await settled(primary, records, before=before)
            assert sum(registrar.updates().values()) - sum(sent.values()) <= 12
            serial = primary.serial(ZONE)
        async with registering(primary, records, directory) as registrar:
            await eventually(
                "it is in step", lambda: all(status.names for status in registrar.status()) and registrar.status()
            )
            await settled(primary, records, before=before)
            assert sum(registrar.updates().values()) == 0
            # Who registers now is all that has changed.
            assert primary.serial(ZONE) - serial <= 1 or kind == "bind"
        for number in range(2, 22):
            records.update(removed=[instance(number).container.uuid])
        async with registering(primary, records, directory):
            await settled(primary, records, before=before)


@ALL
async def test_a_server_that_was_down_catches_up(kind: str, tmp_path: Path, directory: str) -> None:
    records = Records(view(5))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records)
            primary.stop()
            registrar.changed(records.update([instance(6)], [instance(2).container.uuid]))
            await eventually("it is noticed", lambda: registrar.status()[0].error)
            registrar.changed(records.update([instance(7)]))
            aged = registrar.status()[0].age_seconds
            await eventually("it ages", lambda: registrar.status()[0].age_seconds > aged + 2)
            assert sum(registrar.failures().values()) < 12
            primary.start()
            await settled(primary, records)
            await eventually("it is in step", lambda: not registrar.status()[0].error)
            assert registrar.status()[0].age_seconds < aged + 2


@ALL
async def test_a_zone_that_a_server_does_not_have_holds_up_no_other(kind: str, tmp_path: Path, directory: str) -> None:
    absent = "168.192.in-addr.arpa."
    records = Records(view(3)._replace(reverse=(ip_network("192.168.0.0/16"), ip_network("10.0.0.0/8"))))
    assert records.origins == (ZONE, absent, REVERSE)

    def there() -> bool:
        return all(ours(primary, zone, {}) == expected(records, zone) for zone in EMPTY)

    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await eventually("the zones it has are right", there)
            await eventually("it has failed three times", lambda: sum(registrar.failures().values()) >= 3)
            began = time.monotonic()
            registrar.changed(records.update([instance(4)], [instance(1).container.uuid]))
            await eventually("and stay so", there)
            assert time.monotonic() - began < 2
            errors = {status.zone: status.error for status in registrar.status()}
            assert (errors[ZONE], errors[REVERSE]) == ("", "")
            assert absent in errors[absent]
            ages = {status.zone: status.age_seconds for status in registrar.status()}
            assert max(ages[ZONE], ages[REVERSE]) < ages[absent]


@pytest.mark.parametrize("kind", ["bind that signs", "knot that signs", "powerdns that signs"])
async def test_a_zone_that_is_signed(kind: str, tmp_path: Path, directory: str) -> None:
    records = Records(view(5))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records)
            registrar.changed(
                records.update([instance(6), instance(1, addresses=("10.9.9.9",))], [instance(2).container.uuid])
            )
            await settled(primary, records)
            assert registrar.failures() == {}
        async with registering(primary, records, directory) as registrar:
            await eventually("it has read it", lambda: registrar.status() and all(s.names for s in registrar.status()))
            assert (registrar.failures(), sum(registrar.updates().values())) == ({}, 0)


@ALL
async def test_a_zone_that_was_emptied_is_filled_again(
    kind: str, tmp_path: Path, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrar_module, "CHECK_SECONDS", 0.5)
    records = Records(view(3))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records)
            await eventually("it is in step", registrar.status)
            primary.edit(ZONE, *(f"delete {name}" for name in {record[0] for record in primary.records(ZONE)}))
            await settled(primary, records)


@ALL
@pytest.mark.parametrize(
    ("key", "reasons"),
    [
        (dns.tsig.Key("unknown-key", b"x" * 32, primaries.ALGORITHM), {"bad_key", "refused", "notauth"}),
        (dns.tsig.Key("pymon-key", b"x" * 32, primaries.ALGORITHM), {"bad_signature", "bad_key", "refused", "notauth"}),
        (primaries.OTHER, {"bad_key", "refused", "notauth"}),
    ],
    ids=["unknown", "another secret", "without the right"],
)
async def test_a_key_that_may_not(
    kind: str, key: dns.tsig.Key, reasons: set[str], tmp_path: Path, directory: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(view(3))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory, key) as registrar:
            await eventually("it fails twice", lambda: sum(registrar.failures().values()) >= 2)
            assert {reason for _, reason in registrar.failures()} <= reasons
            assert sum(registrar.failures().values()) < 6
            assert "\n" not in registrar.status()[0].error
        assert primary.records(ZONE) == set()
        said = [record.getMessage() for record in caplog.records if "fails" in record.getMessage()]
        assert len(said) == len(set(said)) <= len(EMPTY)


async def test_names_that_the_server_does_not_take_keep_no_others_out(tmp_path: Path, directory: str) -> None:
    records = Records(view(30))
    services = ["web", *(f"service-{number}" for number in range(10))]
    records.update([instance(1, services=",".join(services))])
    with started("bind with a policy", tmp_path, {ZONE: ""}) as primary:
        server = Server(primary.address, primaries.PYMON, (ZONE,))
        registrar = Registrar([server], owner=OWNER, holder="p", directory=directory, content=records.content)
        registrar.start()
        try:
            labels = ("alice", "00000000-0000-0000-0000-000000000007")
            refused = {f"{service}.svc.{label}.{ZONE}" for label in labels for service in services}
            await eventually(
                "it is known", lambda: registrar.status() and registrar.status()[0].refused.keys() == refused
            )
            await eventually("the rest is there", lambda: ours(primary, ZONE, {}) == expected(records, ZONE, refused))
            assert (registrar.status()[0].error, registrar.failures()) == ("", {})
        finally:
            await registrar.stop()


@contextlib.contextmanager
def process(directory: str, primary: Primary, name: str, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [
        sys.executable,
        "-m",
        "tests.e2e.registrar_process",
        directory,
        str(primary.address.port),
        name,
        str(count),
    ]
    made = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, text=True)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(made.pid, signal.SIGCONT)
        made.kill()
        made.communicate()


@ALL
async def test_another_takes_over_within_seconds_and_the_first_can_do_no_harm(
    kind: str, tmp_path: Path, directory: str
) -> None:
    first, second = Records(view(3)), Records(view(4))
    with started(kind, tmp_path, EMPTY) as primary, process(directory, primary, "first", 3) as other:
        await settled(primary, first)
        async with registering(primary, second, directory, holder="second") as registrar:
            await asyncio.sleep(1)
            assert not registrar.leads()
            assert registrar.status() == []
            assert other.stdin is not None
            # It stands still in the middle of its work, with something to send.
            other.send_signal(signal.SIGSTOP)
            other.stdin.write("1 10.6.6.6\n")
            other.stdin.flush()
            began = time.monotonic()
            await settled(primary, second)
            assert time.monotonic() - began < LEASE_SECONDS + 6
            other.send_signal(signal.SIGCONT)
            await asyncio.sleep(2)
            await settled(primary, second)
            assert registrar.leads()
            assert registrar.failures() == {}
        # Who leaves says so: the first has it again, with what it knows by now.
        first.update([instance(1, addresses=("10.6.6.6",))])
        await settled(primary, first)


@ALL
@pytest.mark.timeout(300)
async def test_two_thousand_names_at_once(kind: str, tmp_path: Path, directory: str) -> None:
    records = Records(view(0))
    with started(kind, tmp_path, EMPTY) as primary:
        async with registering(primary, records, directory) as registrar:
            await settled(primary, records, seconds=90)
            sent = sum(registrar.updates().values())
            registrar.changed(records.update([instance(number, services="") for number in range(1, 335)]))
            assert sum(len(records.content(zone)) for zone in records.origins) > 2000
            await settled(primary, records, seconds=90)
            assert sum(registrar.updates().values()) - sent < 60
            assert registrar.failures() == {}
            registrar.changed(records.update(removed=[instance(number).container.uuid for number in range(1, 335)]))
            await settled(primary, records, seconds=90)


async def longest_wait(found: list[float]) -> None:
    """Keep in a list of one what a task that wants to run every 10 ms waits for it at most."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(0.01)
        found[0] = max(found[0], time.monotonic() - began)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_hundred_thousand_names_are_registered_while_others_have_their_turns(
    tmp_path: Path, directory: str
) -> None:
    many = [instance(number, services=f"s{number // 100}:80") for number in range(1, 20_001)]
    records = Records(view(0)._replace(instances=many, reverse=()))
    content = dict(records.content(ZONE).items())
    assert len(content) > 100_000
    waits = [0.0]
    watching = asyncio.create_task(longest_wait(waits))
    with started("bind", tmp_path, {ZONE: ""}) as primary:
        for changes in (True, False):
            async with registering(primary, records, directory) as registrar:
                began = time.monotonic()
                await eventually(
                    "all is there",
                    lambda: registrar.status() and registrar.status()[0].names == len(content) - 1,
                    seconds=600,
                )
                sent = sum(registrar.updates().values())
                said = f"{len(content)} names, {sent} messages: {time.monotonic() - began:.1f} s"
                sys.stdout.write(f"{said}, the loop waits {waits[0] * 1000:.0f} ms\n")
                assert bool(sent) is changes
                assert registrar.failures() == {}
        with contextlib.closing(
            inbound.transfer((primary.address.host, primary.address.port), ZONE, primaries.PYMON)
        ) as transfer:
            found = sort_out(ZONE, OWNER, await asyncio.to_thread(list, transfer))
    assert {name: set(there) for name, there in found.ours.items()} == {
        name: set(wanted) for name, wanted in content.items() if name != ZONE
    }
    watching.cancel()
    assert waits[0] < 2
