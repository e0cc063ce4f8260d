"""What a proxy does while containers come, go and move, nodes die and come back, and its directory is away."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import re
import signal
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.fleet import Container, Fleet, Node
from tests.e2e.proxy import Client, Proxy, Site, run_pymon
from tests.live.agent import Agent, Answer
from tests.live.world import until

pytestmark = pytest.mark.root

SOON_SECONDS = 5.0
"""A second or two is what is promised, and this machine may be busy."""

DIRECTORY_AWAY = re.compile(
    "directory cannot be read, serving what was there|holders of UUIDs cannot be read or written"
)


@dataclass
class Place:
    """A proxy of three nodes; clients of two tenants that are there already."""

    site: Site
    proxy: Proxy
    fleet: Fleet
    tokens: dict[str, str]

    def client(self, account: str) -> Client:
        return self.proxy.client(authorization=f"Bearer {self.tokens[account]}")


@pytest.fixture(scope="module")
def place(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    site = Site(tmp_path_factory.mktemp("life"))
    for account in ("alice", "bob"):
        site.pymon("account", "create", account)
    fleet.register(site)
    site.pymon("quota", "set", "alice", "--requests-per-second=0")
    tokens = {account: site.pymon("token", "create", account) for account in ("alice", "bob")}
    with Proxy(site) as proxy:
        until("all nodes heard", lambda: proxy.metric("pymon_proxy_inventory_up") == 3)
        yield Place(site, proxy, fleet, tokens)


@pytest.fixture
def alice(place: Place, nodes: list[Node]) -> Iterator[Client]:
    with place.client("alice") as client:
        yield client


@pytest.fixture
def bob(place: Place) -> Iterator[Client]:
    with place.client("bob") as client:
        yield client


def path_of(container: Container | str) -> str:
    return f"/v1/{container if isinstance(container, str) else container.uuid}/metrics"


def nothing_from(connection: http.client.HTTPSConnection, path: str) -> bool:
    """Whether a connection is ended instead of answered; TLS 1.3 tells a client so after its handshake."""
    try:
        connection.request("GET", path)
        connection.getresponse()
    except (ssl.SSLError, ConnectionError):
        return True
    return False


def answers(client: Client, container: Container) -> bool:
    """Whether the client is given this very container."""
    answer = client.get(path_of(container))
    return answer.status == 200 and f'id="{container.path}"'.encode() in answer.body


def has_ended(client: Client, container: Container) -> bool:
    """Whether the client is told of this very container's end, and of nothing that only a running one has."""
    answer = client.get(path_of(container))
    labels = f'{{state="exited",id="{container.path}"'.encode()
    return answer.status == 200 and b"container_state" + labels in answer.body and b"last_seen" not in answer.body


# --- containers ----------------------------------------------------------------------------------


def test_a_container_comes_and_goes(place: Place, alice: Client, bob: Client, nodes: list[Node]) -> None:
    container = nodes[0].container("web", "alice")
    until("routed", lambda: answers(alice, container), SOON_SECONDS)
    assert alice.uuids() == {container.uuid}
    assert bob.status(path_of(container)) == 404
    assert bob.uuids() == set()
    container.end()
    until("ended", lambda: has_ended(alice, container), SOON_SECONDS)
    assert bob.status(path_of(container)) == 404
    account = alice.get("/v1/account/metrics")
    assert (account.status, b"container_state{" in account.body) == (200, True), account
    until("not found", lambda: alice.uuids() == set(), SOON_SECONDS)
    (stopped,) = (
        found for found in alice.json("/v1/discover?stopped=true")["containers"] if found["vm_uuid"] == container.uuid
    )
    assert (stopped["vm_state"], stopped["vm_alias"]) == ("stopped", "web")
    assert bob.json("/v1/discover?stopped=true")["containers"] == []


