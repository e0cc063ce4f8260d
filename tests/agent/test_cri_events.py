"""Containers of which a runtime tells in CRI: by its events, or by its lists."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from pymon.agent import descriptions, engine_events
from pymon.agent.descriptions import Descriptions
from pymon.containers import cri, engine
from pymon.containers import grpc as grpc_calls
from pymon.containers.model import Details, Match
from pymon.containers.runtimes import Runtimes
from tests.containers.cri_double import STOPPED, CriDouble, cri_double, schema
from tests.containers.engine_double import engine_double

A, B = "ab" * 32, "cd" * 32
SOCKET = "run/containerd/containerd.sock"
EVENTS, LISTS = "v2.1.0", "v1.7.2"
PATIENCE_SECONDS = 40


@pytest.fixture(autouse=True)
def _by_the_daemon_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are never looked at, and lost daemons are soon tried again."""
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 1000.0)
    monkeypatch.setattr(descriptions, "AGAIN_SECONDS", ())
    monkeypatch.setattr(engine_events, "RETRY_SECONDS", (0.02, 0.02))
    monkeypatch.setattr(engine_events, "COLLECT_SECONDS", 0.01)
    monkeypatch.setattr(engine_events, "_CPU_SHARE", 1.0)
    monkeypatch.setattr(cri, "LIST_SECONDS", 0.05)
    monkeypatch.setattr(cri, "LIST_SHARE", 1.0)


class Watch:
    """Descriptions that are followed below a root, and what was last told of each."""

    def __init__(self, root: Path) -> None:
        self.told: dict[str, Details] = {}
        self.descriptions = Descriptions(Runtimes(root))
        self.descriptions.start(asyncio.get_running_loop())

    def follow(self, identifier: str) -> None:
        match = Match(f"/{identifier}", "containerd", identifier, identifier)
        self.descriptions.follow(match, partial(self.told.__setitem__, identifier))

    def restarts(self, identifier: str) -> int | None:
        return self.told[identifier].restarts if identifier in self.told else None


async def until(what: str, fact: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


def bundle(root: Path, identifier: str) -> None:
    folder = root / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / identifier
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"annotations": {"only": "file"}}))


async def described(runtime: CriDouble, root: Path) -> Watch:
    """What follows the container A, which has been started for the second time, once its daemon is listened to."""
    runtime.container(A, attempt=1)
    bundle(root, A)
    watch = Watch(root)
    watch.follow(A)
    asked = "GetContainerEvents" if runtime.release == EVENTS else "ListContainers"
    await until("listened to", lambda: runtime.asked.count(asked) > 0 and runtime.asked.count("ListContainers") > 0)
    await until("described", lambda: watch.restarts(A) == 1)
    return watch


@pytest.mark.parametrize("release", [EVENTS, LISTS])
def test_an_end_is_told(tmp_path: Path, release: str) -> None:
    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=release) as runtime:
            watch = await described(runtime, tmp_path)
            runtime.container(A, attempt=1, state=2, exit_code=3, finished_at=10**18)
            runtime.tell(A)
            await until("ended", lambda: watch.told[A].exit_code == 3)
            assert watch.told[A].labels == {"only": "file", "restartcount": "1"}
            assert ("GetContainerEvents" in runtime.asked) == (release == EVENTS)
            watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN])
def test_one_that_has_no_events_is_asked_for_lists(tmp_path: Path, code: grpc.StatusCode) -> None:
    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=EVENTS) as runtime:
            runtime.errors["GetContainerEvents"] = code
            watch = await described(runtime, tmp_path)
            await until("more lists", lambda: runtime.asked.count("ListContainers") > 2)
            runtime.container(A, attempt=7, state=2)
            await until("ended", lambda: watch.restarts(A) == 7)
            assert runtime.asked.count("GetContainerEvents") == 1
            watch.descriptions.close()

    asyncio.run(main())


def test_what_events_have_missed_is_in_the_next_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cri, "LIST_SECONDS_BESIDE_EVENTS", 0.05)

    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=EVENTS) as runtime:
            watch = await described(runtime, tmp_path)
            runtime.container(A, attempt=2, state=2)
            await until("ended", lambda: watch.restarts(A) == 2)
            assert runtime.asked.count("GetContainerEvents") == 1
            watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize("release", [EVENTS, LISTS])
def test_a_restart_of_the_daemon(tmp_path: Path, release: str) -> None:
    """What is known stays while it is away."""

    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=release) as runtime:
            watch = await described(runtime, tmp_path)
        config = tmp_path / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / A / "config.json"
        config.write_text(json.dumps({"annotations": {"only": "later"}}))
        watch.descriptions._heard(next(iter(watch.descriptions._origins)), frozenset({A}))
        description = next(iter(watch.descriptions._origins.values())).descriptions
        await until("read", lambda: all(item.job is None for item in description))
        assert (watch.restarts(A), watch.told[A].labels["only"]) == (1, "file")
        with cri_double(tmp_path / SOCKET, release=release) as again:
            again.container(A, attempt=9)
            await until("described anew", lambda: watch.restarts(A) == 9)
            assert watch.told[A].labels["only"] == "later"
        watch.descriptions.close()

    asyncio.run(main())


def test_a_daemon_that_starts_later_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        bundle(tmp_path, A)
        watch = Watch(tmp_path)
        watch.follow(A)
        await until("described by its files", lambda: A in watch.told)
        assert (watch.restarts(A), watch.told[A].reason) == (None, "")
        with cri_double(tmp_path / SOCKET) as runtime:
            runtime.container(A, attempt=4)
            await until("described by its daemon", lambda: watch.restarts(A) == 4)
        watch.descriptions.close()

    asyncio.run(main())


