"""Two proxies of one data centre: both have names, one registers, and each does without the other."""

from __future__ import annotations

import re
import time
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from pymon.directory.lease import LEASE_SECONDS
from pymon.directory.presence import ALIVE_SECONDS, RENEW_SECONDS
from tests.e2e.fleet import Fleet, Node
from tests.e2e.primaries import ALGORITHM, SECRETS, started
from tests.e2e.proxy import ZONE, Proxy, Site, free_port
from tests.live.world import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

FIRST, SECOND = "192.0.2.1", "192.0.2.2"
BOTH = {FIRST, SECOND}
TTL_SECONDS = 5.0
SOON_SECONDS = 6.0
"""For what takes no waiting, on a machine that does other things."""


def answers(where: str, name: str, kind: str = "A") -> set[str]:
    """The data that a server has; nothing where it does not answer."""
    host, _, port = where.rpartition(":")
    query = dns.message.make_query(f"{name}.{ZONE}", kind)
    try:
        answer = dns.query.udp(query, host, 2, int(port))
    except (OSError, dns.exception.DNSException):
        return set()
    return {rdata.to_text() for rrset in answer.answer for rdata in rrset if rrset.rdtype == query.question[0].rdtype}


def registering(*proxies: Proxy) -> list[Proxy]:
    return [proxy for proxy in proxies if proxy.metric("pymon_dns_registers")]


def within(seconds: float, begun: float) -> None:
    assert time.monotonic() - begun < seconds


def test_one_that_is_killed_leaves_and_the_other_registers(fleet: Fleet, nodes: list[Node], tmp_path: Path) -> None:
    site, other = Site(tmp_path), Site(tmp_path / "other")
    site.pymon("account", "create", "alice")
    fleet.register(site)
    server = site.server(f"cmon.{ZONE}", "127.0.0.1")
    keys = tmp_path / "keys"
    keys.write_text(f'key "pymon-key" {{ algorithm {ALGORITHM}; secret "{SECRETS["pymon-key"]}"; }};\n')
    with started("bind", tmp_path, {f"{ZONE}.": ""}) as primary:
        bind = str(primary.address)
        flags = ("--dns.listen-address=127.0.0.1:0", f"--dns.tsig-key-file={keys}", f"--dns.register={bind} pymon-key")

        def proxy(site: Site, address: str) -> Proxy:
            directory = f"--directory={tmp_path}/data/directory.db"
            return Proxy(site, *flags, directory, f"--dns.proxy-address={address}", tls=server)

        def names(proxy: Proxy) -> str:
            return proxy.await_("its names", lambda: proxy.listening("dns"))[0]

        def everywhere(wanted: set[str], *proxies: Proxy) -> bool:
            return all(answers(where, "cmon") == wanted for where in (bind, *map(names, proxies)))

        early = nodes[0].container("early", "alice")
        with proxy(site, FIRST) as one, proxy(other, SECOND) as two:
            until("both are everywhere", lambda: everywhere(BOTH, one, two))
            for _ in range(10):
                assert len(registering(one, two)) == 1
                time.sleep(0.1)
            (leader,) = registering(one, two)
            rest = two if leader is one else one
            left, gone = (SECOND, FIRST) if leader is one else (FIRST, SECOND)

            begun = time.monotonic()
            leader.kill()
            late = nodes[1].container("late", "alice")
            until("the other registers", lambda: registering(rest))
            until("a new name", lambda: answers(bind, f"{late.uuid}.cmon", "CNAME"))
            within(LEASE_SECONDS + SOON_SECONDS, begun)
            until("the killed one has left", lambda: everywhere({left}, rest), ALIVE_SECONDS + TTL_SECONDS)
            within(ALIVE_SECONDS + RENEW_SECONDS + SOON_SECONDS, begun)
            assert answers(bind, f"{early.uuid}.cmon", "CNAME") == {f"cmon.{ZONE}."}

            with proxy(site if leader is one else other, gone) as again:
                until("both are everywhere again", lambda: everywhere(BOTH, rest, again))
                assert registering(rest, again) == [rest]
                # Who is told to stop says so.
                begun = time.monotonic()
                rest.stop()
                early.end()
                until("the other registers", lambda: registering(again))
                until("it has left", lambda: everywhere({gone}, again))
                within(RENEW_SECONDS + SOON_SECONDS, begun)
        checked = site.pymon("dns", "check", f"--server={bind}", *flags[1:], f"--dns.proxy-address={gone}")
        assert checked == ""


def test_the_first_answer_has_all_proxies_whether_the_directory_is_there_or_not(tmp_path: Path) -> None:
    site, other = Site(tmp_path), Site(tmp_path / "other")
    site.pymon("account", "create", "alice")
    server = site.server(f"cmon.{ZONE}", "127.0.0.1")
    directory, away = site.data_dir / "directory.db", tmp_path / "away"

    def proxy(site: Site, address: str, port: int = 0) -> Proxy:
        flags = (f"--dns.listen-address=127.0.0.1:{port}", f"--dns.proxy-address={address}")
        return Proxy(site, f"--directory={directory}", *flags, tls=server, wait=False)

    def first(where: str) -> set[str]:
        return until("its first answer", lambda: answers(where, "cmon"))

    with proxy(site, FIRST) as one:
        (names,) = one.await_("its names", lambda: one.listening("dns"))
        assert first(names) == {FIRST}
        port = free_port()
        two = proxy(other, SECOND, port)
        try:
            assert first(f"127.0.0.1:{port}") == BOTH
            until("the other knows", lambda: answers(names, "cmon") == BOTH)
            until("it is written", (other.data_dir / "presence-copy.json").exists)
        finally:
            two.kill()
        directory.rename(away)
        one.allowed = re.compile("directory cannot be read|cannot be renewed")
        with proxy(other, SECOND, port) as two:
            two.allowed = one.allowed
            assert first(f"127.0.0.1:{port}") == BOTH
            assert answers(names, "cmon") == BOTH
            away.rename(directory)
            until("read again", lambda: two.metric("pymon_proxy_directory_up"))
            assert answers(f"127.0.0.1:{port}", "cmon") == BOTH
