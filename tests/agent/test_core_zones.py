"""The collector triton_core: what zones of Triton itself serve at their metricPorts."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pymon.agent.core_zones import _FetchError, fetch
from tests.agent.zone_host import CAPPED, TWIN, UNCAPPED, ZoneHost, running, series, value

BODY = '# HELP served Requests.\n# TYPE served counter\nserved{port="%d"} 17\n'
CORE = {"smartdc_role": "cmon", "smartdc_type": "core"}


@contextmanager
def serving(answer: Callable[[int, bytes], bytes | None]) -> Iterator[tuple[int, list[bytes]]]:
    """Serve on a port of loopback until the end. answer: from the port and a request; None does not answer.

    Yields the port, and the requests so far.
    """
    asked: list[bytes] = []
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(65536))
                    said = answer(port, asked[-1])
                    if said is None:
                        ended.wait(30)
                    else:
                        connection.sendall(said)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port, asked
        finally:
            ended.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def whole(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def metrics(port: int, _: bytes) -> bytes:
    return whole(BODY % port)


async def test_a_core_zone_has_what_it_serves_at_all_its_ports(node: ZoneHost) -> None:
    with serving(metrics) as (one, asked), serving(metrics) as (other, _):
        ports = {"metricPorts": f"{one}, {other},0,x,99999"}
        node.configure(CAPPED, nics=[("net0", "admin", "127.0.0.1/8")], tags=CORE, metadata=ports)
        async with running(node.options()) as agent:
            await agent.collection.prime(30)
            alone, everything = await series(agent, CAPPED), await series(agent)
            others = await series(agent, TWIN)
            narrowed = await series(agent, CAPPED, collect=["triton_core"])
            without = await series(agent, CAPPED, collect=["zone_misc"])
    assert {dict(labels)["port"]: number for (name, labels), number in alone.items() if name == "served"} == {
        str(one): 17,
        str(other): 17,
    }
    assert value(alone, "triton_core_metrics_available_boolean") == 1
    assert value(everything, "served", id=f"/{CAPPED}", port=str(one)) == 17
    assert {name for name, _ in narrowed} == {
        "served",
        *(f"triton_core_metrics_{what}" for what in ("available_boolean", "cached_boolean", "timer_seconds")),
    }
    for found in (others, without):
        assert not [name for name, _ in found if name.startswith(("served", "triton_core", "plugin_"))]
    assert asked[0].startswith(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % one)


async def test_no_zone_of_a_tenant_is_ever_asked(node: ZoneHost) -> None:
    with serving(metrics) as (port, asked):
        ports = {"metricPorts": str(port)}
        node.configure(CAPPED, nics=[("net0", "external", "127.0.0.1/8")], tags=CORE, metadata=ports)
        node.configure(TWIN, nics=[("net0", "admin", "127.0.0.1/8")], tags={}, metadata=ports)
        node.configure(UNCAPPED, nics=[("net0", "admin", "dhcp")], tags=CORE, metadata=ports)
        async with running(node.options()) as agent:
            await agent.collection.prime(30)
            found = await series(agent)
    assert asked == []
    assert not [name for name, _ in found if name.startswith(("served", "triton_core"))]


async def test_a_port_that_fails_does_not_cost_the_others(node: ZoneHost) -> None:
    with serving(metrics) as (good, _), serving(lambda *_: whole("no", "500 Oops")) as (bad, _):
        node.configure(
            CAPPED, nics=[("net0", "admin", "127.0.0.1/8")], tags=CORE, metadata={"metricPorts": f"{bad},{good}"}
        )
        node.configure(TWIN, nics=[("net0", "admin", "127.0.0.1/8")], tags=CORE, metadata={"metricPorts": str(bad)})
        async with running(node.options()) as agent:
            await agent.collection.prime(30)
            found = await series(agent)
    assert value(found, "served", id=f"/{CAPPED}", port=str(good)) == 17
    assert value(found, "triton_core_metrics_available_boolean", id=f"/{TWIN}") == 0
    assert value(found, "pymon_plugin_failures_total", plugin="triton_core", reason="status") == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *_: whole("", "302 Found"), "status"),
        (lambda *_: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "malformed"),
        (lambda *_: b"SSH-2.0-x\r\n", "malformed"),
        (lambda *_: whole("x" * (500 * 1024 + 1)), "too_large"),
        (lambda *_: b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300, "too_large"),
        (lambda *_: None, "timeout"),
    ],
)
def test_an_answer_is_bounded(answer: Callable[[int, bytes], bytes | None], reason: str) -> None:
    stop, end = os.pipe()
    try:
        with serving(answer) as (port, _), pytest.raises(_FetchError) as error:
            fetch("127.0.0.1", port, time.monotonic() + (0.2 if reason == "timeout" else 30), stop)
    finally:
        os.close(stop)
        os.close(end)
    assert error.value.reason == reason
    assert "\n" not in str(error.value)


def test_a_fetch_ends_at_once_when_the_agent_does() -> None:
    stop, end = os.pipe()
    os.write(end, b"x")
    try:
        with serving(lambda *_: None) as (port, _), pytest.raises(_FetchError) as error:
            fetch("127.0.0.1", port, time.monotonic() + 30, stop)
    finally:
        os.close(stop)
        os.close(end)
    assert error.value.reason == "stopped"


def test_a_port_where_nobody_listens() -> None:
    stop, end = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    try:
        with pytest.raises(_FetchError) as error:
            fetch("127.0.0.1", port, time.monotonic() + 30, stop)
    finally:
        os.close(stop)
        os.close(end)
    assert error.value.reason == "connect"
