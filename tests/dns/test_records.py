import shutil
import subprocess
from dataclasses import dataclass, field
from ipaddress import ip_network
from uuid import UUID

import dns.reversename
import dns.zone
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.dns.addresses import shown_address
from pymon.dns.records import Record, Records, records
from pymon.dns.rrsets import MAX_RECORDS
from pymon.dns.view import Problem, Proxy, View
from pymon.dns_label import label
from pymon.host_address import packed
from tests.dns.instances import changed, instance

ZONE = "cmon.example.com."
ALICE, BOB = str(UUID(int=0xA11CE)), str(UUID(int=0xB0B))
PROXY = Proxy("front-1", ("192.0.2.1", "2001:db8::1"))
TEN = ip_network("10.0.0.0/8")


def uuid(number):
    return str(UUID(int=number))


def container(number, **fields):
    made = {
        "uuid": uuid(number), "alias": f"web-{number}", "account": ALICE, "account_name": "alice", "running": True,
        "down": False, "addresses": (f"10.0.0.{number}",), "services": "",
    }  # fmt: skip
    return instance(**made | fields)


def view(*instances, **fields):
    return View(ZONE, instances, **({"proxies": (PROXY,), "reverse": (TEN,)} | fields))


def forward(*instances, **fields):
    return records(view(*instances, **fields))[ZONE]


def data(content, name, type):
    return [record.data for record in content.get(name, ()) if record.type == type]


def problems(*instances, **fields):
    return Records(view(*instances, **fields)).problems()


def test_everything_of_one_container():
    one, server = uuid(1), uuid(99)
    inst = (Record("A", 30, "10.0.0.1"), Record("AAAA", 30, "2001:db8::5"), Record("TXT", 30, f'"{one}"'))
    svc = (
        Record("A", 30, "10.0.0.1"),
        Record("AAAA", 30, "2001:db8::5"),
        Record("SRV", 30, f"1 2 80 {one}.inst.{ALICE}.{ZONE}"),
    )
    cname = (Record("CNAME", 30, f"cmon.{ZONE}"),)
    apex = (
        Record("SOA", 30, f"cmon.{ZONE} hostmaster.{ZONE} 0 30 60 2592000 30"),
        Record("NS", 3600, f"cmon.{ZONE}"),
    )
    asked = view(
        container(1, addresses=("2001:db8::5", "10.0.0.1"), services="web:80:priority=1:weight=2"),
        nodes=[server],
        reverse=(TEN, ip_network("2001:db8::/32")),
    )
    assert records(asked) == {
        ZONE: {
            ZONE: apex,
            f"cmon.{ZONE}": (Record("A", 5, "192.0.2.1"), Record("AAAA", 5, "2001:db8::1")),
            f"{one}.cmon.{ZONE}": cname,
            f"{server}.cmon.{ZONE}": cname,
            f"{one}.inst.{ALICE}.{ZONE}": inst,
            f"{one}.inst.alice.{ZONE}": inst,
            f"web-1.inst.{ALICE}.{ZONE}": inst,
            f"web-1.inst.alice.{ZONE}": inst,
            f"web.svc.{ALICE}.{ZONE}": svc,
            f"web.svc.alice.{ZONE}": svc,
        },
        "10.in-addr.arpa.": {
            "10.in-addr.arpa.": apex,
            "1.0.0.10.in-addr.arpa.": (Record("PTR", 30, f"web-1.inst.alice.{ZONE}"),),
        },
        "8.b.d.0.1.0.0.2.ip6.arpa.": {
            "8.b.d.0.1.0.0.2.ip6.arpa.": apex,
            dns.reversename.from_address("2001:db8::5").to_text(): (Record("PTR", 30, f"web-1.inst.alice.{ZONE}"),),
        },
    }
    assert Records(asked).problems() == []


@pytest.mark.parametrize("fields", [{"account": None}, {"addresses": ()}, {"addresses": ("127.0.0.1", "fe80::1")}])
def test_without_an_owner_or_an_address_a_container_has_its_cmon_name_only(fields):
    content = records(view(container(1, services="web", **fields)))
    assert set(content[ZONE]) == {ZONE, f"cmon.{ZONE}", f"{uuid(1)}.cmon.{ZONE}"}
    assert set(content["10.in-addr.arpa."]) == {"10.in-addr.arpa."}