def test_one_that_hung_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(engine.Engines, "REST_SECONDS", 0.05)
    monkeypatch.setattr(cri, "LIST_ASK_SECONDS", 0.2)
    monkeypatch.setattr(descriptions, "LATER_SECONDS", 0.05)

    async def main() -> None:
        with cri_double(tmp_path / SOCKET) as runtime:
            watch = await described(runtime, tmp_path)
            runtime.hang = True
            asked = len(runtime.asked)
            await until("asked in vain, on another connection", lambda: "Version" in runtime.asked[asked:])
            assert watch.restarts(A) == 1
        with cri_double(tmp_path / SOCKET) as runtime:
            runtime.container(A, attempt=2)
            await until("described anew", lambda: watch.restarts(A) == 2)
            watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "lies",
    [
        b"\xff",
        b"\x0a\xff\x01x",
        b"",
        bytes(cri.ANSWER_LIMIT + 1),
        b"\x08\x01" * 20_000,
        {"container_id": "../../x", "container_event_type": 1},
        {"container_id": B, "container_event_type": 1},
        {"container_id": A, "container_event_type": -1},
    ],
)
def test_events_that_lie(tmp_path: Path, lies: bytes | dict[str, object]) -> None:
    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=EVENTS) as runtime:
            watch = await described(runtime, tmp_path)
            runtime.send(lies if isinstance(lies, bytes) else schema().ContainerEventResponse(**lies))
            runtime.container(A, attempt=5)
            await until("described anew", lambda: runtime.tell(A) or watch.restarts(A) == 5)
            watch.descriptions.close()

    asyncio.run(main())


def test_one_connection_serves_all_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"{number:064x}" for number in range(50)]
    dialled: list[Path] = []
    connect = engine.connect

    def counted(root: Path, path: Path, uid: int | None) -> socket.socket:
        dialled.append(path)
        return connect(root, path, uid)

    monkeypatch.setattr("pymon.containers.runtimes.connect", counted)

    async def main() -> None:
        with cri_double(tmp_path / SOCKET) as runtime:
            watch = await described(runtime, tmp_path)
            for identifier in ids:
                runtime.container(identifier, attempt=3)
                watch.follow(identifier)
            await until("described", lambda: all(watch.restarts(identifier) == 3 for identifier in ids))
            missing = "ef" * 32
            watch.follow(missing)
            await until("not found", lambda: missing in watch.told)
            watch.descriptions._heard(next(iter(watch.descriptions._origins)), frozenset({A}))
            assert len(dialled) == 2, "one for the questions, one for the events"
            watch.descriptions.close()

    asyncio.run(main())


def test_calls_over_a_connection_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """h2 remembers each of them."""
    monkeypatch.setattr(grpc_calls, "_CALLS_LIMIT", 3)
    with cri_double(tmp_path / SOCKET) as runtime:
        runtime.container(A)
        path = tmp_path / SOCKET
        client = cri.client_of(engine.connect(tmp_path, path, None), path)
        for _ in range(3):
            assert client.alive()
            cri.status(client, path, A)
        assert not client.alive()
        client.close()


def test_events_in_any_order_and_twice(tmp_path: Path) -> None:
    """An event only says what to ask about."""

    async def main() -> None:
        with cri_double(tmp_path / SOCKET, release=EVENTS) as runtime:
            watch = await described(runtime, tmp_path)
            runtime.container(A, attempt=2, state=2, exit_code=1)
            for kind in (STOPPED, 0, 3, STOPPED, 1, 1):
                runtime.tell(A, kind)
            await until("ended", lambda: watch.told[A].exit_code == 1)
            watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, 200_000])
def test_events_without_end_take_little_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(engine_events, "_CPU_SHARE", 0.02)
    used: list[float] = []
    message = schema().ContainerEventResponse(container_id="x", containers_statuses=[{"message": "x" * size}])

    async def main() -> None:
        runtimes = Runtimes(tmp_path)

        def events(told: Callable[[socket.socket], None]) -> Iterator[str | None]:
            began = time.thread_time()
            try:
                yield from runtimes.events("containerd", None, told)
            finally:
                used.append(time.thread_time() - began)

        with cri_double(tmp_path / SOCKET, release=EVENTS) as runtime:
            listening = engine_events.EngineEvents("test", events, lambda _: None, asyncio.get_running_loop())
            await until("listened to", lambda: runtime.streams)

            def send() -> None:
                for _ in range(20 if size else 200):
                    runtime.send(message)

            await until("it is listened to no longer", lambda: used or send())
            listening.close()

    asyncio.run(main())
    assert used[0] < 1.0


@pytest.mark.parametrize("raw", [b"", b"x", b"HTTP/1.1 500 no\r\n\r\n", [b"x" * 65536]])
def test_answers_that_lie(tmp_path: Path, raw: bytes | list[bytes]) -> None:
    async def main() -> None:
        bundle(tmp_path, A)
        with engine_double(tmp_path / SOCKET) as peer:
            peer.raw = raw
            watch = Watch(tmp_path)
            watch.follow(A)
            await until("asked by both threads", lambda: len(peer.asked) > 2)
            await until("described by its files", lambda: A in watch.told)
            assert watch.told[A].labels == {"only": "file"}
        watch.descriptions.close()

    asyncio.run(main())
