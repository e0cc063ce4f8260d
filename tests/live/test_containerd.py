"""Pods of a real containerd that change while an agent runs, which asks it in CRI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.agent import Agent
from tests.live.containerd import Containerd
from tests.live.world import until

pytestmark = pytest.mark.root

UID = "3c4d5e6f-1111-2222-3333-444455556666"
LABELS = {
    "io.kubernetes.container.name": "web",
    "io.kubernetes.pod.name": "shop-1",
    "io.kubernetes.pod.namespace": "alice",
    "io.kubernetes.pod.uid": UID,
    "who": "carol",
}
SILENCE_SECONDS = 12.0
"""Longer than a list may take (`cri.LIST_ASK_SECONDS`)."""

OF_THE_POD = {key: value for key, value in LABELS.items() if "pod" in key} | {"who": "mallory"}


@pytest.fixture
def containerd() -> Iterator[Containerd]:
    # The socket of a shim has a path of at most 106 characters.
    with tempfile.TemporaryDirectory(prefix="pm-") as directory:
        daemon = Containerd(Path(directory), f"/pymon-test-{os.getpid()}/kubepods")
        try:
            daemon.set_up()
            yield daemon
        finally:
            daemon.close()


def told(agent: Agent, identifier: str) -> dict[str, object]:
    """What the inventory has of a container."""
    items = json.loads(agent.get("/v1/containers").body)["containers"]
    return next((item for item in items if item["id"].endswith(f"/{identifier}")), {})


def test_pods_are_described_by_the_daemon(containerd: Containerd) -> None:
    config = containerd.root / "agent.yml"
    config.write_text("owners: [{label: who}]\n")
    flags = (f"--path.rootfs={containerd.root}", f"--config.file={config}", "--container.label=restartcount")
    with Agent(*flags) as agent:
        pod = containerd.pod("shop-1", UID, OF_THE_POD)
        until("the pod", lambda: told(agent, pod).get("name") == "POD")
        web = containerd.container(pod, "web", 2, LABELS, "sleep", "1000")
        until("its label, which is in no file", lambda: told(agent, web).get("owner") == "carol")
        assert (told(agent, web)["name"], told(agent, web)["state"]) == ("web", "running")
        assert told(agent, pod).get("owner") is None, "a tenant chooses labels of a pod"
        until("its restarts", lambda: b'container_label_restartcount="2"' in agent.get("/metrics").body)


def last(agent: Agent, group: str) -> tuple[object, object]:
    """The last exit code of a group's container, and its restarts, which no file of containerd has."""
    found = {name: value for (name, _), value in agent.scrape().of(group).items()}
    return found.get("container_last_exit_code"), found.get("container_restarts_total")


def test_how_one_ends_is_known_also_after_a_restart_of_the_daemon(containerd: Containerd) -> None:
    with Agent(f"--path.rootfs={containerd.root}") as agent:
        pod = containerd.pod("shop-1", UID, OF_THE_POD)

        def ends(name: str, attempt: int) -> None:
            command = ("sh", "-c", "sleep 1; exit 7")
            identifier = containerd.container(pod, name, attempt, LABELS, *command)
            until("it has come", lambda: told(agent, identifier).get("state") in ("running", "stopped"))
            until("its end", lambda: told(agent, identifier).get("state") == "stopped")
            group = str(told(agent, identifier)["id"])
            until("its exit code and restarts", lambda: last(agent, group) == (7, attempt))

        ends("first", 0)
        containerd.stop()
        containerd.start()
        ends("second", 3)


def test_a_silent_daemon_holds_up_no_scrape(containerd: Containerd) -> None:
    """What has ended meanwhile is known afterwards."""
    with Agent(f"--path.rootfs={containerd.root}") as agent:
        pod = containerd.pod("shop-1", UID, OF_THE_POD)
        web = containerd.container(pod, "web", 5, LABELS, "sh", "-c", "sleep 3; exit 7")
        until("its name", lambda: told(agent, web).get("name") == "web")
        group = str(told(agent, web)["id"])
        slowest = 0.0
        with containerd.silent():
            end = time.monotonic() + SILENCE_SECONDS
            while time.monotonic() < end:
                began = time.monotonic()
                agent.scrape()
                slowest = max(slowest, time.monotonic() - began)
                assert told(agent, web)["name"] == "web"
                time.sleep(0.1)
        assert slowest < 3
        until("its exit code and restarts", lambda: last(agent, group) == (7, 5), 90)


def test_doctor_says_whether_it_answers(containerd: Containerd) -> None:
    argv = [sys.executable, "-m", "pymon", "doctor", f"--path.rootfs={containerd.root}"]
    text = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60).stdout
    assert f"answers on {containerd.socket}: containerd " in text