@pytest.mark.parametrize("fields", [{"running": False}, {"down": True}])
def test_what_does_not_run_or_is_down_is_in_no_service_and_keeps_its_names(fields):
    content = forward(container(1, services="web:80", **fields), container(2, services="web:81"))
    assert data(content, f"web.svc.alice.{ZONE}", "A") == ["10.0.0.2"]
    assert data(content, f"web.svc.alice.{ZONE}", "SRV") == [f"0 10 81 {uuid(2)}.inst.{ALICE}.{ZONE}"]
    assert data(content, f"web-1.inst.alice.{ZONE}", "A") == ["10.0.0.1"]
    assert f"web.svc.alice.{ZONE}" not in forward(container(1, services="web:80", **fields))


def test_a_hidden_container_has_its_cmon_name_only():
    content = records(view(container(1, services="web", hidden=True, reverse_ptr="mail.example.net")))
    assert set(content[ZONE]) == {ZONE, f"cmon.{ZONE}", f"{uuid(1)}.cmon.{ZONE}"}
    assert set(content["10.in-addr.arpa."]) == {"10.in-addr.arpa."}


@pytest.mark.parametrize(
    ("asked", "allow"),
    [
        ("Mail.example.net", ("example.net",)),
        ("mail.example.net.", ("MAIL.example.net.",)),
        (f"web.svc.alice.{ZONE}", ()),
        (f"a.b.web-9.inst.{ALICE}.{ZONE}", ()),
    ],
)
def test_ptr_records_say_what_the_container_asks_for(asked, allow):
    content = records(view(container(1, reverse_ptr=asked), reverse_ptr_allow=allow))
    assert data(content["10.in-addr.arpa."], "1.0.0.10.in-addr.arpa.", "PTR") == [asked.lower().rstrip(".") + "."]
    assert f"web-1.inst.alice.{ZONE}" in content[ZONE]


@pytest.mark.parametrize(
    "asked",
    [
        f"cmon.{ZONE}",
        f"{uuid(1)}.cmon.{ZONE}",
        f"web.svc.bob.{ZONE}",
        f"web.inst.{BOB}.{ZONE}",
        f"xinst.alice.{ZONE}",
        f"inst.alice.{ZONE}",
        f"alice.{ZONE}",
        ZONE,
        f"web.inst.alice.{ZONE}example.net",
        "mail.example.org",
        "xmail.example.net",
        "example.net",
        "mail..example",
    ],
)
def test_ptr_records_say_no_other_name(asked):
    other = container(2, account=BOB, account_name="bob", services="web")
    refused = Records(view(container(1, reverse_ptr=asked), other, reverse_ptr_allow=["mail.example.net"]))
    assert refused.get("1.0.0.10.in-addr.arpa.") == (Record("PTR", 30, f"web-1.inst.alice.{ZONE}"),)
    (problem,) = refused.problems()
    assert problem.uuid == uuid(1)
    assert problem.text.startswith("reverse_ptr: expected a ")
    assert refused.update([container(1)]) == set()
    assert refused.problems() == []


def test_ptr_records_follow_the_names_of_an_account():
    mine = container(1, account=BOB, account_name="acme", reverse_ptr=f"web.svc.acme.{ZONE}")
    pointer = "1.0.0.10.in-addr.arpa."
    found = Records(view(mine))
    assert found.get(pointer)[0].data == f"web.svc.acme.{ZONE}"
    changed = found.update([container(2, account=str(UUID(int=1)), account_name="acme")])
    assert pointer in changed, "the other account has the name now"
    assert found.get(pointer)[0].data == f"web-1.inst.{BOB}.{ZONE}"
    assert pointer in found.update(removed=[uuid(2)])
    assert found.get(pointer)[0].data == f"web.svc.acme.{ZONE}"


