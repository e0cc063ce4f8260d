"""What a runtime says in CRI, and what is refused."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from pymon.containers import cri, engine, protobuf
from pymon.containers.engine import connect
from pymon.containers.files import UnreadableError
from pymon.containers.model import Details, Match
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes, parse_path
from tests.containers.cri_double import CriDouble, cri_double, schema
from tests.containers.engine_double import engine_double

ID, POD = "ab" * 32, "cd" * 32
UID = "3c4d5e6f-1111-2222-3333-444455556666"
GROUP = f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope"
SOCKET = "run/containerd/containerd.sock"
KUBELETS = {
    "io.kubernetes.container.name": "web",
    "io.kubernetes.pod.name": "shop-1",
    "io.kubernetes.pod.namespace": "alice",
    "io.kubernetes.pod.uid": UID,
}


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[CriDouble]:
    with cri_double(tmp_path / SOCKET) as double:
        yield double


def match(path: str = GROUP) -> Match:
    found = recognise(path)
    assert found is not None
    return found


def describe(root: Path, path: str = GROUP) -> Details:
    return Runtimes(root).describe(match(path))


def bundle(root: Path, **annotations: str) -> None:
    """The files of containerd."""
    folder = root / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / ID
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"annotations": annotations}))
    (folder / "init.pid").write_text("1")
    os.utime(folder / "init.pid", (1_793_170_000, 1_793_170_000))


def test_one_that_runs(runtime: CriDouble, tmp_path: Path) -> None:
    runtime.container(
        ID,
        attempt=3,
        image=schema().ImageSpec(image="shop:8"),
        labels=KUBELETS,
        annotations={"io.kubernetes.container.hash": "7", "io.kubernetes.pod.namespace": "bob"},
    )
    details = describe(tmp_path)
    assert (details.name, details.image, details.state, details.restarts) == ("web", "shop:8", "running", 3)
    assert details.labels == KUBELETS | {"io.kubernetes.container.hash": "7", "restartcount": "3"}
    assert (details.started_at, details.exit_code, details.end_state) == (1_793_170_802.0, None, "")
    assert details.kubernetes == ("alice", "shop-1", "web")
    assert (details.reason, details.asked) == ("", True)
    assert runtime.asked == ["ContainerStatus"]


def test_how_one_has_ended(runtime: CriDouble, tmp_path: Path) -> None:
    runtime.container(ID, state=2, exit_code=137, finished_at=1_793_170_810_500_000_000, reason="OOMKilled")
    details = describe(tmp_path)
    assert (details.exit_code, details.finished_at, details.end_state) == (137, 1_793_170_810.5, "exited")
    assert (details.state, details.started_at, details.restarts, details.oom_killed) == ("", None, 0, True)
    runtime.container(ID, state=2, exit_code=-1, reason="Error")
    details = describe(tmp_path)
    assert (details.exit_code, details.oom_killed) == (-1, False)
    runtime.container(ID, reason="OOMKilled")
    assert not describe(tmp_path).oom_killed


def test_one_that_has_not_started(runtime: CriDouble, tmp_path: Path) -> None:
    runtime.container(ID, state=0, started_at=0)
    details = describe(tmp_path)
    assert (details.state, details.started_at, details.exit_code, details.end_state) == ("", None, None, "")


@pytest.mark.parametrize(("name", "in_pod"), [("cri-containerd", ""), ("crio", "POD")])
def test_the_one_that_holds_a_pods_namespaces(tmp_path: Path, name: str, in_pod: str) -> None:
    """A tenant has chosen its other labels."""
    path = {"crio": "run/crio/crio.sock"}.get(name, SOCKET)
    with cri_double(tmp_path / path) as runtime:
        labels = KUBELETS | {"who": "bob"}
        metadata = schema().PodSandboxMetadata(name="shop-1", uid=UID, namespace="alice", attempt=1)
        runtime.sandboxes[POD] = schema().PodSandbox(
            id=POD, metadata=metadata, created_at=10**18, labels=labels, annotations={"owner": "bob"}
        )
        details = describe(tmp_path, GROUP.replace(ID, POD).replace("cri-containerd", name))
    assert (details.name, details.namespace, details.pod, details.restarts) == ("POD", "alice", "shop-1", 1)
    assert details.kubernetes == ("alice", "shop-1", in_pod)
    assert details.labels == KUBELETS | {"io.kubernetes.container.name": "POD", "restartcount": "1"}
    assert details.state == "running"


def test_files_come_first_where_both_say_it(runtime: CriDouble, tmp_path: Path) -> None:
    runtime.container(ID, name="other", attempt=2, image=schema().ImageSpec(image="other:1"), labels={"k": "daemon"})
    bundle(tmp_path, k="file", only="file", **{"io.kubernetes.cri.image-name": "shop:8"})
    details = describe(tmp_path)
    assert (details.image, details.started_at, details.restarts) == ("shop:8", 1_793_170_000.0, 2)
    assert (details.labels["k"], details.labels["only"]) == ("daemon", "file")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND])
def test_a_daemon_that_does_not_know_it(runtime: CriDouble, tmp_path: Path, code: grpc.StatusCode) -> None:
    runtime.errors = dict.fromkeys(("ContainerStatus", "ListPodSandbox"), code)
    bundle(tmp_path, only="file")
    details = describe(tmp_path)
    assert (dict(details.labels), details.reason, details.asked) == ({"only": "file"}, "", False)


def test_the_next_socket_is_asked(runtime: CriDouble, tmp_path: Path) -> None:
    """As where Docker has a containerd without CRI beside that of k3s."""
    with cri_double(tmp_path / "run/k3s/containerd/containerd.sock") as other:
        other.container(ID, attempt=5)
        assert describe(tmp_path).restarts == 5


def test_a_directory_that_is_named(tmp_path: Path) -> None:
    with cri_double(tmp_path / "srv/c/containerd.sock") as runtime:
        runtime.container(ID, attempt=5)
        assert Runtimes(tmp_path, [parse_path("containerd=/srv/c")]).describe(match()).restarts == 5


def test_one_that_hangs_is_left_alone(runtime: CriDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.1)
    runtime.hang = True
    bundle(tmp_path, only="file")
    runtimes = Runtimes(tmp_path)
    found = [runtimes.describe(match()) for _ in range(3)]
    assert [dict(details.labels) for details in found] == [{"only": "file"}] * 3
    assert [details.reason.partition(": ")[2] for details in found] == [
        "no whole answer in time", "did not answer", "did not answer",
    ]  # fmt: skip
    assert len(runtime.asked) == 1


def test_a_socket_behind_a_link(tmp_path: Path) -> None:
    with cri_double(tmp_path / "elsewhere.sock") as runtime:
        runtime.container(ID)
        bundle(tmp_path)
        (tmp_path / SOCKET).symlink_to(runtime.path)
        assert describe(tmp_path).reason.endswith("not a socket")
        assert not runtime.asked


@pytest.mark.root
def test_a_socket_of_another_user(runtime: CriDouble, tmp_path: Path) -> None:
    bundle(tmp_path)
    os.chown(runtime.path, 7, 7)
    assert describe(tmp_path).reason.endswith("belongs to uid 7")
    assert not runtime.asked


def test_containers_of_users_have_no_such_daemon(runtime: CriDouble, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("u:x:7:7::/home/u:/bin/sh\n")
    runtime.container(ID)
    Runtimes(tmp_path).describe(Match("/x", "containerd", ID, ID, uid=7))
    assert not runtime.asked


# --- lies ---


def status_bytes(**fields: Any) -> bytes:
    pb = schema()
    return pb.ContainerStatusResponse(status=pb.ContainerStatus(id=ID, **fields)).SerializeToString()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "no message of protocol buffers"),
        (b"\x0b", "no message of protocol buffers"),
        (b"\xff" * 20, "no message of protocol buffers"),
        (b"\x09\x00", "no message of protocol buffers"),
        (b"\x08\x01" * 20_000, "too many fields"),
        (b"", "about another container"),
        (schema().ContainerStatusResponse(status={"id": POD}).SerializeToString(), "about another container"),
        (bytes(cri.ANSWER_LIMIT + 1), "message of more than 1048576 bytes"),
    ],
)
def test_answers_that_lie(runtime: CriDouble, tmp_path: Path, answer: bytes, why: str) -> None:
    bundle(tmp_path)
    runtime.containers[ID] = answer
    details = describe(tmp_path)
    assert why in details.reason
    assert (details.name, details.state) == (ID, "")


def test_values_that_lie(runtime: CriDouble, tmp_path: Path) -> None:
    """Text that is not UTF-8, and times that cannot be."""
    pb = schema()
    status = pb.ContainerStatus(
        id=ID, state=2, started_at=-1, finished_at=-(2**63), exit_code=2**31 - 1, image={"image": "???"}
    )
    data = pb.ContainerStatusResponse(status=status).SerializeToString()
    runtime.containers[ID] = data.replace(b"???", b"\xff\xc0\n")
    details = describe(tmp_path)
    assert (details.started_at, details.finished_at, details.exit_code) == (None, None, 2**31 - 1)
    assert details.image == "\N{REPLACEMENT CHARACTER}" * 2 + "\n"


def _frames(*frames: Any) -> bytes:
    return SettingsFrame(0).serialize() + b"".join(frame.serialize() for frame in frames)


def _head(**fields: str) -> HeadersFrame:
    from hpack import Encoder  # noqa: PLC0415

    pairs = [(":status", "200"), ("content-type", "application/grpc"), *fields.items()]
    frame = HeadersFrame(1, Encoder().encode(pairs), flags=["END_HEADERS"])
    if fields:
        frame.flags.add("END_STREAM")
    return frame


_HUGE = DataFrame(1, b"\0" + (10**9).to_bytes(4, "big") + bytes(1000))
_PINGS = PingFrame(0, bytes(8)).serialize() * 1000


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff" * 100_000,
        [b"x" * 65536],
        [_frames(), _PINGS],
        [_frames(), SettingsFrame(0, settings={4: 65535}).serialize() * 1000],
        [_frames(_head()), DataFrame(1, b"\0").serialize(), _PINGS],
        [_frames(_head(), _HUGE), DataFrame(1, bytes(16384)).serialize()],
        [_frames(_head()), DataFrame(1, bytes(5)).serialize() * 1000],
        _frames(_head(), DataFrame(1, b"\1" + bytes(4))),
        _frames(_head(), _HUGE),
        _frames(GoAwayFrame(0)),
        _frames(RstStreamFrame(1)),
        _frames(_head(), DataFrame(1, bytes(5), flags=["END_STREAM"])),
        _frames(HeadersFrame(1, b"\xff\xff\xff\xff", flags=["END_HEADERS"])),
        _frames(DataFrame(1, b"x" * 100)),
        _frames(DataFrame(99, b"x" * 100)),
        [_frames(HeadersFrame(1, bytes(100)))],
    ],
)  # fmt: skip
def test_a_peer_that_does_not_keep_to_the_protocol(tmp_path: Path, raw: bytes | list[bytes]) -> None:
    with engine_double(tmp_path / SOCKET) as peer:
        peer.raw = raw
        bundle(tmp_path)
        tracemalloc.start()
        began = time.thread_time()
        try:
            details = describe(tmp_path)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert details.reason.startswith(str(tmp_path / SOCKET)), details
        assert "internal error" not in details.reason
        assert details.name == ID
    assert most < 8 << 20
    assert time.thread_time() - began < 3 * engine.ASK_SECONDS


def test_an_error_that_is_long_and_has_every_byte(tmp_path: Path) -> None:
    with engine_double(tmp_path / SOCKET) as peer:
        peer.raw = _frames(_head(**{"grpc-status": "2", "grpc-message": "\n\x1b" + "x" * 10_000}))
        bundle(tmp_path)
        reason = describe(tmp_path).reason
    assert reason.isprintable()
    assert len(reason) < 400


# --- messages ---

_texts = st.text(max_size=20)
_numbers = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.dictionaries(_texts, _texts, max_size=5),
    state=st.integers(-1, 4),
    code=st.integers(-(2**31), 2**31 - 1),
    started=_numbers,
    reason=_texts,
    attempt=st.integers(0, 2**32 - 1),
)
def test_what_the_library_writes_is_read(
    labels: dict[str, str], state: int, code: int, started: int, reason: str, attempt: int
) -> None:
    pb = schema()
    data = status_bytes(
        metadata=pb.ContainerMetadata(name=reason, attempt=attempt),
        state=state,
        exit_code=code,
        started_at=started,
        reason=reason,
        labels=labels,
        annotations=labels,
        mounts=[pb.Mount(container_path="/x", readonly=True)],
    )
    said = cri._container(data, Path("x"), ID)
    assert (said.labels, said.annotations, said.reason) == (labels, labels, reason if state == 2 else "")
    assert (said.name, said.attempt) == (reason, attempt)
    assert said.started_at == (started / 1e9 if started > 0 else None)
    assert said.exit_code == (code if state == 2 else None)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_as_the_library_does(data: bytes) -> None:
    """What one refuses the other does too, but for old groups and what is in messages that are not looked at."""
    reader = protobuf.Reader(Path("x"), 1000)
    try:
        found = dict(reader.fields(memoryview(data)))
    except UnreadableError:
        return
    message = schema().VersionResponse()
    try:
        message.ParseFromString(data)
    except Exception:  # noqa: BLE001 - its text is not UTF-8, or a number of a field is 0
        return
    assert protobuf.text(found.get(2)) == message.runtime_name


@given(st.text(max_size=20_000))
def test_what_is_asked_is_what_the_library_writes(identifier: str) -> None:
    expected = schema().ContainerStatusRequest(container_id=identifier or "x").SerializeToString()
    assert protobuf.field(1, (identifier or "x").encode()) == expected


@pytest.mark.parametrize(
    ("name", "release", "all_hear"),
    [
        ("containerd", "v1.7.27", False),
        ("containerd", "1.6.20~ds1", False),
        ("containerd", "v2.0.0", True),
        ("containerd", "2.1.4-k3s1", True),
        ("containerd", "", False),
        ("containerd", "v" + "9" * 100, False),
        ("cri-o", "1.31.0", True),
        ("other", "3.0", False),
    ],
)
def test_events_are_taken_where_the_kubelet_keeps_its_own(
    tmp_path: Path, name: str, release: str, all_hear: bool
) -> None:
    """Before 2.0, containerd gives each event to one listener alone."""
    with cri_double(tmp_path / "s", name, release) as runtime, connect(tmp_path, runtime.path, None) as connection:
        assert "" in cri.events(connection, runtime.path)
        until = time.monotonic() + 30
        while all_hear and "GetContainerEvents" not in runtime.asked and time.monotonic() < until:
            time.sleep(0.01)  # another thread answers it
        assert ("GetContainerEvents" in runtime.asked) == all_hear


def test_a_list_of_two_thousand_takes_little_time(tmp_path: Path) -> None:
    response = schema().ListContainersResponse()
    for number in range(2000):
        labels, annotations = KUBELETS, dict.fromkeys(map(str, range(6)), "x" * 40)
        response.containers.add(id=f"{number:064x}", state=2, labels=labels, annotations=annotations)
    data = response.SerializeToString()
    began = time.thread_time()
    assert len(cri._ended(data, Path("x"))) == 2000
    assert time.thread_time() - began < 0.3


def test_a_list_of_ids_that_lie() -> None:
    response = schema().ListContainersResponse()
    for identifier, state in ((ID, 1), (ID, 2), ("../../x", 2), ("", 2), (POD.upper(), 2), (POD, 0), ("ef" * 32, 3)):
        response.containers.add(id=identifier, state=state)
    assert cri._ended(response.SerializeToString(), Path("x")) == {ID}
