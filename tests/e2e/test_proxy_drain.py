"""A proxy that is told to end beside another one: its clients change to the other, and none gets an error."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from tests.e2e.proxy import ZONE, Client, Proxy, Site
from tests.live.world import until


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Proxy, Proxy, Client]]:
    """Two proxies that know each other, and a client with a kept connection to the first."""
    site = Site(tmp_path)
    site.pymon("account", "create", "alice")
    token = site.pymon("token", "create", "alice")
    names = "--dns.listen-address=127.0.0.1:0"
    other = Site(tmp_path / "other")
    directory = f"--directory={site.data_dir / 'directory.db'}"
    with (
        Proxy(site, names, "--drain=10m", "--dns.proxy-address=192.0.2.1") as first,
        Proxy(other, names, directory, "--drain=1s", "--dns.proxy-address=192.0.2.2") as second,
        first.client(authorization=f"Bearer {token}") as client,
    ):
        for proxy in (first, second):
            until("both are in DNS", lambda proxy=proxy: addresses(proxy) == {"192.0.2.1", "192.0.2.2"})
        yield first, second, client


def addresses(proxy: Proxy) -> set[str]:
    """What the proxy's DNS says of all proxies."""
    where = proxy.listening("dns")
    if not where:
        return set()
    host, _, port = where[0].rpartition(":")
    answer = dns.query.udp(dns.message.make_query(f"cmon.{ZONE}", "A"), host, port=int(port), timeout=30)
    return {record.address for rrset in answer.answer for record in rrset}


def test_clients_go_to_the_other_proxy_without_an_error(pair: tuple[Proxy, Proxy, Client]) -> None:
    first, second, client = pair
    assert client.get("/v1/discover").headers.get("Connection") is None
    first.process.send_signal(signal.SIGTERM)
    until("not ready", lambda: first.telemetry("/-/ready").status == 503)
    assert first.telemetry("/-/ready").body == b"not ready: it is ending\n"
    # The kept connection gets an answer and ends; new ones are taken.
    answer = client.get("/v1/discover")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    with first.client() as other:
        assert (other.status("/_ping"), other.status("/-/ready")) == (200, 503)
    for proxy in (first, second):
        until("out of DNS", lambda proxy=proxy: addresses(proxy) == {"192.0.2.2"})
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(30) == -signal.SIGTERM, "the second one ends it at once"
    first.kill()
    # The last one stays in DNS, and ends by itself when its time is over.
    assert second.telemetry("/-/ready").status == 200
    begun = time.monotonic()
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(30) == 0
    assert time.monotonic() - begun >= 1