def test_an_alias_of_two_is_that_of_the_one_that_runs_then_of_the_smaller_uuid():
    name = f"web.inst.alice.{ZONE}"
    one, two, three = (container(number, alias="Web") for number in (1, 2, 3))
    assert data(forward(three, two, one), name, "A") == ["10.0.0.1"]
    stopped = changed(one, state="stopped")
    assert data(forward(stopped, two, three), name, "A") == ["10.0.0.2"]
    assert problems(stopped, two, three) == [Problem(uuid(3), f"alias web is in DNS for {uuid(2)}")]
    content = records(view(stopped, two, three))["10.in-addr.arpa."]
    assert data(content, "2.0.0.10.in-addr.arpa.", "PTR") == [name]
    assert data(content, "3.0.0.10.in-addr.arpa.", "PTR") == [f"{uuid(3)}.inst.alice.{ZONE}"]


def test_what_one_change_changes_elsewhere_is_among_what_changed():
    first, second = (container(number, alias="web", services="web:80") for number in (1, 2))
    built = Records(view(first, second))
    accounts = (ALICE, "alice")
    assert built.update(removed=[uuid(1)]) == {
        f"{uuid(1)}.cmon.{ZONE}",
        *(f"{uuid(1)}.inst.{account}.{ZONE}" for account in accounts),
        *(f"web.inst.{account}.{ZONE}" for account in accounts),
        *(f"web.svc.{account}.{ZONE}" for account in accounts),
        "1.0.0.10.in-addr.arpa.",
        "2.0.0.10.in-addr.arpa.",
    }
    assert built.get("2.0.0.10.in-addr.arpa.") == (Record("PTR", 30, f"web.inst.alice.{ZONE}"),)
    assert built.update([second]) == set()
    service = {f"web.svc.{account}.{ZONE}" for account in accounts}
    assert built.update([changed(second, health="unhealthy")]) == service
    assert built.update([second]) == service
    assert built.update([changed(second, state="paused")]) == service


def test_the_same_alias_in_two_accounts_is_two_names():
    content = forward(container(1, alias="web"), container(2, alias="web", account=BOB, account_name="bob"))
    assert data(content, f"web.inst.alice.{ZONE}", "A") == ["10.0.0.1"]
    assert data(content, f"web.inst.bob.{ZONE}", "A") == ["10.0.0.2"]


def test_a_name_of_two_accounts_is_that_of_the_smaller_uuid_and_nothing_is_mixed():
    mine = container(1, alias="web", account=ALICE, account_name="a.b")
    theirs = container(2, alias="web", account=BOB, account_name="A_b")
    content = forward(mine, theirs)
    assert data(content, f"web.inst.a-b.{ZONE}", "A") == ["10.0.0.2"]  # BOB < ALICE
    assert data(content, f"web.inst.{ALICE}.{ZONE}", "A") == ["10.0.0.1"]
    assert f"{uuid(1)}.inst.a-b.{ZONE}" not in content
    assert problems(mine, theirs) == [
        Problem(ALICE, f"account name a.b is a-b in DNS, which is the account {BOB}"),
    ]


def test_a_name_of_two_accounts_is_that_of_the_one_that_is_called_so():
    for name in ("a-b", "A-B"):
        exact = container(1, alias="web", account=ALICE, account_name=name)
        theirs = container(2, alias="web", account=BOB, account_name="a_b")
        built = Records(View(zone=ZONE, instances=(theirs,)))
        assert data(dict(built.content(ZONE).items()), f"web.inst.a-b.{ZONE}", "A") == ["10.0.0.2"]
        built.update([exact])
        assert data(dict(built.content(ZONE).items()), f"web.inst.a-b.{ZONE}", "A") == ["10.0.0.1"]
        built.update(removed=[exact.container.uuid])
        assert data(dict(built.content(ZONE).items()), f"web.inst.a-b.{ZONE}", "A") == ["10.0.0.2"]