def test_a_container_that_is_labelled_with_a_uuid_moves_when_its_node_lets_go(
    place: Place, alice: Client, bob: Client, nodes: list[Node]
) -> None:
    first = nodes[0].container("mover", "alice")
    until("routed", lambda: answers(alice, first), SOON_SECONDS)
    conflicts = place.proxy.metric("pymon_proxy_inventory_conflicts_total")
    # While the first node lists it, no label of another container has an effect, whatever its start and owner.
    second = nodes[1].container("mover", "alice", uuid_=first.uuid, started_at=first.started_at + 1)
    stolen = nodes[2].container("thief", "bob", uuid_=first.uuid, started_at=first.started_at + 100)
    until("seen", lambda: place.proxy.metric("pymon_proxy_inventory_conflicts_total") == conflicts + 2, SOON_SECONDS)
    assert answers(alice, first)
    assert any("claims refused" in line and "reason=held" in line and first.uuid in line for line in place.proxy.log)
    first.end()
    until("on the second node", lambda: answers(alice, second), SOON_SECONDS)
    (found,) = alice.json("/v1/discover")["containers"]
    assert found["server_uuid"] == nodes[1].uuid
    assert bob.status(path_of(stolen)) == 404
    second.end()
    until("ended", lambda: has_ended(alice, second), SOON_SECONDS)
    assert bob.status(path_of(stolen)) == 404, "another owner has it by a release alone"
    stolen.end()


def test_a_container_changes_its_owner_and_its_groups(
    place: Place, alice: Client, bob: Client, nodes: list[Node]
) -> None:
    before = nodes[0].container("changing", "alice", groups=("red",))
    until("alice's", lambda: answers(alice, before), SOON_SECONDS)
    red = {found["vm_uuid"] for found in alice.json("/v1/discover?groups=red,other")["containers"]}
    assert red == {before.uuid}
    before.end()
    after = nodes[0].container("changing", "bob", uuid_=before.uuid, groups=("blue",))
    until("bob's", lambda: answers(bob, after), SOON_SECONDS)
    assert alice.status(path_of(after)) == 404
    assert alice.uuids() == set()
    assert bob.json("/v1/discover?groups=red")["containers"] == []
    assert [found["groups"] for found in bob.json("/v1/discover?groups=blue")["containers"]] == [["blue"]]


# --- nodes ---------------------------------------------------------------------------------------


def test_a_node_that_dies_costs_its_own_targets_only(place: Place, alice: Client, nodes: list[Node]) -> None:
    doomed, other = nodes[0].container("doomed", "alice"), nodes[1].container("other", "alice")
    for container in (doomed, other):
        until("routed", lambda container=container: answers(alice, container), SOON_SECONDS)
    document = alice.get("/v1/discover").body
    nodes[0].kill()
    for _ in range(5):
        begin = time.monotonic()
        assert alice.status(path_of(doomed)) in {502, 504}
        assert time.monotonic() - begin < 5
        assert answers(alice, other)
        assert alice.get("/v1/discover").body == document
    until("noticed", lambda: place.proxy.metric("pymon_proxy_inventory_up", node="n1") == 0, SOON_SECONDS)
    assert place.proxy.metric("pymon_proxy_inventory_failures_total", node="n1") > 0
    assert alice.get("/v1/discover").body == document
    partly = alice.get("/v1/account/metrics")
    assert partly.status == 200
    assert f'pymon_container_scrape_success{{uuid="{doomed.uuid}"}} 0'.encode() in partly.body
    assert f'pymon_container_scrape_success{{uuid="{other.uuid}"}} 1'.encode() in partly.body
    place.fleet.start()
    until("back", lambda: answers(alice, doomed), 10)
    until("heard", lambda: place.proxy.metric("pymon_proxy_inventory_up", node="n1") == 1, 10)


def test_a_node_that_hangs_is_given_up_before_the_client_gives_up(
    place: Place, alice: Client, nodes: list[Node]
) -> None:
    hung, other = nodes[0].container("hung", "alice"), nodes[1].container("other", "alice")
    for container in (hung, other):
        until("routed", lambda container=container: answers(alice, container), SOON_SECONDS)
    agent = nodes[0].agent
    assert agent is not None
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        answer = alice.get(path_of(hung), {"X-Prometheus-Scrape-Timeout-Seconds": "1"})
        assert (answer.status, time.monotonic() - begin < 8) == (504, True), answer
        assert answers(alice, other)
        assert hung.uuid in alice.uuids()
    finally:
        os.kill(agent.pid, signal.SIGCONT)
    until("back", lambda: answers(alice, hung), 10)


