"""Containers of which a daemon tells, over a Unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pymon.agent import descriptions, engine_events
from pymon.agent.descriptions import Descriptions
from pymon.containers import engine
from pymon.containers.model import Details, Match
from pymon.containers.runtimes import Runtimes
from tests.containers.engine_double import EngineDouble, engine_double

A, B = "ab" * 32, "cd" * 32
PATIENCE_SECONDS = 20


@pytest.fixture(autouse=True)
def _by_events_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are never looked at, and lost engines are soon tried again."""
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 1000.0)
    monkeypatch.setattr(descriptions, "AGAIN_SECONDS", ())
    monkeypatch.setattr(engine_events, "RETRY_SECONDS", (0.02, 0.02))
    monkeypatch.setattr(engine_events, "COLLECT_SECONDS", 0.01)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[EngineDouble]:
    with engine_double(tmp_path / "run/podman/podman.sock") as double:
        yield double


def document(name: str, **state: object) -> dict[str, object]:
    return {"Name": f"/{name}", "State": {"Running": True, **state}, "Config": {"Labels": {"who": "alice"}}}


class Watch:
    """Descriptions that are followed below a root, and what was last told of each."""

    def __init__(self, root: Path) -> None:
        self.told: dict[str, Details] = {}
        self.descriptions = Descriptions(Runtimes(root))
        self.descriptions.start(asyncio.get_running_loop())

    def follow(self, identifier: str, runtime: str = "podman", uid: int | None = None) -> None:
        match = Match(f"/{identifier}", runtime, identifier, identifier, uid=uid)
        self.descriptions.follow(match, partial(self.told.__setitem__, identifier))

    def name(self, identifier: str) -> str:
        return self.told[identifier].name if identifier in self.told else ""

    def state(self, identifier: str) -> str:
        return self.told[identifier].state if identifier in self.told else ""


async def until(what: str, fact: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not fact():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


async def described(podman: EngineDouble, root: Path) -> Watch:
    """What follows the container A, of which the daemon has told the name `a`."""
    podman.containers[A] = document("a")
    watch = Watch(root)
    watch.follow(A)
    await until("listening", lambda: podman.streams)
    await until("described", lambda: watch.name(A) == "a")
    return watch


def test_a_change_is_told_by_an_event(podman: EngineDouble, tmp_path: Path) -> None:
    async def main() -> None:
        podman.containers = {A: document("a"), B: document("b")}
        watch = Watch(tmp_path)
        watch.follow(A)
        watch.follow(B)
        await until("listening", lambda: podman.streams)
        await until("described", lambda: (watch.name(A), watch.name(B)) == ("a", "b"))
        assert watch.told[A].labels == {"who": "alice"}
        podman.containers[A] = document("a", Paused=True)
        podman.tell(A, "pause")
        await until("paused", lambda: watch.state(A) == "paused")
        podman.containers[A] = document("a2")
        podman.tell(A, "rename")
        await until("renamed", lambda: watch.name(A) == "a2")
        assert watch.name(B) == "b"
        watch.descriptions.close()

    asyncio.run(main())


def test_the_start_of_one_that_is_known_to_run_is_no_news(podman: EngineDouble, tmp_path: Path) -> None:
    async def main() -> None:
        watch = await described(podman, tmp_path)
        podman.containers[A] = document("a2")
        podman.tell(A, "rename")
        await until("renamed, and all before is told", lambda: watch.name(A) == "a2")
        podman.containers[B] = document("b") | {"State": {"Running": False}}
        watch.follow(B)
        await until("described", lambda: watch.name(B) == "b")
        there = next(iter(watch.descriptions._origins.values())).descriptions
        await until("read", lambda: not any(item.job or item.outdated for item in there))
        asked = [line for line in podman.asked if A in line]
        podman.containers[B] = document("b")
        podman.tell(A, "start")
        podman.tell(B, "start")
        await until("running", lambda: watch.state(B) == "running")
        assert [line for line in podman.asked if A in line] == asked
        watch.descriptions.close()

    asyncio.run(main())


def test_many_that_come_together_are_all_described(podman: EngineDouble, tmp_path: Path) -> None:
    """All of them are asked about over one connection."""
    ids = [f"{number:064x}" for number in range(200)]

    async def main() -> None:
        watch = await described(podman, tmp_path)
        podman.containers |= {identifier: document(identifier[-3:]) for identifier in ids}
        for identifier in ids:
            watch.follow(identifier)
        await until("described", lambda: all(watch.name(identifier) == identifier[-3:] for identifier in ids))
        assert podman.dialled == 2, "one for the questions, one for the events"
        watch.descriptions.close()

    asyncio.run(main())


def test_files_of_which_the_daemon_tells_are_looked_at_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 0.02)

    async def main() -> None:
        folder = tmp_path / "var/lib/docker/containers" / A
        folder.mkdir(parents=True)
        file = folder / "config.v2.json"
        file.write_text(json.dumps(document("a")))
        with engine_double(tmp_path / "run/docker.sock") as docker:
            watch = Watch(tmp_path)
            watch.follow(A, "docker")
            await until("listening", lambda: docker.streams)
            followed = next(iter(watch.descriptions._origins.values()))
            await until("described", lambda: watch.name(A) == "a")
            await until(
                "a look that is far off",
                lambda: followed.timer.when() - asyncio.get_running_loop().time() > descriptions.TOLD_LOOK_SECONDS / 2,
            )
        file.write_text(json.dumps(document("a2")))
        monkeypatch.setattr(descriptions, "TOLD_LOOK_SECONDS", 0.02)
        await until("heard no longer", lambda: not followed.events.listening)
        watch.descriptions._look(next(iter(watch.descriptions._origins)))
        await until("found in the file", lambda: watch.name(A) == "a2")
        watch.descriptions.close()

    asyncio.run(main())


