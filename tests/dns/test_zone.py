import itertools
import shutil
import subprocess

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.zone
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon._native.responder import Zones
from pymon.dns.records import Record
from pymon.dns.zone import Zone, encode, next_serial, parse_records, serial_after

ORIGIN = "pymon.internal."
SOA = Record("SOA", 30, f"ns.example.net. hostmaster.{ORIGIN} 0 30 60 2592000 30")
NS = Record("NS", 3600, "ns.example.net.")
CONTENT = {
    ORIGIN: (SOA, NS),
    f"cmon.{ORIGIN}": (Record("A", 30, "192.0.2.1"), Record("AAAA", 30, "2001:db8::1")),
    f"u.cmon.{ORIGIN}": (Record("CNAME", 30, f"cmon.{ORIGIN}"),),
    f"web.svc.a.{ORIGIN}": (Record("A", 30, "10.0.0.1"), Record("SRV", 30, f"0 10 80 u.inst.a.{ORIGIN}")),
    f"u.inst.a.{ORIGIN}": (Record("A", 30, "10.0.0.1"), Record("TXT", 30, '"u"')),
}


def ticking(start=1_800_000_000):
    """A clock that is at this serial first and then at each that follows."""
    serials = itertools.count(start)
    return lambda: (next(serials) + 0.5) / 100


def served(content=CONTENT, **options):
    zone = Zone(Zones(), ORIGIN, clock=ticking(**options))
    assert zone.replace(content) == []
    return zone


def everything(zone):
    found = {}
    for part in zone.transfer(1000):
        for name, record in parse_records(part, zone.origin):
            found.setdefault(name, set()).add(record)
    return found


def without_soa(content):
    return {name: {record for record in records if record.type != "SOA"} for name, records in content.items()}


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [
        (1, 0, True),
        (0, 1, False),
        (0, 0, False),
        (0, 2**32 - 1, True),
        (2**31 - 1, 0, True),
        (2**31, 0, False),
        (0, 2**31, False),
    ],
)
def test_serials_are_compared_on_a_circle(first, second, after):
    assert serial_after(first, second) is after


@given(st.integers(0, 2**32 - 1), st.floats(0, 2**34))
def test_the_next_serial_comes_after_and_is_never_zero(serial, now):
    following = next_serial(serial, now)
    assert 0 < following < 2**32
    assert serial_after(following, serial) or serial == 0


@pytest.mark.parametrize(
    ("serial", "now", "following"),
    [
        (0, 18_000_000.019, 1_800_000_001),
        (0, 30_000_000, 3_000_000_000),
        (1_800_000_000, 18_000_000, 1_800_000_001),
        (1_900_000_000, 18_000_000, 1_900_000_001),
        (2**32 - 1, 2**31 / 100 + 5, 1),
        (4_200_000_000, 2**32 / 100 + 1, 100),
    ],
)
def test_serials_follow_the_clock_where_that_goes_forward(serial, now, following):
    assert next_serial(serial, now) == following


def test_after_many_changes_a_restart_has_a_serial_that_follows():
    now = 1_800_000_000.0

    def busy():
        zone = Zone(Zones(), ORIGIN, clock=lambda: now)
        zone.replace(CONTENT)
        return zone

    zone = busy()
    for number in range(500):
        now += 0.02
        zone.update({f"u.inst.a.{ORIGIN}": (Record("A", 30, f"10.0.1.{number % 250}"),)})
    now += 1
    assert serial_after(busy().serial, zone.serial)


def test_what_is_put_is_what_is_there():
    zone = served()
    assert everything(zone) == without_soa(CONTENT)
    assert len(zone) == 9
    assert zone.get(ORIGIN)[0].data.split()[2] == str(zone.serial) == "1800000000"
    assert set(zone.get(f"WEB.svc.a.{ORIGIN}")) == set(CONTENT[f"web.svc.a.{ORIGIN}"])
    assert zone.get(f"svc.a.{ORIGIN}") == ()
    assert zone.get("elsewhere.") == ()


def test_the_same_again_is_no_change():
    zone = served()
    assert zone.replace(dict(reversed(CONTENT.items()))) == []
    assert zone.update({f"cmon.{ORIGIN}": CONTENT[f"cmon.{ORIGIN}"][::-1], f"nothing.{ORIGIN}": ()}) == []
    assert zone.serial == 1_800_000_000
    assert zone.differences(zone.serial) == []