def test_nobody_is_called_by_the_uuid_of_another():
    content = forward(
        container(1, alias=uuid(2), account_name=BOB.replace("-", "_")),
        container(2, account=BOB, account_name="bob"),
    )
    assert data(content, f"{uuid(2)}.inst.{BOB}.{ZONE}", "A") == ["10.0.0.2"]
    assert f"{uuid(2)}.inst.{ALICE}.{ZONE}" not in content
    assert f"{uuid(1)}.inst.{BOB}.{ZONE}" not in content


def test_what_is_left_out_is_reported():
    found = problems(
        container(1, alias="x" * 300),
        container(2, addresses=("10.0.0.2", "10.0.0.300", "::1")),
        container(3, services="web:0"),
        container(4, addresses=tuple(f"10.1.0.{number}" for number in range(20))),
        container(5, addresses=("10.0.0.2",)),
        container(6, account=BOB, account_name="\u65e5"),
        proxies=(PROXY, Proxy("front-2", ("0.0.0.0",))),
    )
    texts = [(problem.uuid, problem.text) for problem in found]
    assert [(problem, text[:48]) for problem, text in texts] == [
        (uuid(1), "alias 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
        (uuid(2), "expected addresses of a host, got '10.0.0.300' a"),
        (uuid(3), "service 'web:0': expected a port from 1 to 65535"),
        (uuid(4), "20 addresses, 16 are in DNS"),
        ("", "proxy front-2: expected an address that reaches "),
        (BOB, "account name '\\u65e5' has no letter or digit of "),
        (uuid(5), f"2.0.0.10.in-addr.arpa. is the address of {uuid(2)}"[:48]),
    ]


def test_a_service_of_many_has_as_many_records_as_servers_take():
    many = [
        container(number, addresses=(f"10.0.{number >> 8}.{number & 255}",), services="web:80") for number in range(300)
    ]
    content = forward(*many)
    name = f"web.svc.{ALICE}.{ZONE}"
    assert len(data(content, name, "A")) == len(data(content, name, "SRV")) == MAX_RECORDS
    assert problems(*many) == [
        Problem(ALICE, "service web has 300 instances, at most 100 records of a type are in DNS"),
    ]


def test_proxies_that_are_not_alive_leave_and_a_zone_without_any_has_a_server_that_is_nobodys():
    built = Records(view(container(1)))
    assert built.update(proxies=()) == {ZONE, f"cmon.{ZONE}", "10.in-addr.arpa."}
    assert built.get(f"cmon.{ZONE}") == ()
    assert built.get(ZONE)[1:] == (Record("NS", 3600, "invalid."),)
    assert built.problems() == [Problem("", f"no proxy with an address is alive for cmon.{ZONE}")]
    assert built.update(proxies=(PROXY,)) == {ZONE, f"cmon.{ZONE}", "10.in-addr.arpa."}


def test_name_servers_of_others_are_named():
    content = forward(name_servers=("NS1.example.net", "ns2.example.net."))
    assert data(content, ZONE, "NS") == ["ns1.example.net.", "ns2.example.net."]
    with pytest.raises(ValueError, match="outside the zone"):
        Records(view(name_servers=("ns.cmon.example.com",)))


@pytest.mark.parametrize(
    ("prefixes", "origins"),
    [
        (["172.16.0.0/12"], [f"{number}.172.in-addr.arpa." for number in range(16, 32)]),
        (["10.1.2.0/24", "192.168.0.0/16"], ["2.1.10.in-addr.arpa.", "168.192.in-addr.arpa."]),
        (["fd00:1234::/31"], [f"{digit}.3.2.1.0.0.d.f.ip6.arpa." for digit in "45"]),
    ],
)
def test_prefixes_are_reverse_zones(prefixes, origins):
    built = Records(view(reverse=tuple(map(ip_network, prefixes))))
    assert list(built.origins[1:]) == origins


@pytest.mark.parametrize("prefixes", [["10.0.0.0/8", "10.1.0.0/16"], ["10.0.0.0/25"]])
def test_prefixes_that_would_share_a_zone_are_refused(prefixes):
    with pytest.raises(ValueError, match="expected"):
        Records(view(reverse=tuple(map(ip_network, prefixes))))


def test_a_name_is_in_one_zone():
    built = Records(view())
    assert built.origin(f"x.{ZONE}") == ZONE
    assert built.origin("1.0.0.10.in-addr.arpa.") == built.origin("10.in-addr.arpa.") == "10.in-addr.arpa."
    assert built.origin("1.0.0.11.in-addr.arpa.") is None
    assert built.get("1.0.0.11.in-addr.arpa.") == built.get("example.com.") == built.get("") == ()
    with pytest.raises(KeyError):
        built.content(ZONE)["10.in-addr.arpa."]
    with pytest.raises(KeyError):
        built.content("example.com.")


# --- whatever comes ---

nasty = st.one_of(
    st.sampled_from(["web", "Web", "web_", "-", "", "caf\u00e9", "x" * 63, "y" * 300, "a.b", "a b", "@", "*", "cmon"]),
    st.sampled_from([uuid(1), uuid(2).upper(), 'q"\\', ";", "xn--a", "\u65e5\u672c", "a\nb", "\0", "1.2", ALICE]),
    st.text(max_size=70),
)
asked_services = st.one_of(
    st.sampled_from(["", "web", "web:80,api:81", "web:80,web:81:weight=3", "WEB:1", "web-", "cmon:9", "a:1," * 80]),
    st.text('aB-:=1,"\\é port', max_size=40),
)
good_addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "11.0.0.1", "2001:db8::1", "2001:DB8:0::2", "2001:db9::1"]
bad_addresses = [
    "010.0.0.1",
    "127.0.0.1",
    "169.254.1.1",
    "224.0.0.1",
    "0.0.0.0",
    "::",
    "fe80::1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
]
some_addresses = st.sampled_from([*good_addresses, *bad_addresses, "fe80::1%eth0", "\0", "é"])
instances = st.builds(
    instance,
    uuid=st.integers(1, 6).map(uuid),
    alias=nasty,
    account=st.sampled_from([None, ALICE, BOB, str(UUID(int=7))]),
    account_name=st.one_of(st.sampled_from(["a.b", "a_b", "A-B", "bob"]), nasty),
    running=st.booleans(),
    down=st.booleans(),
    addresses=st.lists(some_addresses, max_size=4).map(tuple),
    services=asked_services,
    hidden=st.sampled_from([False, False, False, True]),
    reverse_ptr=st.sampled_from(["", "", "Mail.example.net", "a_b", "-", f"web.inst.alice.{ZONE}", "x." * 130]),
)
rivals = st.builds(
    container,
    st.integers(1, 6),
    alias=st.sampled_from(["web", "Web", "api"]),
    account=st.sampled_from([ALICE, ALICE, BOB]),
    account_name=st.sampled_from(["a.b", "a_b"]),
    running=st.sampled_from([True, True, False]),
    services=st.sampled_from(["web:80", "web:80,api", ""]),
)
anything = st.lists(rivals | instances, max_size=8)
all_nodes = st.lists(st.integers(5, 9).map(uuid), max_size=3)
all_proxies = st.lists(st.builds(Proxy, st.just("p"), st.lists(some_addresses, max_size=3).map(tuple)), max_size=2).map(
    tuple
)
prefixes = (TEN, ip_network("2001:db8::/31"))


