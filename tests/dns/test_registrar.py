import asyncio
import itertools
import random
import time
from uuid import UUID

import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.config import Address, ConfigError
from pymon.directory.lease import Standing
from pymon.dns import registrar, update_plan
from pymon.dns.exchange import ExchangeError, TransferRefusedError
from pymon.dns.records import Records
from pymon.dns.registrar import Registrar
from pymon.dns.remote_zone import RemoteZone
from pymon.dns.rrsets import Record
from pymon.dns.update_plan import (
    BATCH_CHANGES,
    batches,
    mark,
    marker,
    only_adding,
    plan,
    sort_out,
    term,
    term_name,
    update,
)
from pymon.dns.view import Proxy, View
from tests.dns import instances

ZONE = "pymon.test."
ACCOUNT = str(UUID(int=7))
KEY = dns.tsig.Key("k.", b"0" * 32, "hmac-sha256")
NAMES = [f"{name}.{ZONE}" for name in ("a", "b", "a.b", "c", "x.y.z")]
DATA = {
    "A": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
    "AAAA": ["2001:db8::1", "2001:db8::2"],
    "TXT": ['"one"', '"two"'],
    "SRV": ["0 10 80 a.pymon.test.", "0 10 81 a.pymon.test."],
}


@st.composite
def rrsets(draw):
    if draw(st.integers(0, 4)) == 0:
        return (Record("CNAME", draw(st.sampled_from([30, 60])), "cmon.pymon.test."),)
    found = []
    for kind in draw(st.lists(st.sampled_from(list(DATA)), min_size=1, unique=True)):
        ttl = draw(st.sampled_from([30, 60]))
        data = draw(st.lists(st.sampled_from(DATA[kind]), min_size=1, unique=True))
        found += [Record(kind, ttl, text) for text in data]
    return tuple(found)


contents = st.dictionaries(st.sampled_from(NAMES), rrsets())


class Model:
    """What RFC 2136 says that a server does with a message."""

    def __init__(self, records):
        self.records = set(records)

    def apply(self, message: dns.update.UpdateMessage) -> bool:
        for rrset in message.prerequisite:
            name, kind = rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype)
            there = {record for at, record in self.records if at == name and kind in {"ANY", record.type}}
            if rrset.deleting == dns.rdataclass.NONE:
                assert len(rrset) == 0
                if there:
                    return False
            elif {record.data for record in there} != {rdata.to_text() for rdata in rrset}:
                return False
        for rrset in message.update:
            name, kind = rrset.name.to_text(), dns.rdatatype.to_text(rrset.rdtype)
            if rrset.deleting == dns.rdataclass.ANY:
                self.records = {(at, record) for at, record in self.records if (at, record.type) != (name, kind)}
                continue
            for rdata in rrset:
                same = {
                    (at, record)
                    for at, record in self.records
                    if (at, record.type, record.data) == (name, kind, rdata.to_text())
                }
                self.records -= same
                if rrset.deleting is None:
                    self.records.add((name, Record(kind, rrset.ttl, rdata.to_text())))
        return True

    def at(self, name):
        return {record for at, record in self.records if at == name}


def served(content, owner="o"):
    for name, records in content.items():
        yield from ((name, record) for record in records)
        yield marker(name), Record("TXT", 30, mark(owner))
    yield term_name(owner, ZONE), Record("TXT", 30, term(owner, "p"))


