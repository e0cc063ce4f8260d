"""What the log says of containers: how many nobody owns, and what cannot be read of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from uuid import UUID

import pytest

from pymon.agent import container_log
from pymon.agent.container_log import log_access, log_ownership, ownership
from pymon.agent.rows import ContainerRows
from pymon.containers.access import Access
from pymon.containers.identity import Container
from pymon.containers.node_identity import NodeIdentity


def container(number: int, owner: str | None) -> Container:
    return Container(UUID(int=number), f"/{number}", "", "docker", 0, owner=owner)


def test_counts() -> None:
    assert ownership([]) == "0 containers, 0 without an owner"
    assert ownership([container(1, None)]) == "1 container, 1 without an owner"
    assert ownership([container(1, None), container(2, "a")]) == "2 containers, 1 without an owner"


def test_the_start_and_changes_of_the_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = ContainerRows(NodeIdentity(UUID(int=9), "test"))
    rows.reserve(2)

    async def said(number: int) -> None:
        while len(caplog.messages) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def scenario() -> None:
        task = asyncio.create_task(log_ownership(rows, settle_seconds=0.01, between_seconds=0.01))
        await said(1)
        rows.place(0, container(1, None), (), 0)
        await said(2)
        rows.place(0, container(1, None), (), 0)  # nothing new
        await asyncio.sleep(0.1)
        rows.place(0, container(1, "a"), (), 0)
        await said(3)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert caplog.messages == [
        "0 containers, 0 without an owner",
        "1 container, 1 without an owner",
        "1 container, 0 without an owner",
    ]


def test_labels_that_a_runtime_has_not_written_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = [Access("podman", Path("/p"), "names", "", "/p has no db.sql, as before Podman 4.8")]
    monkeypatch.setattr(container_log, "runtime_access", lambda *_: found)
    monkeypatch.setattr(container_log, "reads_namespaces", lambda _: True)
    log_access(Path("/"), Path("/proc"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "no labels of podman containers: /p has no db.sql, as before Podman 4.8")
    ]


def test_a_runtime_that_cannot_be_read_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = [
        Access("docker", Path("/d"), "names and labels", "/d: permission denied"),
        Access("lxc", Path("/l"), "names", ""),
    ]
    monkeypatch.setattr(container_log, "runtime_access", lambda *_: found)
    monkeypatch.setattr(container_log, "reads_namespaces", lambda _: False)
    log_access(Path("/"), Path("/proc"))
    record, network = caplog.records
    assert record.levelname == network.levelname == "WARNING"
    assert network.getMessage().startswith("no network of other users' containers")
    assert record.getMessage().startswith(
        "no names and labels of docker containers: /d: permission denied; run pymon as"
    )
