"""What a container engine says over its socket, and what is refused."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pymon.containers import engine
from pymon.containers.engine import ANSWER_LIMIT, Engines, connect
from pymon.containers.files import UnreadableError, parse_json
from pymon.containers.http_client import HttpClient
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes
from tests.containers.engine_double import EngineDouble, engine_double

ID = "ab" * 32
ME = os.getuid()
OTHER = 65534
ANSWER = {
    "Id": ID,
    "Name": "/web",
    "RestartCount": 2,
    "State": {"Running": True, "Paused": True, "StartedAt": "2026-10-28T07:00:02Z", "Health": {"Status": "healthy"}},
    "Config": {"Image": "valkey:8", "Labels": {"who": "alice", "io.kubernetes.pod.name": "p"}},
}


def opened(root: Path, path: Path, uid: int | None = None) -> HttpClient:
    return HttpClient(connect(root, path, uid), path)


def asked(path: Path, identifier: str, client: HttpClient) -> object:
    return parse_json(engine.inspect(client, identifier), path)


def inspect(root: Path, path: Path, uid: int | None, identifier: str) -> object:
    client = opened(root, path, uid)
    try:
        return asked(path, identifier, client)
    finally:
        client.close()


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[EngineDouble]:
    with engine_double(tmp_path / "run/podman/podman.sock") as double:
        double.containers[ID] = ANSWER
        yield double


def test_what_files_do_not_say_the_engine_does(podman: EngineDouble, tmp_path: Path) -> None:
    match = recognise(f"/machine.slice/libpod-{ID}.scope")
    assert match is not None
    details = Runtimes(tmp_path).describe(match)
    assert (details.name, details.image, details.state, details.health) == ("web", "valkey:8", "paused", "healthy")
    assert details.labels == {"who": "alice", "io.kubernetes.pod.name": "p", "restartcount": "2"}
    assert (details.started_at, details.reason, details.asked) == (1793170802.0, "", True)
    assert podman.asked == [f"GET /containers/{ID}/json HTTP/1.1"]


def test_the_health_that_podman_writes_is_newer(podman: EngineDouble, tmp_path: Path) -> None:
    file = tmp_path / f"run/containers/storage/overlay-containers/{ID}/healthcheck.log"
    file.parent.mkdir(parents=True)
    file.write_text('{"Status":"unhealthy"}')
    match = recognise(f"/machine.slice/libpod-{ID}.scope")
    assert match is not None
    assert Runtimes(tmp_path).describe(match).health == "unhealthy"


def test_without_an_engine_the_files_are_what_there_is(tmp_path: Path) -> None:
    match = recognise(f"/machine.slice/libpod-{ID}.scope")
    assert match is not None
    details = Runtimes(tmp_path).describe(match)
    assert (details.name, details.asked) == (ID, False)
    assert "db.sql: not there" in details.reason


def test_a_user_s_containers_are_asked_of_the_user_s_engine_alone(podman: EngineDouble, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(f"u:x:{ME}:1::/home/u:/bin/sh\n")
    match = recognise(f"/user.slice/user-{ME}.slice/user@{ME}.service/user.slice/libpod-{ID}.scope")
    assert match is not None
    assert Runtimes(tmp_path).describe(match).name == ID
    with engine_double(tmp_path / f"run/user/{ME}/podman/podman.sock") as own:
        own.containers[ID] = ANSWER | {"Name": "/mine"}
        assert Runtimes(tmp_path).describe(match).name == "mine"
    assert podman.asked == []


def refusal(root: Path, path: Path, uid: int | None) -> str:
    with pytest.raises(UnreadableError) as refused:
        inspect(root, path, uid, ID)
    return str(refused.value)


def test_links_and_the_sockets_of_others_are_not_opened(podman: EngineDouble, tmp_path: Path) -> None:
    home = tmp_path / "run/user/7"
    home.mkdir(parents=True)
    (home / "podman").symlink_to(tmp_path / "run/podman")
    assert "not a directory" in refusal(tmp_path, home / "podman/podman.sock", None)
    (home / "docker.sock").symlink_to(podman.path)
    assert refusal(tmp_path, home / "docker.sock", None).endswith("not a socket")
    assert refusal(tmp_path, podman.path, OTHER).endswith(f"belongs to uid {ME}")
    (home / "file").write_text("")
    assert refusal(tmp_path, home / "file", None).endswith("not a socket")
    assert podman.asked == []


@pytest.mark.root
def test_the_system_s_engine_is_no_user_s(podman: EngineDouble, tmp_path: Path) -> None:
    os.chown(podman.path, OTHER, OTHER)
    assert refusal(tmp_path, podman.path, None).endswith(f"belongs to uid {OTHER}")


def test_a_path_that_is_longer_than_an_address(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 200) / "docker.sock"
    with engine_double(path) as double:
        connect(tmp_path, path, None).close()
        double.containers[ID] = ANSWER
        assert inspect(tmp_path, path, None, ID) == ANSWER


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "did not answer in HTTP"),
        (b"SSH-2.0-x\r\n", "did not answer in HTTP"),
        (b"HTTP/1.1 500 no\r\n\r\n", "answered 500"),
        (b"HTTP/1.1 200 OK\r\n\r\n{", "not valid JSON"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "not valid JSON"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536], f"answer of more than {ANSWER_LIMIT} bytes"),
        ([b"HTTP/1.1 200 OK\r\n", b"a: " + b"x" * 65536], f"answer of more than {ANSWER_LIMIT} bytes"),
        ([b"x" * 65536], "did not answer in HTTP"),
    ],
)
def test_bad_answers(podman: EngineDouble, tmp_path: Path, raw: bytes | list[bytes], why: str) -> None:
    podman.raw = raw
    assert refusal(tmp_path, podman.path, None) == f"{podman.path}: {why}"


@pytest.mark.parametrize("document", [[], 7, {"Config": [], "State": 3, "Name": 4}, {"Config": {"Labels": [1]}}])
def test_documents_of_another_shape(podman: EngineDouble, tmp_path: Path, document: object) -> None:
    podman.containers[ID] = document
    match = recognise(f"/machine.slice/libpod-{ID}.scope")
    assert match is not None
    details = Runtimes(tmp_path).describe(match)
    assert (details.name, details.image, dict(details.labels)) == (ID, "", {})


def test_one_that_hangs_is_left_alone_for_a_while(
    podman: EngineDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.05)
    podman.hang = True
    engines, connected, question = Engines(), partial(opened, tmp_path, podman.path), partial(asked, podman.path, ID)
    for _ in range(3):
        with pytest.raises(UnreadableError):
            engines.ask(podman.path, connected, question)
    assert len(podman.asked) == 1
    podman.hang = False
    now = time.monotonic() + Engines.REST_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert engines.ask(podman.path, connected, question) == ANSWER


def test_one_that_does_not_know_a_container_is_asked_for_the_next(podman: EngineDouble, tmp_path: Path) -> None:
    engines, connected = Engines(), partial(opened, tmp_path, podman.path)
    with pytest.raises(UnreadableError, match="answered 404") as refused:
        engines.ask(podman.path, connected, partial(asked, podman.path, "cd" * 32))
    assert refused.value.missing
    assert engines.ask(podman.path, connected, partial(asked, podman.path, ID)) == ANSWER
    assert podman.dialled == 1


def test_a_connection_is_kept_until_the_engine_ends_it(podman: EngineDouble, tmp_path: Path) -> None:
    engines, connected, question = Engines(), partial(opened, tmp_path, podman.path), partial(asked, podman.path, ID)
    for _ in range(3):
        assert engines.ask(podman.path, connected, question) == ANSWER
    assert podman.dialled == 1
    podman.cut()
    assert engines.ask(podman.path, connected, question) == ANSWER
    assert podman.dialled == 2


def test_the_engine_behind_another_socket_of_the_same_path_is_asked(podman: EngineDouble, tmp_path: Path) -> None:
    """The one before may live on."""
    engines, connected, question = Engines(), partial(opened, tmp_path, podman.path), partial(asked, podman.path, ID)
    assert engines.ask(podman.path, connected, question) == ANSWER
    podman.path.rename(podman.path.with_name("old.sock"))
    with engine_double(podman.path) as other:
        other.containers[ID] = ANSWER | {"Name": "/other"}
        assert engines.ask(podman.path, connected, question) == ANSWER | {"Name": "/other"}


@pytest.mark.parametrize(
    "raw",
    [
        b'HTTP/1.0 200 OK\r\n\r\n{"a":1}',
        b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\n{"a":1}',
        b'HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}',
    ],
)
def test_a_connection_that_ends_with_its_answer_is_not_kept(podman: EngineDouble, tmp_path: Path, raw: bytes) -> None:
    engines, connected, question = Engines(), partial(opened, tmp_path, podman.path), partial(asked, podman.path, ID)
    podman.raw = raw
    for _ in range(2):
        assert engines.ask(podman.path, connected, question) == {"a": 1}
    assert podman.dialled == 2


@pytest.mark.parametrize("together", [True, False])
def test_an_answer_that_nobody_asked_for_is_none_to_the_next_question(tmp_path: Path, *, together: bool) -> None:
    ours, engines_end = socket.socketpair()
    client = HttpClient(ours, tmp_path)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    engines_end.sendall(answer * 2 if together else answer)
    if together:
        with pytest.raises(UnreadableError, match="did not answer in HTTP"):
            engine.inspect(client, ID)
    else:
        assert engine.inspect(client, ID) == b"{}"
        assert client.alive()
        engines_end.sendall(answer)
    assert not client.alive()
    client.close()
    engines_end.close()


def test_the_connections_that_are_kept_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engines, "MOST_KEPT", 2)
    engines = Engines()
    ends = []
    for number in range(5):
        ours, theirs = socket.socketpair()
        ends.append(theirs)
        path = tmp_path / str(number)
        engines.ask(path, partial(HttpClient, ours, path), lambda _: None)
    left = [not select.select((end,), (), (), 0)[0] for end in ends]
    assert left == [False, False, False, True, True]
    for end in ends:
        end.close()


def test_one_that_has_ended_is_missing(tmp_path: Path) -> None:
    with engine_double(tmp_path / "docker.sock") as double:
        os.link(double.path, tmp_path / "left.sock")
    with pytest.raises(UnreadableError) as refused:
        inspect(tmp_path, tmp_path / "left.sock", None, ID)
    assert refused.value.missing