@given(contents, contents, st.dictionaries(st.sampled_from(NAMES), rrsets(), max_size=2))
def test_the_server_has_what_is_wanted_and_others_keep_what_is_theirs(before, wanted, foreign):
    before = {name: records for name, records in before.items() if name not in foreign}
    others = [(name, record) for name, records in foreign.items() for record in records]
    others.append((f"www.{ZONE}", Record("MX", 300, "1 mail.")))
    others += [(name, Record("MX", 300, "1 mail.")) for name in before if before[name][0].type != "CNAME"]
    server = Model([*served(before), *others])
    found = sort_out(ZONE, "o", server.records)
    assert found.term == term("o", "p")
    assert {name: set(records) for name, records in found.ours.items()} == {
        name: set(records) for name, records in before.items()
    }
    planned = plan(ZONE, wanted, found.ours, found.others)
    assert set(planned.foreign) == foreign.keys() & wanted.keys()
    for batch in batches(planned.changes):
        assert server.apply(update(ZONE, "o", "p", batch, KEY))
    assert set(others) <= server.records
    for name in {*before, *wanted} - foreign.keys():
        here = {record for record in server.at(name) if record.type != "MX"}
        assert here == set(wanted.get(name, ()))
        assert bool(server.at(marker(name))) == (name in wanted)
    again = sort_out(ZONE, "o", server.records)
    assert plan(ZONE, wanted, again.ours, again.others).changes == []


@given(contents, contents)
def test_while_not_all_is_known_nothing_is_removed_but_of_the_proxies(before, wanted):
    server = Model(served(before))
    found = sort_out(ZONE, "o", server.records)
    changes = only_adding(plan(ZONE, wanted, found.ours, found.others).changes, found.ours, (f"a.{ZONE}",))
    for batch in batches(changes):
        assert server.apply(update(ZONE, "o", "p", batch, KEY))
        assert all(change.wanted for change in batch if change.name != f"a.{ZONE}")
    for name in {*before, *wanted}:
        here = {(record.type, record.data) for record in server.at(name)}
        old, new = ({(one.type, one.data) for one in content.get(name, ())} for content in (before, wanted))
        if name == f"a.{ZONE}":
            assert here == new
        elif "CNAME" in {kind for kind, _ in old ^ new} and old and new:
            assert here >= old
        else:
            assert here == old | new
    later = sort_out(ZONE, "o", server.records)
    for batch in batches(plan(ZONE, wanted, later.ours, later.others).changes):
        assert server.apply(update(ZONE, "o", "p", batch, KEY))
    assert {name: {(r.type, r.data) for r in server.at(name)} for name in wanted} == {
        name: {(r.type, r.data) for r in records} for name, records in wanted.items()
    }


@given(contents, st.sampled_from(NAMES))
def test_a_name_that_appeared_meanwhile_is_not_overwritten(wanted, name):
    wanted = {**wanted, name: (Record("A", 30, "10.0.0.9"),)}
    changes = plan(ZONE, wanted, {}).changes
    for intruder in ((name, Record("MX", 1, "1 m.")), (marker(name), Record("TXT", 30, mark("another")))):
        server = Model([*served({}), intruder])
        before = set(server.records)
        assert not server.apply(update(ZONE, "o", "p", changes, KEY))
        assert server.records == before


@given(contents.filter(bool))
def test_a_predecessor_changes_nothing(wanted):
    server = Model(served({}))
    assert not server.apply(update(ZONE, "o", "another", plan(ZONE, wanted, {}).changes, KEY))
    assert server.apply(update_plan.claim(ZONE, "o", "another", KEY))
    assert server.apply(update(ZONE, "o", "another", plan(ZONE, wanted, {}).changes, KEY))


def test_only_differences_are_sent():
    old = tuple(Record("A", 30, f"10.0.0.{number}") for number in range(1, 100))
    new = (*old[1:], Record("A", 30, "10.0.1.1"))
    (change,) = plan(ZONE, {f"a.{ZONE}": new}, {f"a.{ZONE}": old, f"b.{ZONE}": old}, names=[f"a.{ZONE}"]).changes
    assert (change.cleared, change.removed, change.added) == ((), old[:1], new[-1:])