# --- the proxy itself ----------------------------------------------------------------------------


def test_a_proxy_that_starts_while_all_agents_are_down_knows_what_there_was(
    place: Place, nodes: list[Node], tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.pymon("account", "create", "alice")
    for node in nodes[:2]:
        site.pymon("node", "create", node.name, node.url)
    token = site.pymon("token", "create", "alice")
    made = [nodes[0].container("one", "alice"), nodes[1].container("two", "alice")]
    tls = site.server("127.0.0.1")
    authorization = f"Bearer {token}"
    with Proxy(site, tls=tls) as proxy, proxy.client(authorization=authorization) as client:
        until("both heard", lambda: client.uuids() == {one.uuid for one in made}, 10)
        document = client.get("/v1/discover").body
    for node in nodes[:2]:
        node.kill()
    with Proxy(site, tls=tls, wait=False) as proxy, proxy.client(authorization=authorization) as client:
        assert client.get("/v1/discover").body == document
        assert client.status("/-/ready") == 200
        assert client.status(path_of(made[0])) in {502, 504}
        proxy.allowed = DIRECTORY_AWAY
        # The directory goes too, and comes back with a change.
        database = site.data_dir / "directory.db"
        away = site.data_dir / "away.db"
        database.rename(away)
        until("noticed", lambda: proxy.metric("pymon_proxy_directory_up") == 0, SOON_SECONDS)
        assert client.get("/v1/discover").body == document
        away.rename(database)
        until("back", lambda: proxy.metric("pymon_proxy_directory_up") == 1, SOON_SECONDS)
        site.pymon("account", "delete", "alice")
        until("in force", lambda: client.status("/v1/discover") == 401, SOON_SECONDS)


def test_a_proxy_without_its_directory_starts_from_the_copy(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pymon("account", "create", "alice")
    token = site.pymon("token", "create", "alice")
    tls = site.server("127.0.0.1")
    with Proxy(site, tls=tls):
        pass
    database = site.data_dir / "directory.db"
    for file in site.data_dir.glob("directory.db*"):
        file.unlink()
    with Proxy(site, tls=tls) as proxy, proxy.client(authorization=f"Bearer {token}") as client:
        proxy.allowed = DIRECTORY_AWAY
        assert client.json("/v1/discover") == {"containers": []}
        assert proxy.metric("pymon_proxy_directory_up") == 0
        assert not database.exists()
    # A file that is something else is damage: it is served from the copy, and left as it was.
    damage = b"no database at all\n" * 100
    database.write_bytes(damage)
    with Proxy(site, tls=tls) as proxy, proxy.client(authorization=f"Bearer {token}") as client:
        proxy.allowed = DIRECTORY_AWAY
        assert client.json("/v1/discover") == {"containers": []}
        assert proxy.metric("pymon_proxy_directory_up") == 0
    assert database.read_bytes() == damage
    # Without the copy there is nothing to serve.
    (site.data_dir / "directory-copy.json").unlink()
    flags = (f"--tls.cert-file={tls.cert}", f"--tls.key-file={tls.key}", f"--data-dir={site.data_dir}")
    done = run_pymon("proxy", *flags, "--web.listen-address=127.0.0.1:0", "--telemetry.listen-address=127.0.0.1:0")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert str(database) in done.stderr
    assert database.read_bytes() == damage


# --- TLS to the agents ---------------------------------------------------------------------------

WEB_CONFIG = """\
tls_server_config:
  cert_file: {files.cert}
  key_file: {files.key}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: {files.ca}
"""


def test_with_mutual_tls_the_agent_answers_the_proxy_alone(fleet: Fleet, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.pymon("account", "create", "alice")
    token = site.pymon("token", "create", "alice")
    of_agent, of_proxy = site.server("agent.internal"), site.new("proxy")
    site.pymon("cert", "proxy", "front1", f"--out={of_proxy}")
    shown, ca = of_proxy / "proxy.pem", of_proxy / "ca-cert.pem"
    config = tmp_path / "web.yml"
    config.write_text(WEB_CONFIG.format(files=of_agent))
    context = ssl.create_default_context(cafile=str(ca))
    context.check_hostname = False  # its own address is not in its certificate
    context.load_cert_chain(shown)

    class SecureAgent(Agent):
        def get(self, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> Answer:
            request = urllib.request.Request(f"https://{self.address}{path}", headers=dict(headers or {}))
            try:
                with urllib.request.urlopen(request, timeout=60, context=context) as response:  # noqa: S310  # https
                    return Answer(response.status, dict(response.headers), response.read())
            except urllib.error.HTTPError as error:
                with error:
                    return Answer(error.code, dict(error.headers), error.read())

    node = Node(fleet.world, tmp_path, "secure", f"--web.config.file={config}", scheme="https", run=SecureAgent)
    node.start()
    try:
        container = node.container("web", "alice")
        site.pymon("node", "create", "secure", node.url, "--tls-server-name=agent.internal")
        trust = f"--upstream.tls-ca-file={ca}"
        upstream = [trust, f"--upstream.tls-cert-file={shown}", f"--upstream.tls-key-file={shown}"]
        tls = site.server("127.0.0.1")
        with Proxy(site, *upstream, tls=tls) as proxy, proxy.client(authorization=f"Bearer {token}") as client:
            until("routed", lambda: answers(client, container), SOON_SECONDS)
            # By the fingerprint of its certificate instead of its name.
            der = ssl.PEM_cert_to_DER_cert(of_agent.cert.read_text())
            pinned = hashlib.sha256(der).hexdigest()
            site.pymon("node", "delete", "secure")
            site.pymon("node", "create", "secure", node.url, f"--tls-fingerprint={pinned}")
            until("routed by fingerprint", lambda: answers(client, container), 10)
        # A proxy that shows the agent no certificate, as it has none and no key to issue one, and anybody else.
        (site.data_dir / "authority-machines" / "ca-key.pem").rename(tmp_path / "elsewhere")
        with Proxy(site, trust, tls=tls, wait=False) as proxy:
            until("refused", lambda: proxy.metric("pymon_proxy_inventory_failures_total", node="secure") > 1, 10)
            assert proxy.metric("pymon_proxy_inventory_up", node="secure") == 0
        nobody = ssl.create_default_context(cafile=str(ca))
        nobody.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", node.port, context=nobody, timeout=20)
        with contextlib.closing(connection):
            assert nothing_from(connection, path_of(container))
        node.stop()
    finally:
        node.clear()
        node.kill()


# --- all at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5, pytest.param(90, marks=pytest.mark.soak)])
def test_under_load_nobody_is_ever_given_another_container(place: Place, nodes: list[Node], seconds: int) -> None:
    randomly = random.Random(seconds)  # noqa: S311
    owners = {str(uuid.UUID(int=randomly.getrandbits(128), version=4)): name for name in ("alice", "bob") * 6}
    places = {
        one: nodes[number % 3].container(one, owner, uuid_=one) for number, (one, owner) in enumerate(owners.items())
    }
    place.site.pymon("quota", "set", "bob", "--requests-per-second=0")
    codes: Counter[int] = Counter()
    wrong: list[str] = []
    ended = threading.Event()

    def scrape(account: str, seed: int) -> None:
        mine = [one for one, owner in owners.items() if owner == account]
        others = [one for one, owner in owners.items() if owner != account]
        choose = random.Random(seed)  # noqa: S311
        try:
            with place.client(account) as client:
                while not ended.is_set():
                    foreign = choose.random() < 0.2
                    one = choose.choice(others if foreign else mine)
                    headers = {"Accept-Encoding": "identity", "X-Prometheus-Scrape-Timeout-Seconds": "3"}
                    answer = client.get(path_of(one), headers)
                    codes[answer.status] += 1
                    names = set(re.findall(rb'[{,]name="([^"]*)"', answer.body))
                    if foreign and (answer.status, answer.body) != (404, b"not found\n"):
                        wrong.append(f"{account} was given {answer.status} for another's container")
                    elif answer.status == 200 and names != {one.encode()}:
                        wrong.append(f"{account} was given {names} for {one}")
                    elif answer.status not in {200, 404, 502, 503, 504}:
                        wrong.append(f"{answer.status}: {answer.body[:100]!r}")
                    # A container of its own that has just lost its UUID to the next one has that of its path until its
                    # directory is gone, so others of its own may be found.
                    if choose.random() < 0.1 and (found := client.uuids() & set(others)):
                        wrong.append(f"{account} found {found}")
        except Exception as error:  # noqa: BLE001  # told by the test
            wrong.append(repr(error))

    threads = [
        threading.Thread(target=scrape, args=(account, number))
        for number, account in enumerate(("alice", "bob", "alice", "bob"))
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    moved = killed = 0
    try:
        while time.monotonic() < end and not wrong:
            one = randomly.choice(list(owners))
            before = places[one]
            target = randomly.choice([node for node in nodes if node is not before.node])
            if moved % 3:
                before.end()
                places[one] = target.container(one, owners[one], uuid_=one)
            else:  # both run for a while
                places[one] = target.container(one, owners[one], uuid_=one, started_at=time.time())
                time.sleep(0.05)
                before.end()
            moved += 1
            if moved % 20 == 10:
                randomly.choice(nodes).kill()
                place.fleet.start()
                killed += 1
            time.sleep(0.02)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:10]
    assert moved >= seconds
    assert killed
    assert codes[200] > 100, codes
    sys.stderr.write(f"{sum(codes.values())} requests, {dict(codes)}, {moved} moves, {killed} nodes killed\n")
    for account in ("alice", "bob"):
        with place.client(account) as client:
            mine = {one for one, owner in owners.items() if owner == account}
            until("all found", lambda client=client, mine=mine: client.uuids() == mine, 10)
            for one in mine:
                until("all answer", lambda client=client, one=one: answers(client, places[one]), 10)


def test_the_proxy_ends_well_under_load(place: Place, nodes: list[Node], tmp_path: Path) -> None:
    hung = nodes[0].container("hung", "alice")
    others = [nodes[number % 2 + 1].container(f"other-{number}", "alice") for number in range(6)]
    agent = nodes[0].agent
    assert agent is not None
    counts: Counter[int | str] = Counter()
    go_on = threading.Event()

    def scrape(proxy: Proxy, container: Container) -> None:
        """Until the proxy refuses a new connection: an answer that was begun is whole."""
        with contextlib.suppress(ConnectionRefusedError):
            while True:
                with proxy.client(authorization=f"Bearer {place.tokens['alice']}") as client:
                    try:
                        while True:
                            answer = client.get(path_of(container), {"X-Prometheus-Scrape-Timeout-Seconds": "2"})
                            counts[answer.status] += 1
                            go_on.set()
                    except (http.client.RemoteDisconnected, ConnectionResetError, ssl.SSLError) as error:
                        counts[type(error).__name__] += 1

    directory = f"--directory={place.site.data_dir / 'directory.db'}"
    with Proxy(Site(tmp_path), directory, tls=place.proxy.tls or False) as proxy:
        with proxy.client(authorization=f"Bearer {place.tokens['alice']}") as client:
            for one in (hung, *others):
                until("routed", lambda one=one: answers(client, one), SOON_SECONDS)
            os.kill(agent.pid, signal.SIGSTOP)
        threads = [threading.Thread(target=scrape, args=(proxy, one)) for one in (hung, *others)]
        try:
            for thread in threads:
                thread.start()
            assert go_on.wait(10)
            begin = time.monotonic()
            proxy.stop()
            assert time.monotonic() - begin < 15
        finally:
            os.kill(agent.pid, signal.SIGCONT)
            for thread in threads:
                thread.join()
    assert counts[200] > 0
    assert counts[504] <= 1, "the node hangs for one client"
    # A handshake that is not done when the end begins is broken off.
    assert counts.keys() <= {
        200,
        504,
        "RemoteDisconnected",
        "ConnectionResetError",
        "SSLEOFError",
        "SSLZeroReturnError",
    }, counts
