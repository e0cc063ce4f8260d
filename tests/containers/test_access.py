"""Which runtimes' descriptions a user can read."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pymon.containers import engine
from pymon.containers.access import daemon_answers, runtime_access
from pymon.containers.runtimes import parse_path
from tests.containers.cri_double import cri_double

NOBODY = 65534
ID = "a" * 64

TREE = {
    "containerd": f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json",
    "crio": f"run/containers/storage/overlay-containers/{ID}/userdata/config.json",
    "docker": f"var/lib/docker/containers/{ID}/config.v2.json",
    "lxc": "var/lib/lxc/web/config",
    "nspawn": "run/systemd/machines/web",
    "podman": "var/lib/containers/storage/db.sql",
    "systemd": "run/systemd/system",
}


@pytest.fixture
def root() -> Iterator[Path]:
    """The root directory of a node with every runtime, which every user can reach."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        for name in TREE.values():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            if name == TREE["systemd"]:
                (path / name).mkdir()
            else:
                (path / name).write_text("{}")
        (path / "run/crio").mkdir()
        yield path


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_nothing_is_there(tmp_path: Path) -> None:
    assert runtime_access(tmp_path) == []


def test_all_can_be_read(root: Path) -> None:
    found = runtime_access(root)
    assert [(access.runtime, access.problem) for access in found] == [(name, "") for name in TREE]


def test_podman_before_its_database(root: Path) -> None:
    (root / "var/lib/containers/storage/db.sql").unlink()
    listed = root / "var/lib/containers/storage/overlay-containers/containers.json"
    listed.parent.mkdir()
    for nothing in (None, "[]"):
        if nothing is not None:
            listed.write_text(nothing)
        assert [access.lacking for access in runtime_access(root) if access.runtime == "podman"] == [""]
    listed.write_text('[{"id": "5f"}]')
    (podman,) = [access for access in runtime_access(root) if access.runtime == "podman"]
    assert podman.known == "names, and annotations for labels (Podman before 4.8)"
    assert podman.problem == ""
    storage = root / "var/lib/containers/storage"
    assert (
        podman.lacking == f"{storage} has no db.sql, as before Podman 4.8, and podman.socket is not there for this user"
    )
    (root / "run/podman").mkdir()
    (root / "run/podman/podman.sock").touch()
    (podman,) = [access for access in runtime_access(root) if access.runtime == "podman"]
    assert podman.lacking == ""


def test_directories_that_are_named(tmp_path: Path) -> None:
    (tmp_path / "srv/docker/containers").mkdir(parents=True)
    (docker,) = runtime_access(tmp_path, [parse_path("docker=/srv/docker")])
    assert (docker.runtime, docker.directory) == ("docker", tmp_path / "srv/docker/containers")
    assert docker.lacking == ""


@pytest.mark.root
@pytest.mark.parametrize("closed", ["file", "directory", "top"])
@pytest.mark.parametrize("runtime", TREE)
def test_what_is_roots_alone(root: Path, runtime: str, closed: str) -> None:
    file = root / TREE[runtime]
    path = {"file": file, "directory": file.parent, "top": root / "/".join(TREE[runtime].split("/")[:2])}[closed]
    path.chmod(0)
    with as_nobody():
        found = {access.runtime: access for access in runtime_access(root)}
    assert runtime in found
    assert found[runtime].problem.endswith(": permission denied")
    assert "\n" not in found[runtime].problem


def test_a_pipe_holds_nothing_up(root: Path) -> None:
    file = root / TREE["docker"]
    file.unlink()
    os.mkfifo(file)
    assert {access.problem for access in runtime_access(root)} == {""}


class TestDaemons:
    """Those that are asked in CRI."""

    SOCKET = "run/containerd/containerd.sock"

    def test_none_is_there(self, tmp_path: Path) -> None:
        assert daemon_answers(tmp_path) == []

    def test_one_answers(self, tmp_path: Path) -> None:
        with cri_double(tmp_path / self.SOCKET) as runtime:
            (answer,) = daemon_answers(tmp_path)
        assert answer == ("containerd", runtime.path, "containerd 1.7.2", "", False)

    def test_one_does_not(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(engine, "ASK_SECONDS", 0.1)
        with cri_double(tmp_path / self.SOCKET) as runtime, cri_double(tmp_path / "run/crio/crio.sock") as other:
            runtime.hang = True
            other.errors["Version"] = grpc.StatusCode.UNIMPLEMENTED
            hanging, without = daemon_answers(tmp_path)
        assert (hanging.version, hanging.missing) == ("", False)
        assert hanging.problem == f"{runtime.path}: no whole answer in time"
        assert (without.runtime, without.version, without.missing) == ("crio", "", True)
        assert without.problem == f"{other.path}: answered 'not here' (gRPC status 12)"

    @pytest.mark.root
    def test_one_to_which_this_user_may_not_connect(self, root: Path) -> None:
        with cri_double(root / self.SOCKET) as runtime:
            runtime.path.chmod(0o600)
            with as_nobody():
                (answer,) = daemon_answers(root)
        assert (answer.version, answer.missing) == ("", False)
        assert answer.problem.endswith("permission denied")