def test_a_zone_reads_apart():
    text = [
        (ZONE, Record("NS", 1, "ns.")),
        (f"free.{ZONE}", Record("A", 1, "10.0.0.1")),
        (marker(f"mine.{ZONE}"), Record("TXT", 30, mark("o"))),
        (f"mine.{ZONE}", Record("A", 30, "10.0.0.1")),
        (f"mine.{ZONE}", Record("MX", 30, "1 mail.")),
        (marker(f"theirs.{ZONE}"), Record("TXT", 30, mark("other"))),
        (marker(f"both.{ZONE}"), Record("TXT", 30, mark("o"))),
        (marker(f"both.{ZONE}"), Record("TXT", 30, mark("other"))),
        (term_name("other", ZONE), Record("TXT", 30, term("other", "p"))),
    ]
    found = sort_out(ZONE, "o", text)
    assert found.ours == {f"mine.{ZONE}": (Record("A", 30, "10.0.0.1"),)}
    assert {f"free.{ZONE}", f"theirs.{ZONE}", f"both.{ZONE}"} <= found.others
    assert ZONE not in found.others
    assert found.term == ""


def test_the_zone_itself_and_other_zones_are_not_touched():
    wanted = {ZONE: (Record("NS", 3600, "ns."),), "a.other.": (Record("A", 30, "10.0.0.1"),)}
    assert plan(ZONE, wanted, {}) == ([], [], [])


def test_a_name_that_is_too_long_for_a_mark_is_reported():
    name = ".".join(["a" * 63, "inst", "b" * 63, "c" * 60, "d" * 45, ZONE])
    assert 248 <= len(name) <= 254
    assert plan(ZONE, {name: (Record("A", 30, "10.0.0.1"),)}, {}).unfit == [name]


@given(st.integers(0, 800), st.integers(1, 62))
def test_messages_are_bounded_and_nothing_is_lost(count, length):
    wanted = {
        f"{'n' * length}{number}"[-63:] + f".{ZONE}": tuple(
            Record("A", 30, f"10.0.0.{n}") for n in range(number % 90 + 1)
        )
        for number in range(count)
    }
    changes = plan(ZONE, wanted, {}).changes
    made = list(batches(changes))
    assert [change for batch in made for change in batch] == changes
    for batch in made:
        assert 0 < len(batch) <= BATCH_CHANGES


@pytest.mark.parametrize("label", [63, 20])
def test_the_largest_messages_fit(label):
    targets = ".".join(["t" * 36, "inst", "u" * 36, "z" * 60, "z" * 56])
    suffix = ".".join(["z" * 60, "z" * 50, ZONE])
    wanted = {
        f"{f'n{number}'.ljust(label, 'x')}.svc.{'a' * 50}{number}.{suffix}"[:246]: tuple(
            Record("SRV", 30, f"0 10 {port} {targets}.") for port in range(1, 101)
        )
        for number in range(4)
    }
    wanted = {name if name.endswith(ZONE) else name.rstrip(".") + ".": records for name, records in wanted.items()}
    for batch in batches(plan(".", wanted, {}).changes):
        assert len(update(ZONE, "o", "p", batch, KEY).to_wire()) < 65_000


@pytest.mark.parametrize("owner", ["", "A", "a.b", "-a", "a" * 64, "é", 'a"', "a,term=b"])
def test_what_is_no_owner(owner):
    with pytest.raises(ConfigError, match="owner: expected letters"):
        Registrar([], owner=owner, holder="p", directory="d", content=lambda _: {})


class Peer:
    """A server behind the model. lose: how many answers do not arrive. refuses: names that it does not take."""

    key = KEY

    def __init__(self, records=(), transfers=False):
        self.model = Model(records)
        self.transfers = transfers
        self.lose = 0
        self.messages = 0
        self.refuses = set()

    def exchange(self, message):
        self.messages += 1
        answer = dns.message.make_response(message)
        if self.refuses & {rrset.name.to_text() for rrset in message.update}:
            answer.set_rcode(dns.rcode.REFUSED)
        elif not self.model.apply(message):
            answer.set_rcode(dns.rcode.YXDOMAIN)
        if self.lose:
            self.lose -= 1
            raise ExchangeError("timeout", "lost")
        return answer

    def query(self, name, type):
        here = self.model.at(name)
        return [record for record in here if record.type in {type, "CNAME"}]

    def transfer(self, origin):
        if not self.transfers:
            raise TransferRefusedError("refused", "no")
        yield from set(self.model.records)


