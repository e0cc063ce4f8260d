"""`pymon dns`: zones as master files that BIND reads, from files alone, and what it says of servers."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

import pytest

from pymon import cli
from pymon.cli import dns_check
from pymon.config import Address
from pymon.directory.directory import open_directory
from pymon.directory.url import identity
from pymon.dns.options import DnsOptions, Source
from pymon.dns.records import Record, Records
from pymon.dns.server import DnsServer
from pymon.dns.tsig import load_keys
from pymon.dns.update_plan import mark, marker, term, term_name
from pymon.dns.view import Instance, Proxy, View
from tests.dns import instances as dns_instances

ZONE = "pymon.internal"
REVERSE = "18.198.in-addr.arpa"
ALICE = UUID("11111111-1111-4111-8111-111111111111")
STOPPED = 3
NODE = "22222222-2222-4222-8222-222222222222"
OPTIONS = (f"--zone={ZONE}", "--dns.reverse=198.18.0.0/16")

Run = Callable[..., tuple[int, str, str]]


def uuid_of(number: int) -> str:
    return str(UUID(int=number + (1 << 100)))


def row(number: int, **fields: object) -> dict[str, object]:
    return {
        "uuid": uuid_of(number), "id": f"/{number}", "name": f"web-{number}", "runtime": "docker", "runtime_id": "",
        "image": "nginx", "start": 100.0, "owner": "alice", "state": "running", "health": "", "groups": [],
        "services": "www:80", "namespace": "", "pod": "", "pod_id": "", "addresses": [f"198.18.0.{number}"],
    } | fields  # fmt: skip


def write_copy(data: Path, *rows: dict[str, object], stopped: tuple[dict[str, object], ...] = ()) -> None:
    (data / "inventory").mkdir(exist_ok=True)
    document = {"version": "1", "node": {"uuid": NODE, "hostname": "host"}, "containers": rows}
    stops = [{"since": time.time() - 10, "container": found} for found in stopped]
    copy = {"saved_at": time.time(), "etag": "", "document": document, "stopped": stops}
    (data / "inventory/n1.json").write_text(json.dumps(copy))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with an account, a node, three containers and a proxy that is alive."""
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path))
    with open_directory(str(tmp_path / "directory.db"), create=True) as directory:
        directory.create_account("alice", uuid=ALICE)
        directory.create_node("n1", "http://127.0.0.1:1")
        directory.acquire_lease("proxy p1", '["192.0.2.1"]', 20.0)
    write_copy(tmp_path, row(1), row(2), stopped=(row(STOPPED),))
    return tmp_path


