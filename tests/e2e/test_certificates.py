"""Whose certificate opens what: every kind at a real agent that is configured as docs/proxy.md says, and at a real
proxy in front of it; revocation while both run; a data directory from before there were two authorities.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dns.message
import dns.query
import dns.tsig
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pymon.directory.authority import Authority
from pymon.directory.directory import open_directory
from pymon.directory.machines import Machines
from pymon.proxy.upstream_tls import own_name
from tests.e2e.proxy import ZONE, Client, Files, Process, Proxy, Site, free_port
from tests.live.world import World, until
from tests.machines import proxy_certificate

pytestmark = pytest.mark.root

WEB = """\
tls_server_config:
  cert_file: server-cert.pem
  key_file: server-key.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca-cert.pem
  client_allowed_sans: [pymon:proxy:front1, pymon:proxy:front2, "pymon:proxy:{own}"]
  client_crl_file: crl.pem
"""


class Agent(Process):
    """`pymon agent` with a web configuration file, on a port of 127.0.0.1."""

    def __init__(self, web: Path, *flags: str) -> None:
        self.port = free_port()
        super().__init__(
            "agent", f"--web.listen-address=127.0.0.1:{self.port}", f"--web.config.file={web}", *flags,
        )  # fmt: skip
        try:
            self.await_("its address", lambda: any("msg=listening" in line for line in list(self.log)))
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def get(self, ca: Path, cert: Path | None = None, key: Path | None = None) -> tuple[int, bytes] | None:
        """The answer to a scrape of everything; None where the connection is refused."""
        with contextlib.closing(self.connection(ca, cert, key)) as connection:
            return scrape(connection)

    def connection(self, ca: Path, cert: Path | None = None, key: Path | None = None) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(ca))
        if cert is not None:
            context.load_cert_chain(cert, key)
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)


def scrape(connection: http.client.HTTPSConnection) -> tuple[int, bytes] | None:
    """Of everything on a connection, which stays; None where it ends without an answer."""
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None


@dataclass
class Place:
    """A node with a container of alice's and one of bob's, an agent that admits proxies, and a directory."""

    site: Site
    agent: Agent
    folder: Path
    machines: Machines
    alice: Files
    groups: tuple[str, str]
    sources: Iterator[str] = field(default_factory=lambda: (f"127.0.3.{number}" for number in itertools.count(1)))

    @property
    def ca(self) -> Path:
        return self.folder / "ca-cert.pem"

    def proxy_file(self, name: str) -> Path:
        """A proxy's certificate and key, as the command writes them."""
        folder = self.site.new(name)
        self.site.pymon("cert", "proxy", name, f"--out={folder}")
        return folder / "proxy.pem"

    def web(self, text: str = WEB) -> None:
        """Write the agent's web configuration file."""
        (self.folder / "web.yml").write_text(text.format(own=own_name()))

    def file(self, pem: bytes) -> Path:
        file = self.site.new("pem")
        file.write_bytes(pem)
        return file


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    world = World()
    try:
        alice, bob = (world.group(name).path for name in ("alice", "bob"))
        site = Site(tmp_path)
        for name in ("alice", "bob"):
            site.pymon("account", "create", name)
        server = site.server("127.0.0.1")
        folder = server.cert.parent
        site.pymon("cert", "crl", f"--out={folder / 'crl.pem'}")
        machines = Machines.load(site.data_dir / "authority-machines")
        prefix = alice[: alice.rindex("-alice")].rpartition("-")[0]
        (folder / "web.yml").write_text(WEB.format(own=own_name()))
        pattern = f"--container.pattern={prefix}-[0-9]+-(?P<account>alice|bob)"
        with Agent(folder / "web.yml", pattern) as agent:
            site.pymon("node", "create", "node1", agent.url)
            yield Place(site, agent, folder, machines, site.certificate("alice"), (alice, bob))
    finally:
        world.close()


