"""Containers that have ended, as the agent keeps them."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import replace
from uuid import UUID

import pytest

from pymon._native.table import Table
from pymon.agent.ends import End
from pymon.agent.last_tables import LastTables, add_kills
from pymon.agent.rows import ContainerRows, entry
from pymon.agent.stopped import MAX_BYTES, MAX_STOPPED, StoppedContainers
from pymon.catalogue.stopped import TABLE
from pymon.containers.identity import Basis, Claim, Container
from pymon.containers.model import Details, Match
from pymon.containers.node_identity import NodeIdentity
from pymon.containers.owner import Subject
from pymon.proxy.agent_document import decode_inventory, find_changes, read_changes
from pymon.sources.last_numbers import Numbers
from pymon.uuid_name import container_uuid

NODE = UUID(int=9)
KEEP = 300.0


class Clock:
    """Seconds since the epoch, and of a clock that runs."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def container(number: int, *, name: str = "web", start: float = 900.0) -> Container:
    text = f"cgroup:/c{number}"
    return Container(container_uuid(NODE, text), f"/c{number}", name, "cgroup", start, uuid_name=text)


def pairs(number: int, name: str = "web") -> tuple[tuple[str, str], ...]:
    return ("id", f"/c{number}"), ("image", ""), ("name", name)


def end(*, kills: int | None = None, code: int | None = None, exact: bool = True, at: float | None = 990.5) -> End:
    return End(Numbers(usage_ns=1_500_000_000, peak_bytes=4096, oom_kills=kills), exact, at, code)


def cells(table: Table, row: int = 0) -> dict[str, int]:
    found = {column: table.get(row, column) for column in table.columns}
    return {column: value for column, value in found.items() if value is not None}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(clock: Clock) -> StoppedContainers:
    return StoppedContainers(KEEP, entry, clock=clock, monotonic=clock)


def test_an_ended_container_has_its_last_numbers(kept: StoppedContainers) -> None:
    uuid = str(container(1).uuid)
    assert kept.add(container(1), pairs(1), end(kills=2, code=137)) == [uuid]
    found = kept.one(uuid)
    assert found is not None
    table, block = found
    assert cells(table) == {
        "start_seconds": 900, "usage_ns": 1_500_000_000, "peak_bytes": 4096, "oom_kills": 2, "end_ms": 990_500,
        "exit_code": 137, "restarts": 0, "exact": 1, "exited": 1,
    }  # fmt: skip
    assert block == b'id="/c1",image="",name="web"'
    assert table.labels(0) == b"", "the block is that of the scrape"
    assert kept.table().labels(0) == block + b","
    path, text = kept.texts[uuid]
    assert path == "/c1"
    assert {"state": "stopped", "ended": 990.5, "uuid": uuid}.items() <= json.loads(text).items()


def test_what_is_not_known_is_absent(kept: StoppedContainers, clock: Clock) -> None:
    kept.add(container(1), pairs(1), End(Numbers(), False, None, None))
    assert cells(kept.table()) == {
        "start_seconds": 900, "end_ms": int(clock.now * 1000), "restarts": 0, "exact": 0, "exited": 1,
    }  # fmt: skip


def test_it_is_forgotten_in_time(kept: StoppedContainers, clock: Clock) -> None:
    kept.add(container(1), pairs(1), end())
    table = kept.table()
    clock.now += KEEP - 1
    kept.add(container(2), pairs(2), end())
    assert kept.expire() == []
    clock.now += 1
    assert kept.expire() == [str(container(1).uuid)]
    assert list(kept.texts) == [str(container(2).uuid)]
    assert kept.one(str(container(1).uuid)) is None
    assert cells(kept.table()) == {}
    assert cells(table)["exact"] == 1, "a table that was handed out does not change"


def test_nothing_is_kept_for_no_time(clock: Clock) -> None:
    kept = StoppedContainers(0.0, entry, clock=clock, monotonic=clock)
    assert kept.add(container(1), pairs(1), end()) == []
    assert len(kept) == 0