def many(count):
    return {f"n{number}.{ZONE}": (Record("A", 30, "10.0.0.1"),) for number in range(count)}


def zone_at(peer):
    return RemoteZone(peer, ZONE, "o", "p", lambda: None)


@pytest.mark.parametrize("transfers", [True, False])
def test_an_answer_that_is_lost_costs_nothing(transfers):
    peer = Peer(transfers=transfers)
    zone = zone_at(peer)
    zone.reconcile({})
    peer.lose = 1
    with pytest.raises(ExchangeError):
        zone.apply(many(50))
    zone.reconcile(many(50))
    assert (set(zone.ours), zone.foreign, zone.refused) == (set(many(50)), set(), {})
    peer.lose = 1
    with pytest.raises(ExchangeError):
        zone.apply(dict.fromkeys(many(50), ()))
    zone.reconcile({})
    assert zone.ours == {}
    assert {name for name, _ in peer.model.records} == {term_name("o", ZONE)}


@pytest.mark.parametrize("transfers", [True, False])
def test_names_of_others_that_came_meanwhile_keep_no_others_out(transfers):
    theirs = [(name, Record("MX", 300, "1 mail.")) for name in list(many(50))[::20]]
    peer = Peer(theirs, transfers=transfers)
    zone = zone_at(peer)
    zone.reconcile(many(50))
    assert zone.foreign == {name for name, _ in theirs}
    assert set(zone.ours) == many(50).keys() - zone.foreign
    assert set(theirs) <= peer.model.records
    peer.model.records -= set(theirs)
    zone.reconcile(many(50))
    assert (set(zone.ours), zone.foreign) == (set(many(50)), set())


def test_marks_that_were_taken_from_us_are_seen():
    peer = Peer()
    zone = zone_at(peer)
    zone.reconcile(many(3))
    name = f"n1.{ZONE}"
    peer.model.records = {(at, record) for at, record in peer.model.records if at not in {name, marker(name)}}
    zone.apply({name: (Record("A", 30, "10.0.0.2"),)})
    assert peer.model.at(name) == {Record("A", 30, "10.0.0.2")}
    peer.model.records -= {(marker(name), Record("TXT", 30, mark("o")))}
    zone.apply({name: (Record("A", 30, "10.0.0.3"),)})
    assert peer.model.at(name) == {Record("A", 30, "10.0.0.2")}
    assert zone.foreign == {name}


def test_who_was_deposed_sends_no_more_until_it_may_claim_again():
    peer = Peer()
    zone = zone_at(peer)
    zone.reconcile(many(3))
    RemoteZone(peer, ZONE, "o", "another", lambda: None).reconcile(many(3))
    before = set(peer.model.records)
    with pytest.raises(ExchangeError, match="expected p to register") as caught:
        zone.apply(many(4))
    assert caught.value.reason == "deposed"
    with pytest.raises(ExchangeError, match="expected p to register"):
        zone.check()
    assert peer.model.records == before
    zone.reconcile(many(4))
    zone.check()
    assert set(zone.ours) == set(many(4))


def test_a_name_that_is_refused_keeps_no_others_out_and_a_server_that_refuses_all_is_seen():
    peer = Peer()
    zone = zone_at(peer)
    peer.refuses = set(list(many(50))[7:9])
    zone.reconcile(many(50))
    assert zone.refused.keys() == peer.refuses
    assert set(zone.ours) == many(50).keys() - peer.refuses
    zone.apply({name: () for name in many(50) if name not in peer.refuses})
    peer.refuses = set(many(50))
    zone.apply(many(50))
    assert zone.refused.keys() == peer.refuses
    peer.refuses |= {term_name("o", ZONE)}
    sent = peer.messages
    with pytest.raises(ExchangeError, match="REFUSED"):
        zone.apply(many(50))
    assert peer.messages - sent < 30