@pytest.fixture
def pymon(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        status = cli.main(["dns", *words, *OPTIONS])
        return (status, *capsys.readouterr())

    return run


def checked(origin: str, text: str) -> None:
    """BIND's own reader takes a zone."""
    program = shutil.which("named-checkzone")
    if program is None:
        pytest.skip("named-checkzone is not installed")
    done = subprocess.run(
        [program, "-i", "local", origin, "/dev/stdin"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout, text)


def records_of(text: str) -> set[str]:
    """Lines without TTL and class, the SOA left out."""
    fields = [line.split("\t") for line in text.splitlines()]
    return {f"{name} {kind} {data}" for name, _, _, kind, data in fields if kind != "SOA"}


def known(count: int = 2) -> Records:
    """What the data directory says, made by hand: so many containers, and one more that has stopped."""

    def instance(number: int, *, running: bool) -> Instance:
        address = f"198.18.0.{number}"
        return dns_instances.instance(
            uuid_of(number), f"web-{number}", str(ALICE), "alice", running, False, (address,), "www:80"
        )

    instances = [instance(number, running=True) for number in range(1, count + 1)]
    if count < STOPPED:
        instances.append(instance(STOPPED, running=False))
    proxies = (Proxy("p1", ("192.0.2.1",)),)
    return Records(View(ZONE, instances, [NODE], proxies, (ip_network("198.18.0.0/16"),)))


@pytest.mark.usefixtures("data")
def test_zones_are_master_files_of_what_is_known(pymon: Run) -> None:
    records = known()
    for zone in (ZONE, f"{REVERSE.upper()}."):
        status, text, said = pymon("show", zone)
        assert (status, said) == (0, "")
        checked(zone, text)
        origin = f"{zone.lower().rstrip('.')}."
        assert text.split(maxsplit=4)[:4] == [origin, "30", "IN", "SOA"]
        assert records_of(text) == {
            f"{name} {record.type} {record.data}"
            for name, found in records.content(origin).items()
            for record in found
            if record.type != "SOA"
        }
    status, text, _ = pymon("show")
    assert (status, text.count("\tSOA\t")) == (0, 2)


def test_a_container_that_two_nodes_claim_is_its_holders(data: Path, pymon: Run) -> None:
    other = UUID(int=9 << 64)
    with open_directory(str(data / "directory.db")) as directory:
        directory.create_node("n2", "http://127.0.0.1:2", uuid=other)
    document = {"node": {"uuid": str(other), "hostname": "host"}, "containers": [row(1, name="elsewhere")]}
    copy = {"saved_at": time.time(), "etag": "", "document": document, "stopped": []}
    (data / "inventory/n2.json").write_text(json.dumps(copy))
    assert "elsewhere" not in pymon("show", ZONE)[1]
    head = {"pymon_holders_copy": 1, "directory": identity(str(data / "directory.db")), "returns": {}}
    holder = [uuid_of(1), str(other), str(ALICE), 100.0, 0.0]
    (data / "holders-copy.jsonl").write_text(f"{json.dumps(head)}\n{json.dumps(holder)}\n")
    status, text, said = pymon("show", ZONE)
    assert (status, said) == (0, "")
    assert "elsewhere" in text


@pytest.mark.usefixtures("data")
def test_a_zone_that_is_not_there_is_bad_usage(pymon: Run) -> None:
    status, text, said = pymon("show", "example.com")
    assert (status, text) == (2, "")
    assert said == f"pymon: expected a zone, {ZONE}. or {REVERSE}., got 'example.com'\n"


@pytest.mark.usefixtures("data")
def test_a_zone_that_cannot_be_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dns", "show", "--zone=a_b.example"]) == 2
    assert capsys.readouterr() == (
        "",
        "pymon: zone: expected a host name such as cmon.example.com, got 'a_b.example'\n",
    )


def test_without_live_proxies_those_of_the_options_count(data: Path, pymon: Run) -> None:
    with open_directory(str(data / "directory.db")) as directory:
        directory.release_lease("proxy p1", '["192.0.2.1"]')
    status, text, said = pymon("show", ZONE)
    assert status == 0
    assert f"\ncmon.{ZONE}.\t" not in text
    assert said == f"pymon: no proxy with an address is alive for cmon.{ZONE}.\n"
    checked(ZONE, text)
    status, text, said = pymon("show", ZONE, "--dns.proxy-address=192.0.2.7")
    assert (status, said) == (0, "")
    assert f"cmon.{ZONE}. A 192.0.2.7" in records_of(text)


def test_names_that_cannot_be_are_said_beside_a_zone_that_holds(data: Path, pymon: Run) -> None:
    write_copy(data, row(1), row(2, name="web-1"), row(4, name="x" * 300, services="?"))
    status, text, said = pymon("show", ZONE)
    assert status == 0
    assert said.count("pymon: ") == said.count("\n") >= 2
    assert "alias web-1" in said
    checked(ZONE, text)


def test_the_copy_of_the_directory_serves_and_nothing_is_written(data: Path, pymon: Run) -> None:
    with open_directory(str(data / "directory.db")) as directory:
        directory.acquire_lease("proxy p1", '["192.0.2.1"]', 20.0)
    make = (
        "import asyncio, sys; from pathlib import Path; from pymon.directory.live import LiveDirectory\n"
        "async def main():\n"
        "    live = LiveDirectory(sys.argv[1], Path(sys.argv[2]), print); live.start(); await live.stop()\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", make, data / "directory.db", data / "directory-copy.json"], check=True)
    for file in data.glob("directory.db*"):
        file.unlink()
    before = {file: file.stat().st_mtime_ns for file in data.rglob("*")}
    status, text, said = pymon("show", ZONE, "--dns.proxy-address=192.0.2.1")
    assert status == 0
    assert said.startswith("pymon: from the copy of the directory: ")
    assert said.count("\n") == 1
    assert f"web-1.inst.alice.{ZONE}. A 198.18.0.1" in records_of(text)
    assert {file: file.stat().st_mtime_ns for file in data.rglob("*")} == before


def test_no_directory_is_one_line(data: Path, pymon: Run) -> None:
    (data / "directory.db").unlink()
    status, text, said = pymon("show")
    assert (status, text) == (1, "")
    assert "no directory there" in said
    assert said.count("\n") == 1


SERVER = "ADDRESS or ADDRESS:PORT, and the name of a key after a space if need be"

# --- check ---------------------------------------------------------------------------------------


async def compared(server: DnsServer, pymon: Run, *flags: str) -> tuple[int, str, str]:
    await server.start()
    try:
        return await asyncio.to_thread(pymon, "check", f"--server={server.addresses[0]}", *flags)
    finally:
        await server.stop()


OPEN = DnsOptions(listen_addresses=(Address("127.0.0.1", 0),), transfer_from=(Source(ip_network("127.0.0.0/8"), None),))


def served(records: Records, options: DnsOptions = OPEN) -> DnsServer:
    server = DnsServer(options)
    server.publish(records)
    return server


@pytest.mark.usefixtures("data")
async def test_a_server_that_answers_right_is_equal(pymon: Run) -> None:
    for flags in ((), ("--sample=0",), ("--sample=3",)):
        assert await compared(served(known()), pymon, *flags) == (0, "", "")


@pytest.mark.usefixtures("data")
async def test_each_difference_is_a_line(pymon: Run) -> None:
    server = served(known())
    zone = server.zones[f"{ZONE}."]
    assert zone.update(
        {
            f"web-1.inst.alice.{ZONE}.": (),
            f"web-2.inst.alice.{ZONE}.": (
                Record("A", 30, "198.18.9.9"), Record("AAAA", 30, "2001:db8::9"), Record("TXT", 30, f'"{uuid_of(2)}"'),
            ),
            f"cmon.{ZONE}.": (Record("A", 60, "192.0.2.1"),),
        }
    ) == []  # fmt: skip
    server.zones.pop(f"{REVERSE}.").close()
    status, text, said = await compared(server, pymon, "--sample=0")
    assert status == 1
    assert f"does not transfer {REVERSE}., so names that should not exist are not found: REFUSED" in said
    where = str(server.addresses[0])
    lines = {line.removeprefix(f"{where}: ") for line in text.splitlines()}
    assert lines >= {
        f"web-1.inst.alice.{ZONE}. A: expected 198.18.0.1, got NXDOMAIN",
        f'web-1.inst.alice.{ZONE}. TXT: expected "{uuid_of(1)}", got NXDOMAIN',
        f"web-2.inst.alice.{ZONE}. A: expected 198.18.0.2, got 198.18.9.9",
        f"web-2.inst.alice.{ZONE}. AAAA: expected nothing, got 2001:db8::9",
        f"cmon.{ZONE}. A: expected TTL 5, got 60",
        f"{REVERSE}.: expected this zone, got REFUSED",
    }
    assert text.count(REVERSE) == 1
    assert not any(line.startswith("web-3") for line in lines)


@pytest.mark.usefixtures("data")
async def test_many_names_take_many_batches(data: Path, pymon: Run) -> None:
    write_copy(data, *(row(number) for number in range(1, 200)))
    assert await compared(served(known(199)), pymon, "--sample=0") == (0, "", "")


KEY_FILE = 'key "transfer" { algorithm hmac-sha256; secret "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="; };'


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("how", ["unsigned", "named", "configured"])
async def test_names_in_excess_are_seen_by_transfer(pymon: Run, tmp_path: Path, how: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY_FILE)
    options = OPEN if how == "unsigned" else replace(OPEN, keys=load_keys(keys))
    server = served(known(), options)
    zone = server.zones[f"{ZONE}."]
    assert zone.update({f"old.inst.alice.{ZONE}.": (Record("A", 30, "198.18.9.9"), Record("TXT", 30, '"x"'))}) == []
    await server.start()
    where = str(server.addresses[0])
    flags = {
        "unsigned": (f"--server={where}",),
        "named": (f"--server={where} transfer", f"--dns.tsig-key-file={keys}"),
        "configured": (f"--server={where}", f"--dns.tsig-key-file={keys}", f"--dns.secondary={where} transfer"),
    }[how]
    try:
        answer = await asyncio.to_thread(pymon, "check", *flags)
    finally:
        await server.stop()
    line = f'{where}: old.inst.alice.{ZONE}.: expected nothing, got A 198.18.9.9, TXT "x"'
    assert answer == (1, f"{line}\n", "")


@pytest.mark.usefixtures("data")
async def test_a_key_that_a_server_does_not_know_is_a_failure(pymon: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY_FILE)
    server = served(known())
    await server.start()
    where = str(server.addresses[0])
    try:
        answer = await asyncio.to_thread(pymon, "check", f"--server={where} transfer", f"--dns.tsig-key-file={keys}")
    finally:
        await server.stop()
    lines = [
        f"pymon: {where} does not transfer {zone}., so names that should not exist are not found: "
        for zone in (ZONE, REVERSE)
    ]
    assert answer == (1, "", "".join(f"{line}The peer didn't know the key we used\n" for line in lines))


@pytest.mark.usefixtures("data")
async def test_of_a_zone_that_is_registered_only_names_that_are_ours_are_in_excess(pymon: Run) -> None:
    server = served(known())
    old, other = f"old.inst.alice.{ZONE}.", f"www.{ZONE}."
    ours = {
        marker(old): (Record("TXT", 30, mark("pymon")),),
        term_name("pymon", f"{ZONE}."): (Record("TXT", 30, term("pymon", "p")),),
    }
    address = (Record("A", 30, "198.18.9.9"),)
    assert server.zones[f"{ZONE}."].update({**ours, old: address, other: address}) == []
    line = f"{old}: expected nothing, got A 198.18.9.9"
    status, text, said = await compared(server, pymon)
    assert (status, text, said) == (1, f"{server.addresses[0]}: {line}\n", "")


@pytest.mark.usefixtures("data")
async def test_a_server_that_gives_no_transfer_is_said(pymon: Run) -> None:
    server = served(known(), replace(OPEN, transfer_from=()))
    status, text, said = await compared(server, pymon)
    where = server.addresses[0]
    assert (status, text) == (0, "")
    assert said.splitlines() == [
        f"pymon: {where} does not transfer {origin}, so names that should not exist are not found: REFUSED"
        for origin in (f"{ZONE}.", f"{REVERSE}.")
    ]


@pytest.mark.usefixtures("data")
def test_a_server_that_does_not_answer_is_a_line(pymon: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_check, "ANSWER_SECONDS", 0.2)
    status, text, said = pymon("check", "--server=127.0.0.1:9")
    assert (status, said) == (1, "")
    assert text.startswith("127.0.0.1:9 does not answer")
    assert text.count("\n") == 1


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ((), f"expected --server {SERVER}"),
        (("--server=example.com",), f"--server: expected {SERVER}, got 'example.com'"),
        (("--server=127.0.0.1 key.",), "--server: expected a key of dns.tsig-key-file, got key."),
        (("--server=127.0.0.1", "--sample=-1"), "--sample: expected 0 or more, got '-1'"),
    ],
)
def test_bad_usage(pymon: Run, flags: tuple[str, ...], line: str) -> None:
    assert pymon("check", *flags) == (2, "", f"pymon: {line}\n")
