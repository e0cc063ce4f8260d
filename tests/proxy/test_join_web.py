"""Nodes that join and renew at a real proxy: what is refused, and what that costs."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from pymon.directory.authority import NODE_LIFETIME, Authority
from pymon.directory.machines import Machines
from pymon.directory.node_requests import RENEWAL
from pymon.proxy.join_web import MOST, Joining
from tests.machines import proxy_certificate
from tests.proxy.agents import until
from tests.proxy.running import Answer, Client, Site, on_uvloop, running

U1, U2 = (str(UUID(int=number)) for number in (1, 2))
URL = "https://10.0.0.1:9164"
UTC = dt.UTC


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr(key: Any, name: str = "ignored") -> bytes:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    alternatives = x509.SubjectAlternativeName([x509.DNSName("cmon.pymon.internal")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(alternatives, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def binary(data: bytes) -> str:
    return f":{base64.b64encode(data).decode()}:"


async def join(client: Client, token: str, request: bytes, name: str = "n1", uuid: str = U1, url: str = URL) -> Answer:
    return await client.ask(
        "/v1/join", f"Authorization: Bearer {token}", f"Node-Name: {name}", f"Node-Uuid: {uuid}", f"Node-Url: {url}",
        f"Certificate-Request: {binary(request)}", method="POST",
    )  # fmt: skip


async def renew(client: Client, key: ec.EllipticCurvePrivateKey, certificate: bytes, request: bytes) -> Answer:
    signature = key.sign(RENEWAL + request, ec.ECDSA(hashes.SHA256()))
    return await client.ask(
        "/v1/renew", f"Certificate-Request: {binary(request)}", f"Node-Certificate: {binary(certificate)}",
        f"Renewal-Signature: {binary(signature)}", method="POST",
    )  # fmt: skip


class JoinSite(Site):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.machines = Machines.load_or_create(self.data_dir / "authority-machines").authority

    def token(self, name: str = "n1", seconds: float = 60.0) -> str:
        return self.directory.node_tokens.create(name, seconds)


@pytest.fixture
def site(tmp_path: Path) -> JoinSite:
    return JoinSite(tmp_path)


def leaf(answer: Answer) -> x509.Certificate:
    assert answer.status == 200, answer
    return x509.load_pem_x509_certificates(answer.body)[0]


@on_uvloop
async def test_a_node_gets_a_certificate_for_its_key_and_name_alone(site: JoinSite) -> None:
    key = new_key()
    async with running(site) as proxy, proxy.client() as client:
        answer = await join(client, site.token(), csr(key))
        certificate, authority = x509.load_pem_x509_certificates(answer.body)
        assert answer["content-type"] == "application/x-pem-file"
    assert authority == site.machines.certificate
    certificate.verify_directly_issued_by(authority)
    assert certificate.public_key() == key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    # Nothing of what the request asked for: that name is a proxy's.
    assert names.get_values_for_type(x509.DNSName) == ["n1.node.pymon.invalid"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    node = site.directory.snapshot().nodes["n1"]
    assert (str(node.uuid), node.url, node.tls_server_name) == (U1, URL, "n1.node.pymon.invalid")


@on_uvloop
async def test_a_token_is_good_once_for_its_node_and_its_time(site: JoinSite) -> None:
    request = csr(new_key())
    used, expired, other = site.token(), site.token("n2", -1.0), site.token("n3")
    async with running(site) as proxy, proxy.client() as client:
        assert (await join(client, used, request)).status == 200
        again = await join(client, used, request)
        late = await join(client, expired, request, "n2", U2)
        wrong = await join(client, other, request, "n4", U2)
        guessed = await join(client, used[:-1] + ("A" if used[-1] != "A" else "B"), request)
        unknown = await join(client, f"pymon-node.{'0' * 16}.{'x' * 43}", request)
        assert await proxy.metric("pymon_proxy_requests_total", route="join", code="401") == 5.0
    assert [(found.status, found.line.partition(": ")[2]) for found in (again, late)] == [
        (401, "was used already"), (401, "has expired"),
    ]  # fmt: skip
    assert (wrong.status, wrong.line.partition(": ")[2]) == (401, "is for the node n3, and 'n4' used it")
    assert (guessed.status, guessed.line) == (unknown.status, unknown.line) == (401, "token: not known")
    assert list(site.directory.snapshot().nodes) == ["n1"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"url": "http://10.0.0.1:9164"}, 400),
        ({"url": "https://10.0.0.1:9164/x"}, 400),
        ({"uuid": "x"}, 400),
        ({"uuid": str(UUID(int=0))}, 400),
        ({"name": "*"}, 400),
        ({"name": "N1"}, 400),
        ({"token": "pymon_abc_def"}, 401),
        ({"request": b"\x30\x03\x02\x01\x01"}, 403),
        ({"request": b"x" * 5000}, 403),
        ({"request": b""}, 400),
    ],
    ids=str,
)
def test_what_is_malformed_is_one_line_and_uses_up_nothing(site: JoinSite, change: dict[str, Any], status: int) -> None:
    @on_uvloop
    async def ask() -> None:
        token = site.token()
        async with running(site) as proxy, proxy.client() as client, proxy.client() as good:
            given = {"token": token, "request": csr(new_key()), **change}
            answer = await join(client, **given)
            assert (answer.status, bool(answer.line)) == (status, True)
            assert (await join(good, token, csr(new_key()))).status == 200

    ask()


@on_uvloop
async def test_keys_are_p256_and_proven(site: JoinSite) -> None:
    large = csr(rsa.generate_private_key(65537, 2048))
    broken = bytearray(csr(new_key()))
    broken[-1] ^= 1
    async with running(site) as proxy, proxy.client() as client:
        for request in (large, bytes(broken), csr(ec.generate_private_key(ec.SECP384R1()))):
            answer = await join(client, site.token(), request)
            assert answer.status == 403, answer
            assert "P-256" in answer.line or "signed" in answer.line


@on_uvloop
async def test_the_current_key_renews_and_no_other(site: JoinSite) -> None:
    key, new = new_key(), new_key()
    async with running(site) as proxy, proxy.client() as client:
        certificate = leaf(await join(client, site.token(), csr(key))).public_bytes(Encoding.DER)
        renewed = leaf(await renew(client, key, certificate, csr(new)))
        assert renewed.public_key() == new.public_key()
        assert (await renew(client, new, renewed.public_bytes(Encoding.DER), csr(new_key()))).status == 200
        stolen = await renew(client, new_key(), certificate, csr(new_key()))
        assert (stolen.status, stolen.line) == (403, "expected a signature of the certificate's key")


@on_uvloop
async def test_a_node_that_is_deleted_or_joined_again_renews_no_older_certificate(site: JoinSite) -> None:
    key, thief = new_key(), new_key()
    async with running(site) as proxy, proxy.client() as client:
        certificate = leaf(await join(client, site.token(), csr(key))).public_bytes(Encoding.DER)
        assert (await join(client, site.token(), csr(new_key()))).status == 200
        again = await renew(client, key, certificate, csr(thief))
        site.directory.delete_node("n1")
        gone = await renew(client, key, certificate, csr(thief))
    for answer in (again, gone):
        assert answer.status == 403
        assert answer.line.endswith("join again with a new token")


@on_uvloop
async def test_certificates_of_others_and_expired_ones_renew_nothing(site: JoinSite, tmp_path: Path) -> None:
    key = new_key()
    async with running(site) as proxy, proxy.client() as client:
        made = leaf(await join(client, site.token(), csr(key)))
        foreign = Authority.load_or_create(tmp_path / "foreign", "machines")
        token = site.directory.node_tokens.joined("n1")
        assert token
        of_another = x509.load_pem_x509_certificate(foreign.issue_node("n1", token, key.public_key()))
        proxys = x509.load_pem_x509_certificates(proxy_certificate(site.machines, "front1", seconds=600))[0]
        server = x509.load_pem_x509_certificate(site.machines.issue_server(["n1.node.pymon.invalid"], 1)[0])
        old = expired(site.machines, made, key)
        for certificate in (of_another, proxys, server, old):
            answer = await renew(client, key, certificate.public_bytes(Encoding.DER), csr(new_key()))
            assert answer.status == 403, answer
        assert "join again with a new token" in answer.line


def expired(authority: Authority, like: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    now = dt.datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(like.subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - NODE_LIFETIME)
        .not_valid_after(now - dt.timedelta(seconds=1))
    )
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(authority.key, hashes.SHA256())


@on_uvloop
async def test_a_proxy_without_the_key_says_who_has_it(site: JoinSite, tmp_path: Path) -> None:
    token = site.token()
    (tmp_path / "other").mkdir()
    other = JoinSite(tmp_path / "other")
    (other.data_dir / "authority-machines" / "ca-key.pem").unlink()
    directory = str(site.data_dir / "directory.db")
    async with running(other, directory=directory) as proxy, proxy.client() as client:
        nobody = await join(client, token, csr(new_key()))
        assert (nobody.status, nobody.line.rpartition("; ")[2]) == (503, "no proxy that is alive has it")
        site.directory.acquire_lease("signer front2", "front2:9163", 60.0)
        told = await join(client, token, csr(new_key()))
        assert (told.status, told.line.rpartition("; ")[2]) == (503, "front2:9163 can")
        assert told["retry-after"]
    async with running(site) as proxy, proxy.client() as client:
        assert (await join(client, token, csr(new_key()))).status == 200


@on_uvloop
async def test_the_authority_is_told_to_everybody_and_its_key_to_nobody(site: JoinSite) -> None:
    async with running(site) as proxy, proxy.client() as client:
        told = await client.ask("/v1/join")
        assert told.body == site.machines.pem
        for method, path, allowed in (("PUT", "/v1/join", "GET, HEAD, POST"), ("GET", "/v1/renew", "POST")):
            refused = await client.ask(path, method=method)
            assert (refused.status, refused["allow"]) == (405, allowed)


@on_uvloop
async def test_of_one_address_few_requests_are_looked_at_and_nobody_else_waits(site: JoinSite) -> None:
    token, request = site.token(), csr(new_key())
    async with running(site) as proxy:
        async with proxy.client(source="127.0.0.2") as client:
            answers = [await join(client, f"pymon-node.{n:016x}.{'x' * 43}", request) for n in range(40)]
            statuses = {answer.status for answer in answers}
            assert statuses == {401, 429}
            assert answers[-1]["retry-after"]
            assert (await client.ask("/v1/renew", method="POST")).status == 429
        async with proxy.client(source="127.0.0.3") as client:
            assert (await join(client, token, request)).status == 200


@on_uvloop
async def test_large_requests_are_refused_before_anything_is_looked_at(site: JoinSite) -> None:
    async with running(site) as proxy:
        async with proxy.client() as client:
            assert (await join(client, site.token(), b"x" * 9000)).status == 431
        async with proxy.client() as client:
            sent = await client.ask("/v1/join", "Content-Length: 70000", method="POST")
            assert sent.status == 413
        assert await proxy.metric("pymon_proxy_requests_total", route="join") == 0.0


@on_uvloop
async def test_few_are_worked_on_at_the_same_time_and_others_are_served(
    site: JoinSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(Joining, "_authority", lambda _: str(go_on.wait(20)))

    async def ask(number: int) -> int:
        async with proxy.client(source=f"127.0.0.{10 + number}") as client:
            return (await client.ask("/v1/join")).status

    alice = site.account("alice")
    async with running(site) as proxy:
        waiting = [asyncio.create_task(ask(number)) for number in range(MOST)]
        await until(lambda: proxy.proxy.tenants.joining._under_way == MOST)
        assert await ask(MOST) == 503
        assert (await proxy.ask("/v1/discover", alice)).status == 200
        go_on.set()
        assert await asyncio.gather(*waiting) == [200] * MOST