def test_an_update_says_what_it_took_and_brought():
    zone = served()
    changed = {
        f"cmon.{ORIGIN}": (Record("A", 30, "192.0.2.2"), Record("AAAA", 30, "2001:db8::1")),
        f"u.cmon.{ORIGIN}": (),
        f"v.cmon.{ORIGIN}": (Record("CNAME", 30, f"cmon.{ORIGIN}"),),
    }
    assert zone.update(changed) == []
    (difference,) = zone.differences(1_800_000_000)
    assert (difference.old_serial, difference.serial) == (1_800_000_000, 1_800_000_001)
    assert set(parse_records(difference.removed, ORIGIN)) == {
        (f"cmon.{ORIGIN}", Record("A", 30, "192.0.2.1")),
        (f"u.cmon.{ORIGIN}", Record("CNAME", 30, f"cmon.{ORIGIN}")),
    }
    assert set(parse_records(difference.added, ORIGIN)) == {
        (f"cmon.{ORIGIN}", Record("A", 30, "192.0.2.2")),
        (f"v.cmon.{ORIGIN}", Record("CNAME", 30, f"cmon.{ORIGIN}")),
    }
    assert (difference.removed_count, difference.added_count) == (2, 2)
    (old,), (new,) = (list(parse_records(soa, ORIGIN)) for soa in (difference.old_soa, difference.soa))
    assert old[1].data.split()[2:3] + new[1].data.split()[2:3] == ["1800000000", "1800000001"]
    assert new[1] == zone.get(ORIGIN)[0]


def test_a_whole_new_content_is_a_difference_too():
    zone = served()
    after = {ORIGIN: (SOA, NS), f"new.{ORIGIN}": (Record("A", 30, "10.0.0.9"),)}
    assert zone.replace(after) == []
    assert everything(zone) == without_soa(after)
    (difference,) = zone.differences(1_800_000_000)
    assert (difference.removed_count, difference.added_count) == (7, 1)


NAMES = st.sampled_from([f"{a}.{b}{ORIGIN}" for a in "abc" for b in ("", "x.", "a.x.")])
RECORDS = st.lists(
    st.builds(Record, st.just("A"), st.sampled_from([30, 60]), st.sampled_from(["10.0.0.1", "10.0.0.2"]))
)


def merged(records):
    """As RFC 2181 has it: one TTL for a set."""
    return {record._replace(ttl=min(other.ttl for other in records)) for record in records}


@given(st.lists(st.dictionaries(NAMES, RECORDS.map(tuple)), min_size=1), st.booleans())
def test_differences_lead_from_each_serial_to_the_present(steps, whole):
    zone = served({ORIGIN: (SOA, NS)})
    wanted = {ORIGIN: {NS}}
    past = [(zone.serial, wanted)]
    for step in steps:
        wanted = {ORIGIN: {NS}} if whole else dict(wanted)
        wanted |= {name: merged(records) for name, records in step.items()}
        wanted = {name: records for name, records in wanted.items() if records}
        assert (zone.replace({ORIGIN: (SOA, NS), **step}) if whole else zone.update(step)) == []
        assert everything(zone) == wanted
        past.append((zone.serial, wanted))
    for serial, content in past:
        at = {(name, record) for name, records in content.items() for record in records}
        for difference in zone.differences(serial):
            removed = set(parse_records(difference.removed, ORIGIN))
            assert removed <= at
            at = at - removed | set(parse_records(difference.added, ORIGIN))
        assert at == {(name, record) for name, records in wanted.items() for record in records}


def test_history_is_bounded_and_forgotten_serials_are_said_so(monkeypatch):
    monkeypatch.setattr("pymon.dns.zone.HISTORY_CHANGES", 3)
    monkeypatch.setattr("pymon.dns.zone.HISTORY_BYTES", 1000)
    zone = served()
    serials = [zone.serial]
    for i in range(6):
        zone.update({f"n.{ORIGIN}": (Record("A", 30, f"10.0.0.{i}"),)})
        serials.append(zone.serial)
    assert [known is None for known in map(zone.differences, serials)] == [True] * 3 + [False] * 4
    assert zone.differences(serials[-1] + 1) is None
    zone.update({f"n{i}.{ORIGIN}": (Record("A", 30, "10.0.0.1"),) for i in range(100)})
    assert zone.differences(serials[-1]) is None
    assert zone.differences(zone.serial) == []


def test_what_cannot_be_served_is_said_and_the_name_stays_as_it_was():
    zone = served()
    problems = zone.update({
        f"cmon.{ORIGIN}": (Record("A", 30, "not.an.address"),),
        f"u.cmon.{ORIGIN}": (Record("CNAME", 30, "a."), Record("A", 30, "10.0.0.1")),
        f"*.{ORIGIN}": (Record("A", 30, "10.0.0.1"),),
        f"a.{ORIGIN}": (Record("NS", 30, "a."),),
        f"b.{ORIGIN}": (Record("TXT", -1, '"b"'),),
        f"c.{ORIGIN}": (Record("NONSENSE", 30, "c"),),
        f"\u00e4.{ORIGIN}": (Record("A", 30, "10.0.0.1"),),
        f"{'d' * 64}.{ORIGIN}": (Record("A", 30, "10.0.0.1"),),
        "elsewhere.": (Record("A", 30, "10.0.0.1"),),
        f"good.{ORIGIN}": (Record("A", 30, "10.0.0.1"),),
    })  # fmt: skip
    assert len(problems) == 9
    assert all("\n" not in line and line.partition(": ")[2] for line in problems)
    assert everything(zone) == without_soa(CONTENT) | {f"good.{ORIGIN}": {Record("A", 30, "10.0.0.1")}}
    assert zone.update({ORIGIN: (NS,)}) == [f"{ORIGIN}: expected one SOA record, got 0"]


