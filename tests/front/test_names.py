"""Names in DNS follow the fleet: what is served is what fresh records of the same fleet would be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from ipaddress import ip_network
from uuid import UUID

import dns.message
import dns.query
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.config import Address, ConfigError
from pymon.directory.model import Account, Quota, Snapshot
from pymon.dns.options import DnsOptions
from pymon.dns.records import Records
from pymon.dns.server import DnsServer
from pymon.front.names import Names, Owners, own_addresses, renamed, view
from pymon.inventory_document import Container
from pymon.proxy.agent_document import Inventory
from pymon.proxy.fleet import Fleet, IdentityError
from pymon.proxy.options import load_proxy_options

ZONE = "pymon.internal"
ALICE, BOB = UUID(int=0xA11CE << 8), UUID(int=0xB0B << 8)
OPTIONS = DnsOptions(reverse=(ip_network("198.18.0.0/16"),), reverse_ptr_allow=("example.net",))
PROXIES = {"p1": ("192.0.2.1",)}


def accounts(**names: str) -> Snapshot:
    """Accounts by the name of the constant, with the name that they have."""
    uuids = {"alice": ALICE, "bob": BOB}
    return Snapshot.of(1, accounts=[Account(uuids[key], name, False, 0.0, Quota()) for key, name in names.items()])


BOTH = accounts(alice="alice", bob="bob")


accounts_of_any_name = st.lists(
    st.tuples(st.sampled_from(["a_b", "a-b", "a.b", "c", "C", "d", "@", "e@"]), st.integers(1, 5)),
    unique_by=(lambda one: one[0], lambda one: one[1]),
).map(lambda found: Snapshot.of(1, accounts=[Account(UUID(int=n), name, False, n, Quota()) for name, n in found]))


@given(accounts_of_any_name, accounts_of_any_name)
def test_accounts_whose_name_is_another_are_found(before: Snapshot, now: Snapshot) -> None:
    then, owners = Owners(before), Owners(now)
    assert renamed(before, now) == {
        uuid for uuid in before.accounts.keys() & now.accounts.keys() if then[uuid] != owners[uuid]
    }


def uuid_of(number: int) -> str:
    return str(UUID(int=number + (1 << 100)))


def container(
    number: int,
    owner: str | None = "alice",
    *,
    name: str = "web",
    health: str = "",
    state: str = "running",
    services: str = "www:80",
    start: float = 100.0,
    addresses: tuple[str, ...] | None = None,
    **cns: str | None,
) -> Container:
    where = (f"198.18.0.{number}",) if addresses is None else addresses
    return Container(
        uuid_of(number), f"/{number}", name, "docker", "", "nginx", start, owner, state, health, (), services, "", "",
        "", where, **cns,
    )  # fmt: skip


class World:
    """A fleet, its names, and the server that serves them."""

    def __init__(self, *containers: Container, options: DnsOptions = OPTIONS) -> None:
        self.fleet = Fleet()
        self.accounts = BOTH
        self.proxies: dict[str, tuple[str, ...]] = PROXIES
        self.told: list[set[str]] = []
        self.replace("n1", *containers)
        self.server = DnsServer(options)
        self.names = Names(self.fleet, lambda: self.accounts, self.server, ZONE, OPTIONS, PROXIES, self._tell)

    @classmethod
    @asynccontextmanager
    async def of(cls, *containers: Container, options: DnsOptions = OPTIONS) -> AsyncIterator[World]:
        """One that is closed in the end."""
        with closing(cls(*containers, options=options)) as made:
            await made.names.build()
            yield made

    def _tell(self, names) -> None:
        self.told.append(set(names))

    def replace(self, node: str, *containers: Container, now: float = 1000.0) -> None:
        inventory = Inventory(str(UUID(int=ord(node[1]))), node, {one.uuid: one for one in containers})
        self.fleet.replace(node, inventory, self.accounts, now)

    def set_accounts(self, found: Snapshot) -> None:
        self.accounts = found
        self.fleet.resolve_owners(found)

    def set_proxies(self, proxies: dict[str, tuple[str, ...]]) -> None:
        self.proxies = proxies
        self.names.set_proxies(proxies)

    def served(self) -> set[str]:
        """Lines of all zones but the SOA records, whose serials grow."""
        return {line for zone in self.server.zones.values() for line in zone.text() if "\tSOA\t" not in line}

    def fresh(self) -> set[str]:
        """What the same would be that begins now."""
        fleet = self.fleet
        uuids = [place.container.uuid for owner in (None, ALICE, BOB) for place in fleet.stopped(owner)]
        places = [fleet.last(uuid) for uuid in {*uuids, *fleet._places}]
        nodes = [node.uuid for node in fleet.nodes()]
        records = Records(view(filter(None, places), nodes, self.accounts, self.proxies, ZONE, OPTIONS))
        return {
            f"{name}\t{record.ttl}\tIN\t{record.type}\t{record.data}"
            for origin in records.origins
            for name, found in records.content(origin).items()
            for record in found
            if record.type != "SOA"
        }

    def look(self) -> set[str]:
        """Take over what changed; the names that were told of."""
        self.told.clear()
        self.names.look()
        assert self.served() == self.fresh()
        return set().union(*self.told)

    def data(self, name: str) -> set[str]:
        """Type and data of the records of a name in the zone."""
        found = (line.split("\t") for line in self.served())
        return {f"{kind} {data}" for owner, _, _, kind, data in found if owner == f"{name}.{ZONE}."}

    def close(self) -> None:
        for zone in self.server.zones.values():
            zone.close()


@pytest.fixture
async def world() -> Iterator[World]:
    async with World.of(container(1), container(2, "bob", name="db")) as made:
        yield made


async def test_what_is_there_at_the_start_is_served(world: World) -> None:
    assert world.served() == world.fresh()
    assert world.data("web.inst.alice") == {"A 198.18.0.1", f'TXT "{uuid_of(1)}"'}
    assert world.data("cmon") == {"A 192.0.2.1"}
    assert world.look() == set(), "nothing has changed"


async def test_a_container_that_appears_stops_and_is_forgotten(world: World) -> None:
    world.replace("n1", container(1), container(2, "bob", name="db"), container(3, name="new"))
    told = world.look()
    assert f"new.inst.alice.{ZONE}." in told
    assert "3.0.18.198.in-addr.arpa." in told or any("18.198" in name for name in told)
    assert world.data("new.inst.alice")
    assert world.data("www.svc.alice") >= {"A 198.18.0.1", "A 198.18.0.3"}
    world.replace("n1", container(1), container(2, "bob", name="db"))
    world.look()
    assert world.data("new.inst.alice"), "it has stopped"
    assert "A 198.18.0.3" not in world.data("www.svc.alice")
    world.fleet.expire(1000.0 + 2 * 86400)
    world.look()
    assert not world.data("new.inst.alice")
    assert not world.data(f"{uuid_of(3)}.cmon")


async def test_a_container_that_moves_to_another_node(world: World) -> None:
    world.replace("n2", container(1, start=200.0, addresses=("198.18.1.1",)))
    world.look()
    assert world.data("web.inst.alice") == {"A 198.18.0.1", f'TXT "{uuid_of(1)}"'}, "n1 has it"
    world.replace("n1", container(2, "bob", name="db"))
    world.look()
    assert world.data("web.inst.alice") == {"A 198.18.1.1", f'TXT "{uuid_of(1)}"'}
    world.fleet.forget("n2")
    world.look()
    assert not world.data("web.inst.alice")
    assert not world.data(f"{UUID(int=ord('2'))}.cmon"), "the node"


async def test_an_unhealthy_container_leaves_its_service(world: World) -> None:
    world.replace("n1", container(1, health="unhealthy"), container(2, "bob", name="db"))
    world.look()
    assert not world.data("www.svc.alice")
    assert world.data("web.inst.alice")


async def test_labels_take_a_container_out_of_its_service_or_all_but_one_of_its_names(world: World) -> None:
    uuid, address = uuid_of(1), "1.0.18.198.in-addr.arpa."
    for status, inside in (("down", False), ("", False), ("up", True)):
        world.replace("n1", container(1, cns_status=status))
        world.look()
        assert bool(world.data("www.svc.alice")) is inside
        assert world.data("web.inst.alice")
    for disable, shown in (("true", False), ("", False), ("false", True)):
        world.replace("n1", container(1, cns_disable=disable))
        world.look()
        assert bool(world.data("web.inst.alice")) is bool(world.data("www.svc.alice")) is shown
        assert world.data(f"{uuid}.cmon") == {f"CNAME cmon.{ZONE}."}
        assert bool(world.names.records.get(address)) is shown
    world.replace("n1", container(1, cns_reverse_ptr="mail.example.net"))
    world.look()
    assert [record.data for record in world.names.records.get(address)] == ["mail.example.net."]


async def test_another_owner_and_an_account_that_is_deleted(world: World) -> None:
    world.replace("n1", container(1, "bob"), container(2, "bob", name="db"))
    world.look()
    assert not world.data("web.inst.alice")
    assert world.data("web.inst.bob") == world.data(f"web.inst.{BOB}") != set()
    world.set_accounts(accounts(alice="alice"))
    world.look()
    assert not world.data("web.inst.bob")
    assert world.data(f"{uuid_of(1)}.cmon") == {f"CNAME cmon.{ZONE}."}, "nobody's"
    world.set_accounts(BOTH)
    world.look()
    assert world.data("web.inst.bob")


async def test_an_account_of_another_name_whose_containers_say_its_uuid(world: World) -> None:
    world.replace("n1", container(1, str(ALICE)))
    world.look()
    assert world.data("web.inst.alice")
    world.set_accounts(accounts(alice="carol", bob="bob"))
    world.look()
    assert world.data("web.inst.carol")
    assert not world.data("web.inst.alice")


def two(alice: str, bob: str, *, younger: UUID = ALICE) -> Snapshot:
    """Both accounts; one of them is made later."""
    names = {ALICE: alice, BOB: bob}
    made = [Account(uuid, name, False, float(uuid == younger), Quota()) for uuid, name in names.items()]
    return Snapshot.of(2, accounts=made)


@pytest.mark.parametrize(
    ("snapshot", "label", "holder"),
    [
        (two("acme", "acme."), "acme", ALICE),
        (two("acme.", "acme", younger=BOB), "acme", BOB),
        (two("a_b", "a.b"), "a-b", BOB),
        (two("a_b", "a.b", younger=BOB), "a-b", ALICE),
        (two("A-B", "a.b"), "a-b", ALICE),
    ],
)
async def test_of_accounts_with_one_label_one_has_it_whether_or_not_it_has_containers(
    snapshot: Snapshot, label: str, holder: UUID
) -> None:
    async with World.of(container(1, str(ALICE)), container(2, str(BOB), name="db")) as world:
        world.set_accounts(snapshot)
        world.look()
        mine, other = ("web", "db") if holder == ALICE else ("db", "web")
        assert world.data(f"{mine}.inst.{label}")
        assert not world.data(f"{other}.inst.{label}")
        assert world.data(f"web.inst.{ALICE}")
        assert world.data(f"db.inst.{BOB}")
        loser = container(1, str(ALICE)) if holder == BOB else container(2, str(BOB), name="db")
        world.replace("n1", loser)
        for _ in range(2):
            world.look()
            world.replace("n1", now=1000.0 + 10 * 86400)
            world.replace("n1", loser, now=1000.0 + 10 * 86400)
        assert not world.data(f"{other}.inst.{label}")


async def test_a_label_passes_on_when_its_account_is_deleted() -> None:
    async with World.of(container(1, str(ALICE)), container(2, str(BOB), name="db")) as world:
        world.set_accounts(two("acme", "acme."))
        world.look()
        world.set_accounts(accounts(bob="acme."))
        world.look()
        assert world.data("db.inst.acme")
        assert not world.data("web.inst.acme")
        world.set_accounts(two("acme", "acme."))
        world.look()
        assert not world.data("db.inst.acme")


async def test_each_change_wakes_it(world: World) -> None:
    running = asyncio.create_task(world.names.run())
    changes = [
        lambda: world.replace("n1", container(1), container(2, "bob", name="db"), container(3, name="new")),
        lambda: world.replace("n1", container(1)),
        lambda: world.replace("n2", container(4, name="other")),
        lambda: world.fleet.rename("n2", "n3"),
        lambda: world.set_accounts(accounts(alice="alice", bob="robert")),
        lambda: world.fleet.forget("n3"),
        lambda: world.fleet.expire(1e9),
    ]
    try:
        for change in changes:
            change()
            async with asyncio.timeout(20):  # a third of what it would wait without
                while world.served() != world.fresh():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    finally:
        running.cancel()


async def test_proxies_that_come_and_go(world: World) -> None:
    world.set_proxies({**PROXIES, "p2": ("192.0.2.2", "2001:db8::2")})
    assert world.data("cmon") == {"A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::2"}
    assert world.told == [{f"cmon.{ZONE}."}]
    world.set_proxies({"p2": ("192.0.2.2",)})
    assert world.data("cmon") == {"A 192.0.2.2"}
    assert world.served() == world.fresh()


async def test_what_is_not_in_dns_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with World.of(container(1), container(2)) as world:
        (line,) = [record.message for record in caplog.records]
        assert "alias web" in line
        world.names._tell()
        assert len(caplog.records) == 1


async def test_what_came_just_after_it_was_said_is_said_later(caplog: pytest.LogCaptureFixture) -> None:
    async with World.of(container(1)) as world:
        world.replace("n1", container(1), container(2))
        world.look()
        assert not caplog.records
        world.names._tell_at = 0.0
        assert world.look() == set(), "no name has changed"
        assert len(caplog.records) == 1


async def test_the_server_answers_what_was_published_last() -> None:
    async with World.of(options=DnsOptions(listen_addresses=(Address("127.0.0.1", 0),))) as world:
        await world.server.start()
        following = asyncio.create_task(world.names.run())
        try:
            where = world.server.addresses[0]
            world.replace("n1", container(1))
            query = dns.message.make_query(f"web.inst.alice.{ZONE}", "A")
            deadline = asyncio.get_running_loop().time() + 10
            while "198.18.0.1" not in str(await asyncio.to_thread(dns.query.udp, query, where.host, 5, where.port)):
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.05)
        finally:
            following.cancel()
            await world.server.stop()


# --- anything that may happen --------------------------------------------------------------------

CONTAINERS = st.builds(
    container,
    st.integers(1, 6),
    st.sampled_from([None, "alice", "bob", str(ALICE), "nobody"]),
    name=st.sampled_from(["web", "WEB", "a b", "x" * 300, "", uuid_of(2)]),
    health=st.sampled_from(["", "unhealthy"]),
    state=st.sampled_from(["running", "paused"]),
    services=st.sampled_from(["", "www:80", "www:80,api:1:priority=2", "?"]),
    start=st.sampled_from([100.0, 200.0, 300.0]),
    addresses=st.lists(
        st.sampled_from(["198.18.0.1", "198.18.0.2", "2001:db8::1", "10.0.0.1", "127.0.0.1"]), max_size=2, unique=True
    ).map(tuple),
    cns_status=st.sampled_from([None, None, "down"]),
    cns_disable=st.sampled_from([None, None, "true"]),
    cns_reverse_ptr=st.sampled_from([None, None, "mail.example.net"]),
)
NODES = st.sampled_from(["n1", "n2", "n3"])
STEPS = st.one_of(
    st.tuples(st.just("replace"), NODES, st.lists(CONTAINERS, max_size=4)),
    st.tuples(st.just("replace"), NODES, st.lists(CONTAINERS, max_size=4)),
    st.tuples(st.just("forget"), NODES),
    st.tuples(st.just("rename"), NODES, NODES),
    st.tuples(
        st.just("accounts"),
        st.dictionaries(st.sampled_from(["alice", "bob"]), st.sampled_from(["alice", "bob", "Carol"])).filter(
            lambda names: len(set(names.values())) == len(names)
        ),
    ),
    st.tuples(
        st.just("proxies"),
        st.dictionaries(st.sampled_from(["p1", "p2"]), st.sampled_from([(), ("192.0.2.1",), ("::2", "192.0.2.2")])),
    ),
    st.tuples(st.just("expire")),
    st.tuples(st.just("look")),
)


async def run(steps: list[tuple]) -> None:
    async with World.of() as world:
        for step in steps:
            match step:
                case ("replace", node, found):
                    with suppress(IdentityError):  # a node of that UUID has another name by now
                        world.replace(node, *found)
                case ("forget", node):
                    world.fleet.forget(node)
                case ("rename", node, to):
                    if world.fleet.view(node) is not None and world.fleet.view(to) is None:
                        world.fleet.rename(node, to)
                case ("accounts", names):
                    world.set_accounts(accounts(**names))
                case ("proxies", proxies):
                    world.set_proxies(proxies)
                case ("expire",):
                    world.fleet.expire(1000.0 + 2 * 86400)
                case ("look",):
                    world.look()
        world.look()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=12))
def test_whatever_happens_it_serves_what_fresh_records_would_be(steps: list[tuple]) -> None:
    asyncio.run(run(steps))


# --- this proxy's own addresses ------------------------------------------------------------------


def test_the_addresses_of_a_proxy_are_those_it_listens_on_or_was_told() -> None:
    def own(*flags: str, dns: DnsOptions = OPTIONS) -> tuple[str, ...]:
        words = ["--tls.cert-file=c", "--tls.key-file=k", *flags]
        return own_addresses(dns, load_proxy_options(words, {}, 0)[0].listen_addresses)

    assert own("--web.listen-address=192.0.2.1:1", "--web.listen-address=[2001:db8::1]:1") == (
        "192.0.2.1", "2001:db8::1",
    )  # fmt: skip
    assert own(dns=DnsOptions(proxy_addresses=("192.0.2.9",))) == ("192.0.2.9",)
    for listens in (":9163", "host.example:9163", "0.0.0.0:9163", "[::]:9163"):
        with pytest.raises(ConfigError, match=r"dns\.proxy-address: expected the addresses"):
            own(f"--web.listen-address={listens}")