def test_who_is_let_in(place: Place, tmp_path: Path) -> None:
    foreign = Machines.load_or_create(tmp_path / "foreign")
    foreign_tenants = Authority.load_or_create(tmp_path / "foreign-tenants")
    other = place.site.server("node2")
    revoked = place.proxy_file("front2")
    place.site.pymon("cert", "revoke", "front2")
    place.site.pymon("cert", "crl", f"--out={place.folder / 'crl.pem'}")
    cert, key = foreign_tenants.issue_client("alice", 30)
    everything, mine, refused = 200, 200, None
    cases: dict[str, tuple[Path | None, Path | None, int | None, int]] = {
        "of an account": (place.alice.cert, place.alice.key, refused, mine),
        "of another agent": (other.cert, other.key, refused, 401),
        "of this agent": (place.folder / "server-cert.pem", place.folder / "server-key.pem", refused, 401),
        "of a proxy": (place.proxy_file("front1"), None, everything, 401),
        "of a proxy whose name is not allowed": (place.proxy_file("front3"), None, refused, 401),
        "of a proxy that is revoked": (revoked, None, refused, 401),
        "of a proxy, expired": (
            place.file(proxy_certificate(place.machines.authority, "front1", seconds=-1)), None, refused, 401,
        ),
        "of another authority, a proxy's": (place.file(foreign.issue_proxy("front1")), None, refused, 401),
        "of another authority, an account's": (place.file(key + cert), None, refused, 401),
        "none": (None, None, refused, 401),
    }  # fmt: skip
    with Proxy(place.site, f"--upstream.tls-ca-file={place.ca}") as proxy:
        for name, (cert_file, key_file, at_agent, at_proxy) in cases.items():
            answer = place.agent.get(place.ca, cert_file, key_file)
            assert (answer[0] if answer else None) == at_agent, name
            if answer:
                assert all(group.encode() in answer[1] for group in place.groups), name
            files = None if cert_file is None else Files(cert_file, key_file or cert_file, place.ca)
            with proxy.client(files, source=next(place.sources)) as client:
                assert client.status("/v1/discover") == at_proxy, name
        # The proxy has issued itself a certificate that the agent admits, and tells alice of alice's alone.
        with proxy.client(place.alice) as client:
            (uuid,) = client.uuids()
            answer = client.get(f"/v1/{uuid}/metrics")
            assert answer.status == 200
            assert place.groups[0].encode() in answer.body
            assert place.groups[1].encode() not in answer.body
        assert proxy.metric("pymon_proxy_upstream_certificate_expiry_time_seconds") > 0


def test_a_machines_certificate_stays_no_tenants_when_it_is_registered_nowhere(place: Place) -> None:
    """Also where an account is called like the machine, and where its certificate is from the wrong authority."""
    place.site.pymon("account", "create", "node2")
    server = place.site.server("node2")
    wrong, key = place.machines.authority.issue_client("alice", 30)
    forged = place.file(key + wrong)
    with open_directory(str(place.site.data_dir / "directory.db")) as directory:
        der = x509.load_pem_x509_certificate(wrong).public_bytes(Encoding.DER)
        directory.add_certificate("alice", der, issued=True)
    with Proxy(place.site, f"--upstream.tls-ca-file={place.ca}") as proxy:
        for files in (server, Files(forged, forged, place.ca)):
            with proxy.client(files, source=next(place.sources)) as client:
                assert client.status("/v1/discover") == 401


def given(file: Path, ca: Path) -> tuple[str, ...]:
    """The flags of a proxy that has no key of the authority."""
    return (f"--upstream.tls-ca-file={ca}", f"--upstream.tls-cert-file={file}", f"--upstream.tls-key-file={file}")


@contextlib.contextmanager
def serving(place: Place, name: str) -> Iterator[tuple[Path, Proxy, Client]]:
    """A proxy with a certificate that the command wrote, which has told alice of her container."""
    file = place.proxy_file(name)
    own, directory = Site(place.site.new("own")), f"--directory={place.site.data_dir / 'directory.db'}"
    tls = place.site.server("127.0.0.1")
    with Proxy(own, directory, *given(file, place.ca), tls=tls) as proxy, proxy.client(place.alice) as client:
        (uuid,) = until("alice's container", client.uuids)
        client.path = f"/v1/{uuid}/metrics"  # type: ignore[attr-defined]
        assert client.status(client.path) == 200  # type: ignore[attr-defined]
        yield file, proxy, client


