"""A proxy that follows lists of nodes: a file, and SRV records of a server that speaks DNS."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.resolver
import dns.rrset
import pytest

from pymon.directory.node_lists import read_list
from pymon.dns.srv import LookupFailedError, srv_targets
from pymon.front import node_sources
from pymon.front.node_sources import follow_lists
from tests.proxy.agents import until
from tests.proxy.running import Site, on_uvloop

SRV = "_pymon._tcp.example.com"
TWICE = "_pymon._tcp.twice.example.com"
RECORDS = {
    f"{SRV}.": ("0 0 9164 N1.example.com.", "0 0 9165 n2.example.com."),
    f"{TWICE}.": ("0 0 9164 n1.example.com.", "0 0 9165 n1.example.com."),
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def write(file: Path, *names: str) -> None:
    file.with_suffix(".new").write_text(json.dumps([{"targets": [f"{name}:9164" for name in names]}]))
    file.with_suffix(".new").replace(file)


@on_uvloop
async def test_a_file_is_followed_and_a_damaged_one_changes_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_sources, "LOOK_SECONDS", 0.02)
    caplog.set_level(logging.WARNING)
    file = tmp_path / "nodes.json"
    write(file, "n1", "n2")
    stop = asyncio.Event()
    following = asyncio.create_task(follow_lists(site.options(node_file=file), stop))

    def names() -> list[str]:
        return sorted(site.directory.snapshot().nodes)

    await until(lambda: names() == ["n1", "n2"])
    file.write_text("damaged")
    await until(lambda: "not followed" in caplog.text)
    assert names() == ["n1", "n2"]
    file.write_text("[]")
    await until(lambda: "is empty, which changes nothing" in caplog.text)
    assert names() == ["n1", "n2"]
    write(file, "n2", "n3")
    await until(lambda: names() == ["n2", "n3"])
    stop.set()
    await following
    assert caplog.text.count("not followed") == 1


@pytest.fixture
def resolver() -> Iterator[dns.resolver.Resolver]:
    """A resolver whose server knows SRV."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, client = server.recvfrom(4096)
                if not data:
                    return
                query = dns.message.from_wire(data)
                answer = dns.message.make_response(query)
                name = query.question[0].name.to_text()
                if name in RECORDS:
                    answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *RECORDS[name]))
                server.sendto(answer.to_wire(), client)

        thread = threading.Thread(target=serve)
        thread.start()
        found = dns.resolver.Resolver(configure=False)
        found.nameservers, found.port = ["127.0.0.1"], server.getsockname()[1]
        yield found
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", server.getsockname())
        thread.join()


def test_srv_records_are_hosts_and_ports(resolver: dns.resolver.Resolver) -> None:
    assert srv_targets(SRV, resolver) == [("n1.example.com", 9164), ("n2.example.com", 9165)]
    with pytest.raises(LookupFailedError, match="other"):
        srv_targets("other.example.com", resolver)


@on_uvloop
async def test_srv_records_are_followed(
    site: Site, resolver: dns.resolver.Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns.resolver, "Resolver", lambda: resolver)
    stop = asyncio.Event()
    following = asyncio.create_task(follow_lists(site.options(node_srv=f"https://{SRV}"), stop))
    await until(lambda: len(site.directory.snapshot().nodes) == 2)
    stop.set()
    await following
    urls = {name: node.url for name, node in site.directory.snapshot().nodes.items()}
    assert urls == {
        "n1.example.com": "https://n1.example.com:9164", "n2.example.com": "https://n2.example.com:9165",
    }  # fmt: skip


@on_uvloop
async def test_of_a_host_with_two_ports_nothing_is_followed_and_it_is_said_once(
    site: Site, resolver: dns.resolver.Resolver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_sources, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(node_sources, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(dns.resolver, "Resolver", lambda: resolver)
    looks = []
    monkeypatch.setattr(node_sources, "srv_targets", lambda name: looks.append(name) or srv_targets(name))
    stop = asyncio.Event()
    following = asyncio.create_task(follow_lists(site.options(node_srv=f"https://{TWICE}"), stop))
    await until(lambda: len(looks) > 2)
    stop.set()
    await following
    assert not site.directory.snapshot().nodes
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"list of nodes is not followed: {TWICE}: the node n1.example.com comes twice"


@on_uvloop
async def test_an_error_within_ends_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(node_sources, "LOOK_SECONDS", 0.02)
    file = tmp_path / "nodes.json"
    write(file, "n1")

    def broken(_: Path) -> list:
        raise RuntimeError("broken")

    monkeypatch.setattr(node_sources, "read_list", broken)
    stop = asyncio.Event()
    following = asyncio.create_task(follow_lists(site.options(node_file=file), stop))
    await until(lambda: "internal error" in caplog.text)
    monkeypatch.setattr(node_sources, "read_list", read_list)
    write(file, "n1", "n2")
    await until(lambda: len(site.directory.snapshot().nodes) == 2)
    stop.set()
    await following