def test_names_that_went_while_nobody_looked_are_asked_for_where_they_are_known():
    peer = Peer()
    zone_at(peer).reconcile(many(4))
    later = zone_at(peer)
    later.reconcile(many(2), [f"n2.{ZONE}"])
    assert set(later.ours) == set(many(2))
    assert peer.model.at(f"n2.{ZONE}") == set()
    assert peer.model.at(f"n3.{ZONE}") != set()


class Lease:
    def __init__(self):
        self.now = Standing.LOST

    def standing(self):
        return self.now


@pytest.mark.parametrize(("refusal", "comparisons"), [("for a while", 3), ("always", 5)])
async def test_names_that_are_refused_for_a_while_are_there_soon_after(refusal, comparisons, monkeypatch):
    monkeypatch.setattr(registrar, "REFUSED_SECONDS", 0.2)
    monkeypatch.setattr(registrar, "_REST", 0.0)
    reconciled = []
    reconcile = RemoteZone.reconcile
    monkeypatch.setattr(
        RemoteZone,
        "reconcile",
        lambda zone, *what, **how: reconciled.append(time.monotonic()) or reconcile(zone, *what, **how),
    )
    peer = Peer(transfers=True)
    monkeypatch.setattr(registrar, "Peer", lambda *_: peer)
    lease, content = Lease(), many(3)
    lease.now = Standing.HELD
    worker = registrar._Worker(
        registrar.Server(Address("127.0.0.1", 9), KEY, (ZONE,)), "o", "p", lease, lambda _: content
    )

    async def until(condition):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    worker.start(asyncio.get_running_loop())
    try:
        name = f"new.{ZONE}"
        await until(lambda: len(worker.status()[0].refused) == 0 and worker.status()[0].names == 3)
        peer.refuses = {name}
        content[name] = (Record("A", 30, "10.0.0.9"),)
        worker.changed((name,))
        await until(lambda: worker.status()[0].refused)
        await until(lambda: len(reconciled) == comparisons)
        if refusal == "always":
            gaps = [after - before for before, after in itertools.pairwise(reconciled[1:])]
            assert all(after > 1.4 * before for before, after in itertools.pairwise(gaps)), gaps
            return
        peer.refuses = set()
        await until(lambda: peer.model.at(name) == set(content[name]))
        assert worker.status()[0].refused == {}
    finally:
        await worker.stop()


@pytest.mark.parametrize("standing", list(Standing))
async def test_what_changes_while_the_content_is_copied_is_not_lost(standing, monkeypatch):
    monkeypatch.setattr(registrar, "_PART_SECONDS", -1.0)
    records = Records(
        View(ZONE, [instances.instance(str(UUID(int=n)), f"web{n}", ACCOUNT, "a", True, False, (f"10.0.0.{n}",), "s:80")
                    for n in range(1, 30)], proxies=(Proxy("p", ("192.0.2.1",)),))
    )  # fmt: skip
    lease = Lease()
    lease.now = standing
    server = registrar.Server(Address("127.0.0.1", 9), KEY, records.origins)
    worker = registrar._Worker(server, "o", "p", lease, records.content)
    worker._loop = asyncio.get_running_loop()
    asked = asyncio.create_task(asyncio.to_thread(worker._ask_content, ZONE))
    chance = random.Random(1)  # noqa: S311  # the same each time
    changes, begun = 0, False
    while not asked.done():
        begun = begun or bool(worker._copied)
        if not begun or worker._copied:  # of what comes later a proxy that does not register remembers nothing
            changes += begun
            number = chance.randrange(1, 40)
            gone = [str(UUID(int=number))] if chance.random() < 0.3 else []
            one = instances.instance(str(UUID(int=number)), f"web{chance.randrange(30)}", ACCOUNT, "a", True, False,
                           (f"10.0.1.{number}",), chance.choice(["s:80", "t", ""]))  # fmt: skip
            worker.changed(tuple(records.update([] if gone else [one], gone)))
        await asyncio.sleep(0)
    copy, _ = asked.result()
    assert changes > 20
    copy |= worker._inbox[ZONE]
    assert {name: there for name, there in copy.items() if there} == dict(records.content(ZONE).items())