def test_files_are_read_again_when_the_daemon_tells(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "var/lib/docker/containers" / A
        folder.mkdir(parents=True)
        (folder / "config.v2.json").write_text(json.dumps(document("a")))
        with engine_double(tmp_path / "run/docker.sock") as docker:
            watch = Watch(tmp_path)
            watch.follow(A, "docker")
            await until("listening", lambda: docker.streams)
            await until("described", lambda: watch.name(A) == "a")
            (folder / "config.v2.json").write_text(json.dumps(document("a", Health={"Status": "unhealthy"})))
            docker.tell(A)
            await until("unhealthy", lambda: watch.told[A].health == "unhealthy")
            assert all(line.startswith("GET /events") for line in docker.asked), "the files say all"
            watch.descriptions.close()

    asyncio.run(main())


def test_what_was_missed_is_asked_after_a_restart(podman: EngineDouble, tmp_path: Path) -> None:
    async def main() -> None:
        watch = await described(podman, tmp_path)
        podman.close()
        await asyncio.sleep(0)
        assert watch.name(A) == "a"
        with engine_double(podman.path) as again:
            again.containers[A] = document("a", Paused=True)
            await until("paused", lambda: watch.state(A) == "paused")
        watch.descriptions.close()

    asyncio.run(main())


def test_a_daemon_that_starts_later_is_asked(tmp_path: Path) -> None:
    async def main() -> None:
        watch = Watch(tmp_path)
        watch.follow(A)
        await until("described by its path", lambda: watch.name(A) == A)
        with engine_double(tmp_path / "run/podman/podman.sock") as podman:
            podman.containers[A] = document("a")
            await until("described", lambda: watch.name(A) == "a")
        watch.descriptions.close()

    asyncio.run(main())


def test_after_a_silence_it_is_asked_again(
    podman: EngineDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events may be lost in a daemon that hangs."""
    monkeypatch.setattr(engine, "SILENCE_SECONDS", 0.05)

    async def main() -> None:
        podman.containers[A] = document("a")
        watch = Watch(tmp_path)
        watch.follow(A)
        await until("described", lambda: watch.name(A) == "a")
        podman.containers[A] = document("b")
        await until("described anew", lambda: watch.name(A) == "b")
        watch.descriptions.close()

    asyncio.run(main())


def test_one_that_hung_is_asked_again(podman: EngineDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has told the event before it hung, and has no other to tell."""
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.05)
    monkeypatch.setattr(engine.Engines, "REST_SECONDS", 0.05)
    monkeypatch.setattr(descriptions, "LATER_SECONDS", 0.05)

    async def main() -> None:
        watch = await described(podman, tmp_path)
        podman.hang = True
        podman.containers[A] = document("b")
        asked = len(podman.asked)
        podman.tell(A, "rename")
        await until("asked in vain", lambda: len(podman.asked) > asked)
        assert watch.name(A) == "a"
        podman.hang = False
        await until("described anew", lambda: watch.name(A) == "b")
        watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize("event", [b"{}\n", b'{"id": "' + A.encode() + b'", "x": "' + b"x" * 250_000 + b'"}\n'])
def test_events_without_end_take_little_time(podman: EngineDouble, event: bytes, tmp_path: Path) -> None:
    podman.raw = [b"HTTP/1.1 200 OK\r\n\r\n" + event * 100, *[event * 100] * 10_000]
    used: list[float] = []

    async def main() -> None:
        runtimes = Runtimes(tmp_path)

        def events(told: Callable[[socket.socket], None]) -> Iterator[str | None]:
            began = time.thread_time()
            try:
                yield from runtimes.events("podman", None, told)
            finally:
                used.append(time.thread_time() - began)

        listening = engine_events.EngineEvents("test", events, lambda _: None, asyncio.get_running_loop())
        await until("it is listened to no longer", lambda: used)
        listening.close()

    asyncio.run(main())
    assert used[0] < 1.0


def test_an_internal_error_does_not_end_the_listening(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    async def main() -> None:
        told: set[str] = set()

        def events(_: Callable[[socket.socket], None]) -> Iterator[str | None]:
            attempts.append(1)
            if len(attempts) < 3:
                raise LookupError("x")
            yield A

        listening = engine_events.EngineEvents("test", events, told.update, asyncio.get_running_loop())
        await until("told", lambda: A in told)
        listening.close()

    asyncio.run(main())
    lines = {record.getMessage() for record in caplog.records}
    assert lines == {"internal error: test: LookupError('x')"}


@pytest.mark.parametrize(
    "lies",
    [
        b"{\n",
        b"[" * 100_000 + b"\n",
        b"x" * (engine.EVENT_LIMIT + 1),
        b'{"id": 7}\n{"Actor": []}\nnull\n[]\n',
        b'{"id": "../../x"}\n',
        b'{"id": "%b"}\n' % (b"ef" * 32),
        b"\xff\xfe\n",
    ],
)
def test_events_that_lie(podman: EngineDouble, tmp_path: Path, lies: bytes) -> None:
    async def main() -> None:
        watch = await described(podman, tmp_path)
        podman.send(lies)
        podman.containers[A] = document("b")
        podman.tell(A)
        await until("described anew", lambda: watch.name(A) == "b")
        watch.descriptions.close()

    asyncio.run(main())


@pytest.mark.parametrize("raw", [b"", b"x", b"HTTP/1.1 500 no\r\n\r\n", [b"x" * 65536], [b"HTTP/1.1 200 OK\r\n\r\n"]])
def test_answers_that_lie(podman: EngineDouble, tmp_path: Path, raw: bytes | list[bytes]) -> None:
    async def main() -> None:
        podman.raw = raw
        watch = Watch(tmp_path)
        watch.follow(A)
        await until("asked for events", lambda: any(line.startswith("GET /events") for line in podman.asked))
        await until("described by its path", lambda: watch.name(A) == A)
        podman.raw = None
        watch.descriptions.close()

    asyncio.run(main())


def test_a_flood_is_not_listened_to(podman: EngineDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_events, "_EVENTS_BURST", 10)

    async def main() -> None:
        podman.containers[A] = document("a")
        watch = Watch(tmp_path)
        watch.follow(A)
        await until("listening", lambda: podman.streams)
        (first,) = podman.streams[:1]
        podman.send(b'{"id": "%b"}\n' % (b"ef" * 32) * 1000)
        await until("another attempt", lambda: podman.streams[-1] is not first)
        podman.containers[A] = document("b")
        await until("described anew", lambda: podman.tell(A) or watch.name(A) == "b")
        watch.descriptions.close()

    asyncio.run(main())


def test_users_daemons_are_few_and_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's daemon is heard about this user's containers alone."""
    monkeypatch.setattr(descriptions, "USER_ENGINES", 1)
    me = os.getuid()

    async def main() -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/passwd").write_text(f"u:x:{me}:1::/home/u:/bin/sh\nv:x:7:7::/home/v:/bin/sh\n")
        folder = tmp_path / "var/lib/docker/containers" / B
        folder.mkdir(parents=True)
        (folder / "config.v2.json").write_text(json.dumps(document("system")))
        with (
            engine_double(tmp_path / f"run/user/{me}/docker.sock") as mine,
            engine_double(tmp_path / "run/user/7/docker.sock") as other,
        ):
            mine.containers[A] = document("mine")
            watch = Watch(tmp_path)
            watch.follow(A, "docker", uid=me)
            watch.follow(A + "x", "docker", uid=7)
            watch.follow(B, "docker")
            await until("described", lambda: (watch.name(A), watch.name(B)) == ("mine", "system"))
            await until("listening", lambda: mine.streams)
            (folder / "config.v2.json").write_text(json.dumps(document("changed")))
            mine.tell(B)
            mine.containers[A] = document("renamed")
            mine.tell(A)
            await until("described anew", lambda: watch.name(A) == "renamed")
            assert watch.name(B) == "system"
            assert not other.asked
            watch.descriptions.close()

    asyncio.run(main())
