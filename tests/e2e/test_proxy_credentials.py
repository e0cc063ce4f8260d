"""Credentials of every kind at a running proxy: what they open, and that what an operator takes back is worth nothing
at once.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.fleet import Container, Fleet
from tests.e2e.proxy import ZONE, Client, Files, Proxy, Site
from tests.live.world import until
from tests.proxy.certs import CMON, DOCKER, SSHPK_EXTENSIONS, Workshop

pytestmark = pytest.mark.root

SOON_SECONDS = 5.0
"""A second is what is promised, and this machine may be busy."""


@dataclass
class Place:
    """A proxy of one node: a container of alice's, one of bob's. Clients come from an address of their own each, as
    failures are limited by address.
    """

    site: Site
    proxy: Proxy
    shop: Workshop
    fleet: Fleet
    mine: Container
    other: Container
    sources: Iterator[str] = field(default_factory=lambda: (f"127.0.2.{number}" for number in itertools.count(1)))

    def client(self, files: Files | None = None, authorization: str = "") -> Client:
        return self.proxy.client(files, authorization=authorization, source=next(self.sources))

    def token(self, account: str) -> str:
        return self.site.pymon("token", "create", account)

    def public_key(self, text: str) -> Path:
        file = self.shop.new(".pub")
        file.write_text(f"{text}\n")
        return file


@pytest.fixture(scope="module")
def place(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "keys").mkdir()
    shop = Workshop(folder / "keys")
    site = Site(folder)
    node = fleet.nodes[0]
    mine, other = node.container("mine", "alice"), node.container("other", "bob")
    for account in ("alice", "bob"):
        site.pymon("account", "create", account)
    site.pymon("node", "create", node.name, node.url)
    with Proxy(site) as proxy:
        yield Place(site, proxy, shop, fleet, mine, other)


class Credential:
    """A client that has it, and the command that takes it back."""

    def __init__(self, place: Place, client: Callable[[], Client], *delete: str) -> None:
        self.client = client
        self.revoke = lambda: place.site.pymon(*delete)


def issued(place: Place) -> Credential:
    files = place.site.certificate("alice", "--label=issued")
    (fingerprint,) = [
        line.split()[0] for line in place.site.pymon("cert", "list", "alice").splitlines() if line.endswith("issued")
    ]
    return Credential(place, lambda: place.client(files), "cert", "delete", fingerprint)


def signed_by_ssh_key(place: Place, kind: str) -> Credential:
    pair, key = place.shop.ssh(kind), place.shop.key()
    extensions = SSHPK_EXTENSIONS.format(purposes=f"clientAuth, {CMON}")
    cert = place.shop.certificate("alice", key, issuer=pair.sshpk_md5, signer=pair.pem, extensions=extensions)
    fingerprint = place.site.pymon("key", "add", "alice", place.public_key(pair.public.text))
    files = Files(cert, key, Path())
    return Credential(place, lambda: place.client(files), "key", "delete", fingerprint)


def self_signed(place: Place, kind: str) -> Credential:
    pair = place.shop.ssh(kind)
    files = Files(place.shop.certificate("alice", pair.pem), pair.pem, Path())
    fingerprint = place.site.pymon("key", "add", "alice", place.public_key(pair.public.text))
    return Credential(place, lambda: place.client(files), "key", "delete", fingerprint)


def registered(place: Place) -> Credential:
    key = place.shop.key("RSA", "rsa_keygen_bits:2048")
    files = Files(place.shop.certificate("alice", key), key, Path())
    fingerprint = place.site.pymon("cert", "add", "alice", files.cert)
    return Credential(place, lambda: place.client(files), "cert", "delete", fingerprint)


def token(place: Place) -> Credential:
    text = place.token("alice")
    return Credential(place, lambda: place.client(None, f"Bearer {text}"), "token", "delete", text.split("_")[1])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token_as_password(place: Place) -> Credential:
    text = place.token("alice")
    return Credential(place, lambda: place.client(None, basic("alice", text)), "token", "delete", text.split("_")[1])


def password(place: Place) -> Credential:
    place.site.pymon("account", "password", "alice", data="correct horse\n")
    authorization = basic("alice", "correct horse")
    return Credential(place, lambda: place.client(None, authorization), "account", "password", "alice", "--remove")


KINDS: dict[str, Callable[[Place], Credential]] = {
    "issued": issued,
    "cmon-rsa": lambda place: signed_by_ssh_key(place, "rsa-2048"),
    "cmon-ecdsa": lambda place: signed_by_ssh_key(place, "ecdsa-256"),
    "self-signed-rsa": lambda place: self_signed(place, "rsa-2048"),
    "self-signed-ecdsa": lambda place: self_signed(place, "ecdsa-384"),
    "registered": registered,
    "token": token,
    "token-as-password": token_as_password,
    "password": password,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_opens_its_account_s_own_until_it_is_taken_back(place: Place, kind: str) -> None:
    credential = KINDS[kind](place)
    path = f"/v1/{place.mine.uuid}/metrics"
    with credential.client() as client:
        until("in force", lambda: client.status("/v1/discover") == 200, SOON_SECONDS)
        assert client.uuids() == {place.mine.uuid}
        by_path = client.get(path)
        by_name = client.get("/metrics", host=f"{place.mine.uuid.upper()}.CMON.{ZONE}:{place.proxy.port}")
        for answer in (by_path, by_name):
            assert answer.status == 200, answer
            assert f'id="{place.mine.path}"'.encode() in answer.body
            assert place.other.path.encode() not in answer.body
        not_mine = client.get(f"/v1/{place.other.uuid}/metrics")
        not_there = client.get("/v1/00000000-0000-4000-8000-000000000000/metrics")
        not_for_me = client.get(f"/v1/{place.fleet.nodes[0].uuid}/metrics")
        assert not_mine[::2] == not_there[::2] == not_for_me[::2] == (404, b"not found\n")
        credential.revoke()
        # On the connection that it opened too.
        until("taken back", lambda: client.status(path) == 401, SOON_SECONDS)
        assert client.status("/v1/discover") == 401
    with credential.client() as again:
        answer = again.get("/v1/discover")
        assert answer.status == 401
        assert answer.headers["Content-Type"].startswith("text/plain")
    assert place.proxy.process.poll() is None


def test_certificates_that_are_worth_nothing(place: Place) -> None:
    shop = place.shop
    pair, stranger, key = shop.ssh("ecdsa-256"), shop.ssh("ecdsa-256"), shop.key()
    place.site.pymon("key", "add", "alice", place.public_key(pair.public.text))
    place.site.pymon("token", "create", "alice")

    def made(purpose: str = CMON, subject: str = "alice", signer: object = pair, **more: object) -> Path:
        extensions = SSHPK_EXTENSIONS.format(purposes=f"clientAuth, {purpose}")
        return shop.certificate(
            subject, key, issuer=pair.sshpk_md5, signer=signer.pem, extensions=extensions, **more  # type: ignore[attr-defined]
        )  # fmt: skip

    refused = {
        "expired": made(days=-1),
        "wrong_eku": made(DOCKER),
        "bad_signature": made(signer=stranger),
        "unknown_account": made(subject="mallory"),
    }

    def failures(reason: str) -> float:
        return place.proxy.metric("pymon_proxy_authentication_failures_total", reason=reason)

    with place.client(Files(made(), key, Path())) as client:
        until("in force", lambda: client.status("/v1/discover") == 200, SOON_SECONDS)
    for reason, cert in refused.items():
        before = failures(reason)
        with place.client(Files(cert, key, Path())) as client:
            assert client.status(f"/v1/{place.mine.uuid}/metrics") == 401, reason
        assert failures(reason) == before + 1, reason
    before = failures("no_credential")
    with place.client() as client:
        answer = client.get("/v1/discover")
        assert client.status("/-/healthy") == client.status("/_ping") == client.status("/v1/_ping") == 200
    assert answer.status == 401
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert failures("no_credential") == before + 1


def test_an_account_that_is_deleted_is_out_and_its_containers_are_the_operator_s(place: Place) -> None:
    place.site.pymon("account", "create", "carol")
    place.site.pymon("account", "create", "ops", "--operator")
    container = place.fleet.nodes[0].container("carols", "carol")
    with (
        place.client(None, f"Bearer {place.token('carol')}") as carol,
        place.client(None, f"Bearer {place.token('ops')}") as ops,
    ):
        until("carol sees it", lambda: carol.status(f"/v1/{container.uuid}/metrics") == 200, SOON_SECONDS)
        until("in force", lambda: ops.status("/v1/discover") == 200, SOON_SECONDS)
        assert ops.status(f"/v1/{container.uuid}/metrics") == 404
        place.site.pymon("account", "delete", "carol")
        until("out", lambda: carol.status("/v1/discover") == 401, SOON_SECONDS)
        until("nobody's", lambda: ops.status(f"/v1/{container.uuid}/metrics") == 200, SOON_SECONDS)
        assert container.uuid in ops.uuids()
        assert ops.status(f"/v1/{place.fleet.nodes[0].uuid}/metrics") == 200
        place.site.pymon("account", "delete", "ops")
        until("out", lambda: ops.status("/v1/discover") == 401, SOON_SECONDS)
    container.end()


def test_a_quota_holds_at_once_and_says_when_to_come_again(place: Place) -> None:
    site, path = place.site, f"/v1/{place.mine.uuid}/metrics"

    def throttled() -> float:
        return place.proxy.metric("pymon_proxy_throttled_total", account="alice", limit="rate")

    with (
        place.client(None, f"Bearer {place.token('alice')}") as client,
        place.client(None, f"Bearer {place.token('bob')}") as bob,
    ):
        until("in force", lambda: client.status(path) == 200, SOON_SECONDS)
        until("in force", lambda: bob.status("/v1/discover") == 200, SOON_SECONDS)
        before = throttled()
        site.pymon("quota", "set", "alice", "--requests-per-second=0.05", "--burst=2")
        answer = until("throttled", lambda: (one := client.get(path)).status == 429 and one, SOON_SECONDS)
        assert 1 <= int(answer.headers["Retry-After"]) <= 20
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert client.status("/v1/discover") == 429
        assert bob.status(f"/v1/{place.other.uuid}/metrics") == 200
        assert throttled() == before + 2
        assert place.proxy.metric("pymon_proxy_requests_total", account="alice", code="429") >= 2
        site.pymon("quota", "delete", "alice")
        until("let in again", lambda: client.status(path) == 200, SOON_SECONDS)


def test_a_node_is_there_when_it_is_registered_and_gone_when_it_is_not(place: Place) -> None:
    node = place.fleet.nodes[1]
    container = node.container("elsewhere", "alice")
    path = f"/v1/{container.uuid}/metrics"
    with place.client(None, f"Bearer {place.token('alice')}") as client:
        until("in force", lambda: client.status("/v1/discover") == 200, SOON_SECONDS)
        assert client.status(path) == 404
        place.site.pymon("node", "create", node.name, node.url)
        until("routed", lambda: client.status(path) == 200, SOON_SECONDS)
        until("its first answer is complete", lambda: client.status("/v1/discover") == 200, SOON_SECONDS)
        assert client.uuids() == {place.mine.uuid, container.uuid}
        place.site.pymon("node", "delete", node.name)
        until("not routed", lambda: client.status(path) == 404, SOON_SECONDS)
        assert client.uuids() == {place.mine.uuid}
        assert client.status(f"/v1/{place.mine.uuid}/metrics") == 200
    container.end()


def test_who_guesses_is_held_up_and_nobody_else_is(place: Place) -> None:
    known = f"Bearer {place.token('alice')}"
    guessing = "127.0.3.1"
    before = place.proxy.metric("pymon_proxy_throttled_total", limit="authentication")
    with place.client(None, known) as elsewhere:
        until("in force", lambda: elsewhere.status("/v1/discover") == 200, SOON_SECONDS)
        with place.proxy.client(authorization=basic("alice", "guess"), source=guessing) as client:
            # Each of its own, as a failure is remembered too.
            answers = [
                client.get("/v1/discover", {"Authorization": basic("alice", f"guess {number}")}) for number in range(40)
            ]
        held = [answer for answer in answers if answer.status == 429]
        assert {answer.status for answer in answers} == {401, 429}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in held)
        assert place.proxy.metric("pymon_proxy_throttled_total", limit="authentication") == before + len(held)
        assert elsewhere.status("/v1/discover") == 200
    with place.proxy.client(authorization=known, source=guessing) as same_address:
        assert same_address.status("/v1/discover") == 200, "a credential that is known needs no work"


def test_a_neighbour_s_credential_that_was_revoked_holds_nobody_up(place: Place) -> None:
    # Two tenants behind one address, as behind one Prometheus; what is known is forgotten when the directory changes.
    address = "127.0.3.2"
    revoked, good = place.token("alice"), place.token("bob")
    with (
        place.proxy.client(authorization=f"Bearer {revoked}", source=address) as neighbour,
        place.proxy.client(authorization=f"Bearer {good}", source=address) as client,
    ):
        for one in (neighbour, client):
            until("in force", lambda one=one: one.status("/v1/discover") == 200, SOON_SECONDS)
        place.site.pymon("token", "delete", revoked.split("_")[1])
        until("taken back", lambda: neighbour.status("/v1/discover") == 401, SOON_SECONDS)
        assert {neighbour.status("/v1/discover") for _ in range(50)} == {401}
        new = place.token("bob")
        with place.client(None, f"Bearer {new}") as elsewhere:
            until("in force", lambda: elsewhere.status("/v1/discover") == 200, SOON_SECONDS)
        for _ in range(30):
            assert neighbour.status("/v1/discover") == 401
            assert client.status("/v1/discover") == 200
        assert client.status("/v1/discover", headers={"Authorization": f"Bearer {new}"}) == 200
