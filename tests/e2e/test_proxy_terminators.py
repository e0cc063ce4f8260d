"""nginx and HAProxy end the TLS of tenants and hand their certificates over to a proxy that has no TLS of its own."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.fleet import Container, Fleet
from tests.e2e.prometheus import require
from tests.e2e.proxy import ZONE, Client, Files, Proxy, Site, free_port, running
from tests.live.world import until
from tests.proxy.certs import CMON, SSHPK_EXTENSIONS, Workshop

pytestmark = pytest.mark.root

TERMINATOR = "127.0.4.1"
"""The address from which nginx and HAProxy speak to the proxy over TCP."""

NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream pymon {{ server {upstream}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {files.cert};
    ssl_certificate_key {files.key};
    ssl_verify_client optional_no_ca;
    location / {{
      proxy_pass http://pymon;
      {bind}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header Client-Cert $ssl_client_escaped_cert;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"""

HAPROXY = """\
global
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  option forwardfor
frontend tenants
  bind 127.0.0.1:{port} ssl crt {both} ca-file {files.ca} verify optional ca-ignore-err all crt-ignore-err all
  http-request set-header Client-Cert %[ssl_c_der,base64]
  default_backend pymon
backend pymon
  {bind}
  server pymon {upstream}
"""


@dataclass
class Place:
    site: Site
    proxy: Proxy
    shop: Workshop
    mine: Container
    other: Container
    folder: Path
    server: Files
    unix: Path
    tcp: str
    certificates: dict[str, Files]