def test_a_revoked_proxy_is_refused_at_its_next_request(place: Place) -> None:
    with serving(place, "front1") as (file, proxy, client), serving(place, "front2") as (_, _, other):
        kept = place.agent.connection(place.ca, file)
        first = scrape(kept)
        assert first
        assert first[0] == 200
        place.site.pymon("cert", "revoke", "front1")
        place.site.pymon("cert", "crl", f"--out={place.folder / 'crl.pem'}")
        assert scrape(kept) is None
        assert place.agent.get(place.ca, file) is None
        assert client.status(client.path) == 502
        assert other.status(other.path) == 200
        # The operator gives it another one, which the proxy reads while it serves.
        place.site.pymon("cert", "proxy", "front1", f"--out={file.parent}")
        until("the new certificate is in use", lambda: client.status(client.path) == 200)
        proxy.allowed = place.agent.allowed


def test_a_name_that_is_taken_out_is_refused_at_its_next_request(place: Place) -> None:
    with serving(place, "front1") as (file, _, client), serving(place, "front2") as (_, _, other):
        kept = place.agent.connection(place.ca, file)
        assert (scrape(kept) or (0,))[0] == 200
        place.web(WEB.replace("pymon:proxy:front1, ", ""))
        assert scrape(kept) is None
        assert client.status(client.path) == 502
        assert other.status(other.path) == 200
        place.web()
        until("it is let in again", lambda: client.status(client.path) == 200)


def test_an_old_data_directory_keeps_working(tmp_path: Path) -> None:
    site = Site(tmp_path)
    old = Authority.load_or_create(site.data_dir / "authority", "authority")
    site.pymon("account", "create", "alice")
    # What the older version left: a tenant's files and the proxy's certificate, all of one authority.
    folder = site.new("old")
    folder.mkdir()
    for name, (cert, key) in {
        "server": old.issue_server(["127.0.0.1"], 30), "alice": old.issue_client("alice", 30),
    }.items():  # fmt: skip
        (folder / f"{name}-cert.pem").write_bytes(cert)
        (folder / f"{name}-key.pem").write_bytes(key)
    (folder / "ca-cert.pem").write_bytes(old.pem)
    server, before = (Files(folder / f"{name}-cert.pem", folder / f"{name}-key.pem", folder / "ca-cert.pem")
                      for name in ("server", "alice"))  # fmt: skip
    with open_directory(str(site.data_dir / "directory.db")) as directory:
        directory.set_authority(old.der)
        der = x509.load_pem_x509_certificate(before.cert.read_bytes()).public_bytes(Encoding.DER)
        directory.add_certificate("alice", der, issued=True)
    since = site.certificate("alice")
    new = site.server("127.0.0.1")
    with Proxy(site, tls=server) as proxy:
        for files in (before, since):
            with Client(proxy.address, files.ca, files) as client:
                assert client.status("/v1/discover") == 200
    with Proxy(site, tls=new) as proxy:
        for files in (before, since):
            with Client(proxy.address, since.ca, files) as client:
                assert client.status("/v1/discover") == 200
        with Client(proxy.address, before.ca, before) as client, pytest.raises(ssl.SSLCertVerificationError):
            client.status("/v1/discover")


