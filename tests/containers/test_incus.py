"""What LXD and Incus say of instances over their sockets, and what is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pymon.agent import descriptions
from pymon.agent.descriptions import Descriptions
from pymon.containers.model import Details, Match
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes, lxc
from tests.containers.engine_double import EngineDouble, engine_double

PATIENCE_SECONDS = 40
CONFIG = {
    "image.description": "Debian trixie amd64",
    "image.os": "debian",
    "user.owner": "acme",
    "user.user-data": "password: secret",
    "limits.memory": "1GiB",
    "volatile.uuid": "x",
}


@pytest.fixture
def incus(tmp_path: Path) -> Iterator[EngineDouble]:
    with engine_double(tmp_path / "var/lib/incus/unix.socket") as double:
        yield double


def match(group: str) -> Match:
    found = recognise(f"/lxc.payload.{group}")
    assert found is not None
    return found


def describe(root: Path, group: str) -> Details:
    return Runtimes(root).describe(match(group))


def instance(name: str, status: str = "Running", **members: Any) -> dict[str, Any]:
    found = {"name": name, "status": status, "config": CONFIG, "last_used_at": "2026-10-28T07:00:02Z"} | members
    return {"type": "sync", "status_code": 200, "metadata": found}


def test_an_instance_is_described(incus: EngineDouble, tmp_path: Path) -> None:
    incus.targets["/1.0/instances/web?project=default"] = instance("web")
    details = describe(tmp_path, "web")
    assert (details.name, details.image, details.state) == ("web", "Debian trixie amd64", "running")
    assert details.labels == {
        "image.description": "Debian trixie amd64",
        "image.os": "debian",
        "user.owner": "acme",
    }, "no secrets"
    assert (details.started_at, details.reason, details.asked) == (1793170802.0, "", True)


def test_an_instance_of_a_project(incus: EngineDouble, tmp_path: Path) -> None:
    incus.targets["/1.0/instances/web?project=customer-acme"] = instance("web", "Frozen")
    details = describe(tmp_path, "customer-acme_web")
    assert (details.name, details.namespace, details.state) == ("web", "customer-acme", "paused")


def test_what_lxc_describes_is_not_asked_for(incus: EngineDouble, tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/lxc/web"
    folder.mkdir(parents=True)
    (folder / "config").write_text("lxc.uts.name = www\n")
    assert describe(tmp_path, "web").name == "www"
    assert incus.asked == []


@pytest.mark.parametrize("group", ["a b", "..", "a\u00e4", "web?project=x", "a%2fb", "a\r\nX: y", "-a"])
def test_no_other_name_is_asked_for(incus: EngineDouble, tmp_path: Path, group: str) -> None:
    assert not describe(tmp_path, group).asked
    assert incus.asked == []


@pytest.mark.parametrize(
    "answer",
    [[], 7, {"metadata": []}, {"metadata": {"name": "other"}}, instance("other"), {"metadata": {"name": ["web"]}}],
)
def test_answers_of_another_shape(incus: EngineDouble, tmp_path: Path, answer: object) -> None:
    incus.targets["/1.0/instances/web?project=default"] = answer
    details = describe(tmp_path, "web")
    assert (details.name, details.labels, details.asked) == ("web", {}, False)


def test_fields_of_another_shape(incus: EngineDouble, tmp_path: Path) -> None:
    odd = instance("web", status=7, config=[1], last_used_at={})
    incus.targets["/1.0/instances/web?project=default"] = odd
    details = describe(tmp_path, "web")
    assert (details.state, details.labels, details.started_at, details.asked) == ("", {}, None, True)


def test_changes_are_found(incus: EngineDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "LOOK_SECONDS", 1000.0)
    monkeypatch.setattr(lxc, "ASK_AGAIN_SECONDS", 0.05)
    told: dict[str, Details] = {}

    async def until(state: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while "web" not in told or told["web"].state != state:
            assert time.monotonic() < end, told
            await asyncio.sleep(0.01)

    async def main() -> None:
        followed = Descriptions(Runtimes(tmp_path))
        followed.start(asyncio.get_running_loop())
        incus.targets["/1.0/instances/web?project=default"] = instance("web")
        followed.follow(match("web"), partial(told.__setitem__, "web"))
        await until("running")
        incus.targets["/1.0/instances/web?project=default"] = instance("web", "Frozen")
        await until("paused")
        followed.close()

    asyncio.run(main())