def test_their_number_is_bounded(kept: StoppedContainers) -> None:
    for number in range(MAX_STOPPED + 5):
        kept.add(container(number), pairs(number), end())
    assert len(kept) == MAX_STOPPED
    assert str(container(4).uuid) not in kept.texts
    assert str(container(5).uuid) in kept.texts
    assert len(kept.table()) <= MAX_STOPPED + 1


def test_their_memory_is_bounded(kept: StoppedContainers) -> None:
    long = "x" * (MAX_BYTES // 16)
    for number in range(20):
        kept.add(container(number, name=long), pairs(number, long), end())
    assert 5 <= len(kept) < 8
    assert str(container(19).uuid) in kept.texts
    clear = [uuid for uuid in list(kept.texts) if kept.forget(uuid) is None]
    assert len(clear) >= 5
    assert len(kept) == 0


@pytest.mark.parametrize(("count", "name"), [(MAX_STOPPED + 40, "web"), (20, "x" * (MAX_BYTES // 8))])
@pytest.mark.parametrize(("owner", "uid"), [("mallory", None), (None, 1000)])
def test_nobody_pushes_out_the_containers_of_others(
    kept: StoppedContainers, owner: str | None, uid: int | None, count: int, name: str
) -> None:
    first = replace(container(1), owner="alice")
    kept.add(first, pairs(1), end())
    kept.add(container(2), pairs(2), end())
    for number in range(10, 10 + count):
        subject = Subject(Match(f"/c{number}", "podman", uid=uid), {})
        one = replace(container(number, name=name), owner=owner, subject=subject)
        kept.add(one, pairs(number, name), end())
    assert {str(first.uuid), str(container(2).uuid)} <= kept.texts.keys()
    assert len(kept) <= MAX_STOPPED


def test_labels_that_are_not_told_take_no_memory(kept: StoppedContainers) -> None:
    labels = {"key": "x" * MAX_BYTES}
    before = sys.getrefcount(labels)
    subject = Subject(Match("/c1", "docker", "web"), labels)
    kept.add(replace(container(1), labels=labels, subject=subject), pairs(1), end())
    del subject
    assert len(kept) == 1
    assert sys.getrefcount(labels) == before


def test_labels_of_one_that_was_forgotten_take_no_memory(kept: StoppedContainers) -> None:
    kept.add(container(1), pairs(1, "x" * 100_000), end())
    kept.forget(str(container(1).uuid))
    assert kept.table().labels(0) == b""


def test_a_container_that_runs_again_keeps_what_was_counted(kept: StoppedContainers, clock: Clock) -> None:
    uuid = str(container(1).uuid)
    kept.add(container(1), pairs(1), end(kills=2, code=137))
    assert kept.returned("/c1", 7) == [uuid]
    assert kept.texts == {}
    assert kept.one(uuid) is None
    assert kept.ooms == {7: 2}
    assert cells(kept.table()) == {"exit_code": 137, "restarts": 1}
    kept.relabel(container(1), pairs(1, "other"))
    assert kept.table().labels(0) == b'id="/c1",image="",name="other",'
    clock.now += 10 * KEEP
    assert kept.expire() == [], "it lives"
    kept.forget(uuid)
    one = Table(TABLE, kept.table().columns)
    kept.copy_row(7, one)
    assert one.labels(0) == b""
    assert cells(one)["restarts"] == 1, "its own UUID does not make it forgotten"
    assert kept.add(container(1, start=2000.0), pairs(1), end(kills=1, code=0)) == [uuid]
    assert kept.ooms == {}
    assert {"oom_kills": 3, "restarts": 1, "exit_code": 0, "start_seconds": 2000}.items() <= cells(kept.table()).items()
    kept.returned("/c1", 3)
    assert cells(kept.table()) == {"exit_code": 0, "restarts": 2}


def test_another_account_at_the_same_path_gets_nothing_of_what_was_before(kept: StoppedContainers) -> None:
    mine, unknown, yours = (replace(container(1), owner=owner) for owner in ("alice", None, "bob"))
    kept.add(mine, pairs(1), end(kills=2, code=137))
    kept.returned("/c1", 7)
    kept.relabel(unknown, pairs(1))
    kept.relabel(mine, pairs(1))
    assert cells(kept.table()) == {"exit_code": 137, "restarts": 1}
    kept.relabel(yours, pairs(1))
    assert kept.ooms == {}
    assert cells(kept.table()) == {}
    assert kept.add(yours, pairs(1), end(kills=1)) == [str(yours.uuid)]
    assert {"oom_kills": 1, "restarts": 0}.items() <= cells(kept.table()).items()


def test_one_that_ended_before_its_owner_was_known_hands_on_nothing(kept: StoppedContainers) -> None:
    mine, unknown, yours = (replace(container(1), owner=owner) for owner in ("alice", None, "bob"))
    kept.add(mine, pairs(1), end(kills=2, code=137))
    kept.returned("/c1", 7)
    kept.add(unknown, pairs(1), end(kills=1))
    kept.returned("/c1", 7)
    kept.add(yours, pairs(1), end(kills=1))
    assert {"oom_kills": 1, "restarts": 0}.items() <= cells(kept.table()).items()


def test_they_are_forgotten_when_owners_are_decided_in_another_way(kept: StoppedContainers) -> None:
    for number in (1, 2):
        kept.add(container(number), pairs(number), end(kills=1))
    kept.returned("/c2", 7)
    assert kept.forget_ended() == [str(container(1).uuid)]
    assert kept.texts == {}
    assert kept.ooms == {7: 1}
    assert kept.one(str(container(1).uuid)) is None


def test_a_summary_is_made_while_containers_end(kept: StoppedContainers) -> None:
    for number in range(100):
        kept.add(container(number), pairs(number), end())
    over = threading.Event()

    def change() -> None:
        while not over.is_set():
            kept.forget(str(container(1).uuid))
            kept.add(container(1), pairs(1), end())

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=change)
    thread.start()
    try:
        seen = {len(kept.ended()) for _ in range(2000)}
    finally:
        sys.setswitchinterval(before)
        over.set()
        thread.join()
    assert seen <= {99, 100}


def test_a_uuid_that_another_one_holds_is_given_up(kept: StoppedContainers) -> None:
    uuid = str(container(1).uuid)
    kept.add(container(1), pairs(1), end())
    kept.forget(uuid)
    assert kept.one(uuid) is None
    assert kept.returned("/c1", 1) == []


def test_a_runtime_tells_how_it_ended(kept: StoppedContainers) -> None:
    kept.add(container(1), pairs(1), end(code=None))
    assert not kept.describe("/c1", 900.0, Details())
    assert "exit_code" not in cells(kept.table())
    told = Details(exit_code=3, finished_at=991.0, restarts=4, end_state="dead")
    assert kept.describe("/c1", 900.0, told)
    assert {"exit_code": 3, "end_ms": 991_000, "restarts": 4, "dead": 1}.items() <= cells(kept.table()).items()
    assert "exited" not in cells(kept.table())


@pytest.mark.parametrize(("kills", "known"), [(None, 1), (0, 1), (2, 2)])
def test_a_kill_that_only_the_runtime_tells_of(kept: StoppedContainers, kills: int | None, known: int) -> None:
    told = Details(exit_code=137, finished_at=991.0, oom_killed=True, end_state="exited")
    kept.add(container(1), pairs(1), end(kills=kills))
    for _ in range(2):
        assert kept.describe("/c1", 900.0, told)
        assert cells(kept.table())["oom_kills"] == known
    kept.returned("/c1", 7)
    assert kept.ooms == {7: known}
    kept.add(container(1), pairs(1), end(kills=0))
    assert kept.describe("/c1", 900.0, told)
    assert cells(kept.table())["oom_kills"] == known + 1


@pytest.mark.parametrize(
    ("path", "start", "details", "enough"),
    [
        ("/c1", 900.0, Details(exit_code=3, finished_at=100.0), False),
        ("/c1", 901.0, Details(exit_code=3, finished_at=991.0), True),
        ("/c2", 900.0, Details(exit_code=3, finished_at=991.0), True),
    ],
    ids=["an earlier run", "a later run", "forgotten"],
)
def test_what_a_runtime_tells_of_another_run_is_left_out(
    kept: StoppedContainers, path: str, start: float, details: Details, enough: bool
) -> None:
    kept.add(container(1), pairs(1), end())
    assert kept.describe(path, start, details) == enough
    assert "exit_code" not in cells(kept.table())


def test_the_inventory_has_them_and_a_proxy_takes_it(kept: StoppedContainers) -> None:
    rows = ContainerRows(NodeIdentity(NODE, "test"))
    rows.list_ended(kept.texts)
    rows.reserve(1)
    one, two = container(1), container(2)
    rows.claim(0, [Claim(one.uuid, one.uuid_name, Basis.PATH)], 1)
    rows.place(0, one, (), 1.0)
    before = rows.version
    rows.tell_of(kept.add(two, pairs(2), end()))
    found = decode_inventory(rows.document()).containers
    assert {uuid: (told.state, told.ended) for uuid, told in found.items()} == {
        str(one.uuid): ("running", None),
        str(two.uuid): ("stopped", 990.5),
    }
    changed = changes(rows, before)
    assert (changed["total"], [told["id"] for told in changed["changed"]], changed["removed"]) == (2, ["/c2"], [])
    before = rows.version
    kept.forget(str(two.uuid))
    rows.tell_of([str(two.uuid)])
    changed = changes(rows, before)
    assert (changed["total"], changed["changed"], changed["removed"]) == (1, [], [str(two.uuid)])


def changes(rows: ContainerRows, version: str) -> dict[str, object]:
    """The changes since a version, which a proxy takes too."""
    body = rows.changes(version)
    assert body is not None
    offsets = find_changes(body)
    assert offsets is not None
    for _ in read_changes(body, offsets):
        pass
    found: dict[str, object] = json.loads(body)
    return found


def test_what_was_read_last_is_that_of_the_same_container() -> None:
    last = LastTables()
    cpu, events = Table("cpu.v2", ("cpu.stat:usage_usec",)), Table("events.v1", ("memory.oom_control:oom_kill",))
    for table in (cpu, events):
        table.grow(2)
    cpu.set(1, "cpu.stat:usage_usec", 5)
    events.set(1, "memory.oom_control:oom_kill", 3)
    last.keep([cpu], 10.0, {})
    last.keep([events], 20.0, {})
    assert last.numbers(1, 5.0) == Numbers(usage_ns=5000, oom_kills=3)
    assert last.numbers(1, 15.0) == Numbers(oom_kills=3), "it came after the collection had begun"
    assert last.numbers(0, 5.0) == last.numbers(9, 5.0) == Numbers()
    last.lend([cpu])
    assert last.numbers(1, 5.0) == Numbers(oom_kills=3)
    last.lend([Table("events.v1", ("memory.oom_control:oom_kill",))])
    assert last.numbers(1, 5.0) == Numbers(oom_kills=3), "another table of this name is filled"


def test_kills_of_earlier_runs_are_added() -> None:
    events = Table("events.v2", ("memory.events:oom_kill",))
    events.grow(2)
    events.set(0, "memory.events:oom_kill", 1)
    add_kills([events, Table("cpu.v2", ("cpu.stat:usage_usec",))], {0: 2, 1: 5, 7: 1})
    assert events.get(0, "memory.events:oom_kill") == 3
    assert events.get(1, "memory.events:oom_kill") is None


def test_kills_of_earlier_runs_are_not_those_of_the_last_run() -> None:
    last = LastTables()
    events = Table("events.v2", ("memory.events:oom_kill",))
    events.grow(1)
    events.set(0, "memory.events:oom_kill", 1)
    add_kills([events], {0: 2})
    last.keep([events], 10.0, {0: 2})
    assert last.numbers(0, 5.0) == Numbers(oom_kills=1)