def test_every_file_is_read_again_and_a_bad_one_keeps_the_old(place: Place, tmp_path: Path) -> None:
    """Another authority of machines, step by step, while the proxy serves: on the agent, then on the proxy."""
    following = Machines.load_or_create(tmp_path / "following")
    both, new = place.machines.authority.pem + following.authority.pem, following.authority.pem
    trust, own, front = tmp_path / "trust.pem", tmp_path / "proxy.pem", place.site.server("127.0.0.1")
    keys = tmp_path / "keys"
    trust.write_bytes(place.machines.authority.pem)
    own.write_bytes(place.proxy_file("front1").read_bytes())
    keys.write_text(KEY.format("A" * 24))
    (place.folder / "web.yml").write_text(WEB.replace("  client_crl_file: crl.pem\n", "").format(own=own_name()))
    certificate, key = following.authority.issue_server(["127.0.0.1"], 30)
    flags = (f"--upstream.tls-ca-file={trust}", f"--upstream.tls-cert-file={own}", f"--upstream.tls-key-file={own}")
    dns_flags = ("--dns.listen-address=127.0.0.1:0", f"--dns.tsig-key-file={keys}", "--dns.proxy-address=127.0.0.1")
    with Proxy(place.site, *flags, *dns_flags, tls=front) as proxy, proxy.client(place.alice) as client:

        def reloads(name: str, use: str) -> float:
            return proxy.metric(f"pymon_reload_{name}", use=use)

        def ends(use: str) -> float:
            return proxy.metric("pymon_certificate_expiry_timestamp_seconds", use=use)

        (uuid,) = until("alice's container", client.uuids)
        path = f"/v1/{uuid}/metrics"
        assert ends("tenants_authority") > ends("upstream") > 0
        proxy.allowed = re.compile("is not usable, the last good one stays")
        files = {"upstream_ca": trust, "upstream": own, "server": front.cert, "dns_keys": keys}
        good = {file: file.read_bytes() for file in files.values()}
        worked = {use: reloads("last_success_timestamp_seconds", use) for use in files}
        assert all(worked.values())
        for file in files.values():
            file.write_bytes(b"half of it")
        until("all failed", lambda: all(reloads("failures_total", use) == 1 for use in files))
        assert [reloads("last_successful", use) for use in files] == [0, 0, 0, 0]
        assert {use: reloads("last_success_timestamp_seconds", use) for use in files} == worked
        assert client.status(path) == 200
        with proxy.client(place.alice) as another:
            assert another.status(path) == 200
        for file, data in good.items():
            file.write_bytes(data)
        until("all worked", lambda: all(reloads("last_successful", use) == 1 for use in files))
        for use, file in files.items():
            assert reloads("last_success_timestamp_seconds", use) > worked[use]
            assert len([line for line in proxy.log if "is not usable" in line and str(file) in line]) == 1
        # The proxy trusts both, then the agent has a certificate of the new one and trusts both.
        trust.write_bytes(both)
        until("both are trusted", lambda: reloads("failures_total", "upstream_ca") == 1 and client.status(path) == 200)
        for name, data in (("server-key.pem", key), ("server-cert.pem", certificate), ("ca-cert.pem", both)):
            (place.folder / name).write_bytes(data)
        until("the agent's new certificate", lambda: client.status(path) == 200)
        before = ends("upstream")
        own.write_bytes(proxy_certificate(following.authority, "front1", seconds=600))
        until("the proxy's new certificate", lambda: ends("upstream") < before and client.status(path) == 200)
        trust.write_bytes(new)
        (place.folder / "ca-cert.pem").write_bytes(new)
        until("the old authority is gone", lambda: ends("upstream_ca") > 0 and client.status(path) == 200)
        # The key of transfers.
        host, _, port = proxy.listening("dns")[0].rpartition(":")
        assert signed_answer(host, int(port), "A" * 24)
        keys.write_text(KEY.format("B" * 24))
        until("the new key", lambda: signed_answer(host, int(port), "B" * 24))
        assert not signed_answer(host, int(port), "A" * 24)
        place.agent.allowed = proxy.allowed


KEY = 'key "transfer" {{ algorithm hmac-sha256; secret "{}"; }};\n'


def signed_answer(host: str, port: int, secret: str) -> bool:
    """Whether the server takes a query that is signed with this secret."""
    query = dns.message.make_query(f"{ZONE}.", "SOA")
    query.use_tsig(dns.tsig.Key("transfer", secret, "hmac-sha256"))
    try:
        return dns.query.tcp(query, host, port=port, timeout=30).had_tsig
    except dns.tsig.PeerError:
        return False
