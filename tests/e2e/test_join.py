"""A node that joins by itself: `pymon node token create`, `pymon agent --join` and a proxy, all of them real."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from pymon.directory.authority import NODE_LIFETIME
from pymon.directory.machines import Machines
from tests.e2e.proxy import Process, Proxy, Site, free_port, run_pymon
from tests.live.world import until

pytestmark = pytest.mark.root


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    site.pymon("account", "create", "root", "--operator")
    return site


@pytest.fixture
def proxy(site: Site):
    site.server("unused")  # makes the machines' authority
    authority = site.data_dir / "authority-machines" / "ca-cert.pem"
    with Proxy(site, f"--upstream.tls-ca-file={authority}") as proxy:
        yield proxy


class Agent(Process):
    """`pymon agent --join` on a port of 127.0.0.1."""

    def __init__(self, proxy: Proxy, data_dir: Path, token: str, *flags: str) -> None:
        self.port = free_port()
        file = data_dir.with_name(data_dir.name + "-token")
        file.write_text(token + "\n")
        super().__init__(
            "agent", f"--web.listen-address=127.0.0.1:{self.port}", f"--data-dir={data_dir}",
            f"--join=https://127.0.0.1:{proxy.port}", f"--join.token-file={file}", "--join.name=n1", *flags,
        )  # fmt: skip

    def listens(self) -> None:
        self.await_("its address", lambda: any("msg=listening" in line for line in list(self.log)))


def node(site: Site) -> dict[str, object]:
    found: dict[str, object] = json.loads(site.pymon("node", "show", "n1", "--json"))
    return found


def test_a_node_joins_is_scraped_and_renews(site: Site, proxy: Proxy, tmp_path: Path) -> None:
    root = site.certificate("root")
    token = site.pymon("node", "token", "create", "n1", "--expires=5m")
    data_dir = tmp_path / "node"
    with Agent(proxy, data_dir, token) as agent:
        agent.listens()
        found = node(site)
        assert found["url"] == f"https://127.0.0.1:{agent.port}"
        assert found["tls_server_name"] == "n1.node.pymon.invalid"
        with proxy.client(root) as client:
            path = f"/v1/{found['uuid']}/metrics"
            until("the first scrape", lambda: client.status(path) == 200)
            assert b"node_load1" in client.get(path).body
        # Proxies alone are let in.
        anybody = ssl.create_default_context(cafile=str(data_dir / "join" / "ca-cert.pem"))
        anybody.check_hostname = False
        with pytest.raises((urllib.error.URLError, OSError)):
            urllib.request.urlopen(f"https://127.0.0.1:{agent.port}/metrics", context=anybody, timeout=10).read()
    (listed,) = json.loads(site.pymon("node", "token", "list", "--json"))
    assert (listed["node"], listed["state"]) == ("n1", "used")

    file = data_dir / "join" / "node.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    put_old(site, file)
    before = file.read_bytes()
    # Its token is used up, and not needed any more.
    with Agent(proxy, data_dir, token, "--join.node-url=https://unused:1") as agent:
        agent.listens()
        until("a renewed certificate", lambda: file.read_bytes() != before)
        agent.await_("a line", lambda: any("certificate renewed" in line for line in list(agent.log)))
        assert load_pem_private_key(file.read_bytes(), None) != load_pem_private_key(before, None)
        served = x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", agent.port)).encode())
        assert served == x509.load_pem_x509_certificate(file.read_bytes())


def put_old(site: Site, file: Path) -> None:
    """Replace the certificate of a node by one that has to be renewed."""
    authority = Machines.load(site.data_dir / "authority-machines").authority
    data = file.read_bytes()
    certificate = x509.load_pem_x509_certificate(data)
    begin = dt.datetime.now(dt.UTC) - 0.9 * NODE_LIFETIME
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + NODE_LIFETIME)
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    file.write_bytes(data[: data.index(b"-----BEGIN CERTIFICATE")] + made)


def test_what_is_wrong_is_one_line(site: Site, proxy: Proxy, tmp_path: Path) -> None:
    file = tmp_path / "token"
    flags = (f"--data-dir={tmp_path / 'node'}", "--join.name=n1", f"--join.token-file={file}")

    def ended(text: str, *more: str) -> str:
        file.write_text(text)
        done = run_pymon("agent", f"--join=https://127.0.0.1:{proxy.port}", *flags, *more)
        assert done.returncode == 2, done
        return done.stderr.splitlines()[-1]

    token = site.pymon("node", "token", "create", "n1")
    of_another_authority = token[:-64] + "0" * 64
    assert "has another authority than the token says" in ended(of_another_authority)
    assert "is for the node n1, and 'n9' used it" in ended(token, "--join.name=n9")
    assert json.loads(site.pymon("node", "list", "--json")) == []
    assert not (tmp_path / "node" / "join").exists()


def test_an_agent_waits_for_its_proxy_and_ends_when_told(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"pymon-node.{'0' * 16}.{'x' * 43}.{'0' * 64}")
    with Process(
        "agent", f"--join=https://127.0.0.1:{free_port()}", f"--join.token-file={file}", f"--data-dir={tmp_path / 'n'}"
    ) as agent:
        agent.await_("a line", lambda: any("no certificate yet" in line for line in list(agent.log)))