@dataclass
class Change:
    changed: list = field(default_factory=list)
    removed: list = field(default_factory=list)
    nodes: list | None = None
    proxies: tuple | None = None


changes = st.builds(
    Change,
    st.lists(rivals | instances, max_size=3),
    st.lists(st.integers(1, 6).map(uuid), max_size=2),
    st.none() | all_nodes,
    st.none() | all_proxies,
)
views = st.builds(
    View,
    st.just(ZONE),
    anything,
    all_nodes,
    all_proxies,
    st.just(prefixes),
    st.sampled_from([(), ("ns1.example.net",)]),
    st.sampled_from([(), ("example.net",)]),
)


def canonical(addresses):
    return {shown_address(found) for text in addresses if (found := packed(text)) is not None}


def label_of(text):
    try:
        return label(text)
    except ValueError:
        return None


def flat(contents):
    return {name: found for content in contents.values() for name, found in content.items()}


@settings(deadline=None, max_examples=150)
@given(views, st.lists(changes, max_size=6))
def test_after_any_changes_the_records_are_those_of_a_new_start(start, steps):
    built = Records(start)
    known = {one.container.uuid: one for one in start.instances}
    now = start
    before = flat(records(start))
    for step in steps:
        for gone in step.removed:
            known.pop(gone, None)
        known |= {one.container.uuid: one for one in step.changed}
        now = now._replace(
            instances=list(known.values())[::-1],
            nodes=now.nodes if step.nodes is None else step.nodes,
            proxies=now.proxies if step.proxies is None else step.proxies,
        )
        changed = built.update(step.changed, step.removed, nodes=step.nodes, proxies=step.proxies)
        contents = records(now)
        after = flat(contents)
        assert changed == {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert sorted(built.problems()) == sorted(Records(now).problems())
        before = after
        for origin, content in contents.items():
            live = built.content(origin)
            assert dict(live.items()) == content
            assert len(live) == len(content)
            assert set(live) == content.keys()
            for name, found in content.items():
                assert live[name] == built.get(name) == found
                assert built.origin(name) == origin


@settings(deadline=None, max_examples=100)
@given(views)
def test_names_are_right_whoever_else_is_there(asked):
    contents = records(asked)
    latest = {one.container.uuid: one for one in asked.instances}
    seen = set()
    for name, found in contents[ZONE].items():
        kind = name.removesuffix(ZONE).split(".")
        if kind[1:2] != ["inst"]:
            continue
        (text,) = (record.data for record in found if record.type == "TXT")
        one = latest[text.strip('"')]
        addresses = {record.data for record in found if record.type != "TXT"}
        assert addresses
        assert kind[0] == one.container.uuid or kind[0] not in latest
        others = [other for other in latest.values() if other.account == one.account]
        assert kind[2] in {str(one.account), *(label_of(other.account_name) for other in others)}
        seen.add(one.container.uuid)
    for one in latest.values():
        assert f"{one.container.uuid}.cmon.{ZONE}" in contents[ZONE]
        own = contents[ZONE].get(f"{one.container.uuid}.inst.{one.account}.{ZONE}")
        assert (own is not None) == (one.container.uuid in seen)
    for origin, content in contents.items():
        for name, found in content.items():
            assert not {"PTR", "CNAME"} & {record.type for record in found} or len(found) == 1
            for record in found:
                if record.type == "PTR":
                    address = dns.reversename.to_address(dns.name.from_text(name))
                    holders = [other.container for other in latest.values()]
                    holders = [other for other in holders if address in canonical(other.addresses)]
                    asked_names = {(other.cns_reverse_ptr or "").lower().removesuffix(".") + "." for other in holders}
                    assert record.data in asked_names or address in [
                        other.data for other in contents[ZONE][record.data]
                    ]
                if record.type == "SRV":
                    assert origin == ZONE
                    assert record.data.split()[3] in contents[ZONE]


def master_file(content):
    return "".join(f"{name} {ttl} IN {type} {data}\n" for name, found in content.items() for type, ttl, data in found)


@settings(deadline=None, max_examples=100)
@given(views)
def test_every_zone_is_one_to_dnspython(asked):
    for origin, content in records(asked).items():
        zone = dns.zone.from_text(master_file(content), origin, relativize=False)
        assert {name.to_text() for name in zone} == content.keys()
        assert sum(len(rdataset) for _, rdataset in zone.iterate_rdatasets()) == sum(map(len, content.values()))


@pytest.mark.skipif(shutil.which("named-checkzone") is None, reason="needs named-checkzone")
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(views)
def test_named_checkzone_agrees(tmp_path, asked):
    for origin, content in records(asked).items():
        path = tmp_path / "zone"
        path.write_text(master_file(content))
        checks = ["-i", "local", "-k", "fail", "-n", "fail", "-r", "fail", "-S", "fail", "-m", "fail"]
        done = subprocess.run(
            ["named-checkzone", *checks, origin, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "OK"