@pytest.fixture(scope="module")
def place(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("terminators")
    (folder / "keys").mkdir()
    shop = Workshop(folder / "keys")
    site = Site(folder)
    node = fleet.nodes[0]
    mine, other = node.container("mine", "alice"), node.container("other", "bob")
    for account in ("alice", "bob"):
        site.pymon("account", "create", account)
    site.pymon("node", "create", node.name, node.url)
    # A large one: its PEM, escaped, is what a header has to hold.
    pair, key = shop.ssh("rsa-2048"), shop.key("RSA", "rsa_keygen_bits:3072")
    public = shop.new(".pub")
    public.write_text(pair.public.text + "\n")
    site.pymon("key", "add", "alice", public)
    extensions = SSHPK_EXTENSIONS.format(purposes=f"clientAuth, {CMON}")
    cert = shop.certificate("alice", key, issuer=pair.sshpk_md5, signer=pair.pem, extensions=extensions)
    certificates = {"cmon": Files(cert, key, Path()), "issued": site.certificate("alice")}
    unix = folder / "pymon.sock"
    flags = (f"--terminator.listen-address=unix:{unix}", "--terminator.listen-address=127.0.0.1:0")
    with Proxy(site, *flags, f"--terminator.trust={TERMINATOR}", tls=False) as proxy:
        tcp = proxy.await_(
            "its TCP address", lambda: [one for one in proxy.listening("terminator") if not one.startswith("unix:")]
        )
        server = site.server(f"cmon.{ZONE}", f"*.cmon.{ZONE}", "127.0.0.1")
        yield Place(site, proxy, shop, mine, other, folder, server, unix, tcp[0], certificates)
    assert not unix.exists()


@contextlib.contextmanager
def nginx(place: Place, over: str) -> Iterator[int]:
    """The port of nginx before the proxy's socket, `unix` or `tcp`."""
    port, folder = free_port(), place.site.new("nginx")
    folder.mkdir()
    unix = over == "unix"
    config = folder / "nginx.conf"
    config.write_text(
        NGINX.format(
            folder=folder,
            port=port,
            files=place.server,
            upstream=f"unix:{place.unix}" if unix else place.tcp,
            bind="" if unix else f"proxy_bind {TERMINATOR};",
        )
    )
    with running([require("nginx"), "-c", config, "-p", folder, "-e", folder / "nginx.log"]):
        until("nginx listens", lambda: listens(port))
        yield port
    log = (folder / "nginx.log").read_text()
    assert "error" not in log, log


@contextlib.contextmanager
def haproxy(place: Place, over: str) -> Iterator[int]:
    """The same of HAProxy."""
    port, folder = free_port(), place.site.new("haproxy")
    folder.mkdir()
    unix = over == "unix"
    both = folder / "server.pem"
    both.write_text(place.server.cert.read_text() + place.server.key.read_text())
    config = folder / "haproxy.cfg"
    config.write_text(
        HAPROXY.format(
            port=port,
            both=both,
            files=place.server,
            upstream=f"unix@{place.unix}" if unix else place.tcp,
            bind="" if unix else f"source {TERMINATOR}",
        )
    )
    with running([require("haproxy"), "-db", "-f", config]):
        until("haproxy listens", lambda: listens(port))
        yield port


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


PROGRAMS = {"nginx": nginx, "haproxy": haproxy}


@pytest.mark.parametrize("over", ["unix", "tcp"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_certificate_that_is_handed_over_opens_what_it_opens_with_tls(place: Place, program: str, over: str) -> None:
    require(program)

    def failures(reason: str) -> float:
        return place.proxy.metric("pymon_proxy_authentication_failures_total", reason=reason)

    before = {reason: failures(reason) for reason in ("no_credential", "malformed", "unknown_key")}
    path = f"/v1/{place.mine.uuid}/metrics"
    with PROGRAMS[program](place, over) as port:
        for kind, files in place.certificates.items():
            with Client(f"127.0.0.1:{port}", place.server.ca, files) as client:
                assert client.uuids() == {place.mine.uuid}, kind
                for answer in (client.get(path), client.get("/metrics", host=f"{place.mine.uuid}.cmon.{ZONE}:{port}")):
                    assert answer.status == 200, (kind, answer)
                    assert f'id="{place.mine.path}"'.encode() in answer.body
                assert client.status(f"/v1/{place.other.uuid}/metrics") == 404
                # Targets by path are the name that the client used.
                (target,) = client.json("/v1/sd?via=path")
                assert target["targets"] == [f"127.0.0.1:{port}"]
        der = place.certificates["issued"].cert.read_text()
        with Client(f"127.0.0.1:{port}", place.server.ca) as nobody:
            assert nobody.status(path) == 401
            assert nobody.status(path, headers={"Client-Cert": quote(der)}) == 401, "the client's own header counts"
            assert nobody.status("/_ping") == 200
        assert failures("no_credential") == before["no_credential"] + 2
        assert failures("malformed") == before["malformed"], "no certificate is not a bad one"
        with Client(f"127.0.0.1:{port}", place.server.ca, mallory(place)) as client:
            assert client.status(path) == 401
        assert failures("unknown_key") == before["unknown_key"] + 1


def mallory(place: Place) -> Files:
    """A self-signed certificate of alice's name and somebody's key."""
    key = place.shop.key()
    return Files(place.shop.certificate("alice", key), key, Path())


def test_failures_count_against_the_client_s_address(place: Place) -> None:
    require("nginx")
    path, good = f"/v1/{place.mine.uuid}/metrics", f"Bearer {place.site.pymon('token', 'create', 'alice')}"
    guessing = "127.0.5.1"
    with nginx(place, "unix") as port:

        def client(authorization: str, source: str) -> Client:
            return Client(f"127.0.0.1:{port}", place.server.ca, authorization=authorization, source=source)

        with client("", guessing) as one:
            codes = {
                one.status(
                    path,
                    headers={"Authorization": f"Bearer pymon_{'a' * 12}_{number:043}", "X-Forwarded-For": "127.0.5.9"},
                )
                for number in range(40)
            }
        assert codes == {401, 429}
        for source in ("127.0.5.2", "127.0.5.9"):
            with client(good, source) as other:
                until("in force", lambda other=other: other.status(path) == 200, 5)


def test_nobody_else_may_hand_certificates_over(place: Place) -> None:
    certificate = quote(place.certificates["issued"].cert.read_text())
    host, _, port = place.tcp.rpartition(":")
    for source, expected in (("127.0.0.1", 403), (TERMINATOR, 200)):
        connection = http.client.HTTPConnection(host, int(port), timeout=20, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request("GET", "/v1/discover", headers={"Client-Cert": certificate})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == expected, (source, body)
            assert (place.mine.uuid.encode() in body) == (expected == 200)


def test_a_tls_client_cannot_hand_one_over(place: Place) -> None:
    certificate = quote(place.certificates["issued"].cert.read_text())
    site = Site(place.folder / "other")
    site.folder.mkdir()
    site.pymon("account", "create", "alice")
    flags = ("--terminator.listen-address=127.0.0.1:0", "--terminator.trust=127.0.0.1")
    with Proxy(site, *flags) as proxy, proxy.client() as client:
        site.pymon("cert", "add", "alice", place.certificates["issued"].cert)
        (address,) = proxy.await_("its address", lambda: proxy.listening("terminator"))
        host, _, port = address.rpartition(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=20)) as terminator:

            def handed_over() -> int:
                terminator.request("GET", "/v1/discover", headers={"Client-Cert": certificate})
                answer = terminator.getresponse()
                answer.read()
                return answer.status

            until("in force", lambda: handed_over() == 200, 5)
        assert client.status("/v1/discover", headers={"Client-Cert": certificate}) == 401