def test_a_transfer_is_of_one_moment_though_the_zone_changes():
    zone = served()
    parts = zone.transfer(1)
    first = next(parts)
    before = everything(zone)
    zone.replace({ORIGIN: (SOA, NS)})
    found = {}
    for part in (first, *parts):
        for name, record in parse_records(part, ORIGIN):
            found.setdefault(name, set()).add(record)
    assert found == before


def test_the_text_is_a_zone_that_dnspython_and_bind_read(tmp_path):
    odd = {
        f"odd.{ORIGIN}": (
            Record("TXT", 30, '"a" "b\\"c" "\\200;"'),
            Record("MX", 30, "10 mail.example.net."),
            Record("LOC", 30, "52 22 23.000 N 4 53 32.000 E -2.00m"),
            Record("TYPE65280", 30, "\\# 2 0102"),
        )
    }
    zone = served(CONTENT | odd)
    text = "\n".join(zone.text()) + "\n"
    parsed = dns.zone.from_text(text, ORIGIN, relativize=False)
    wanted = {
        (dns.name.from_text(name), encode(record.type, record.data))
        for name, records in (CONTENT | odd).items()
        for record in records
        if record.type != "SOA"
    }
    found = {
        (name, (int(rdata.rdtype), rdata.to_digestable()))
        for name, _, rdata in parsed.iterate_rdatas()
        if rdata.rdtype != dns.rdatatype.SOA
    }
    assert found == wanted
    program = shutil.which("named-checkzone") or shutil.which("named-checkzone", path="/usr/sbin")
    if program is None:
        pytest.skip("named-checkzone: not found")
    (tmp_path / "zone").write_text(text)
    subprocess.run([program, "-q", "-i", "none", ORIGIN, tmp_path / "zone"], check=True)


DATA = [
    ("A", "10.1.2.3"),
    ("AAAA", "2001:DB8::1"),
    ("AAAA", "::ffff:10.0.0.1"),
    ("CNAME", "A-b_c.example.NET."),
    ("PTR", "a."),
    ("PTR", "."),
    ("SRV", "0 65535 80 a.example.net."),
    ("SRV", "00 1 080 a."),
    ("TXT", '"text"'),
    ("TXT", '""'),
    ("TXT", '"a b" "\\"\\\\" "\\000\\255;"'),
    ("TXT", "unquoted"),
    ("TXT", '"\u00e4\u20ac"'),
    ("CNAME", "a\\.b.example.net."),
    ("CNAME", "a\\032b.example.net."),
]


@pytest.mark.parametrize(("kind", "data"), DATA)
def test_wire_forms_are_those_of_dnspython(kind, data):
    zone = served()
    assert zone.update({f"n.{ORIGIN}": (Record(kind, 30, data),)}) == []
    ((number, _, wire),) = zone._table.get(f"n.{ORIGIN}")
    parsed = dns.rdata.from_text("IN", kind, data, relativize=False)
    assert (number, wire) == (parsed.rdtype, parsed.to_digestable())
    (record,) = zone.get(f"n.{ORIGIN}")
    assert dns.rdata.from_text("IN", record.type, record.data, relativize=False).to_digestable() == wire


@given(st.sampled_from(["A", "AAAA", "CNAME", "SRV", "TXT", "SOA"]), st.text())
def test_any_data_is_taken_as_dnspython_takes_it_or_refused(kind, data):
    zone = served()
    problems = zone.update({f"n.{ORIGIN}": (Record(kind, 30, data),)})
    try:
        wanted = encode(kind, data)
    except ValueError:
        assert len(problems) == 1
        assert "\n" not in problems[0]
    else:
        if not problems:
            assert [(number, wire) for number, _, wire in zone._table.get(f"n.{ORIGIN}")] == [wanted]


def test_two_zones_are_apart_and_the_longer_one_holds():
    zones = Zones()
    outer = Zone(zones, "z.", clock=ticking())
    inner = Zone(zones, "a.z.", clock=ticking())
    with pytest.raises(ValueError, match="there already"):
        Zone(zones, "A.z.", clock=ticking())
    with pytest.raises(ValueError, match="absolute"):
        Zone(zones, "a.z", clock=ticking())
    inner.close()
    with pytest.raises(ValueError, match="taken out"):
        inner.get("a.z.")
    again = Zone(zones, "a.z.", clock=ticking())
    assert again.serial == outer.serial == 0
    assert list(outer.text()) == []
