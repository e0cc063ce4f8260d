"""A pod of real control groups: a sandbox that holds the network, a container that shares it, and the pod itself."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tests.live.agent import Agent, Scrape
from tests.live.test_network import alone, joined, linked, send
from tests.live.world import Group, World, until

pytestmark = pytest.mark.root

UID = "0a1b2c3d-1111-2222-3333-444455556666"
SANDBOX, APP = "5a" * 32, "a9" * 32
BYTES = "container_network_transmit_bytes_total"
CPU = "container_cpu_usage_seconds_total"


def bundle(root: Path, identifier: str, **more: str) -> None:
    """What containerd's CRI plugin writes of a container."""
    names = {"sandbox-name": "web-0", "sandbox-namespace": "shop", "sandbox-uid": UID} | more
    folder = root / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / identifier
    folder.mkdir(parents=True)
    document = {"annotations": {f"io.kubernetes.cri.{key.replace('_', '-')}": text for key, text in names.items()}}
    (folder / "config.json").write_text(json.dumps(document))


def groups(world: World) -> tuple[Group, Group, Group]:
    """The groups of a pod, of its sandbox and of a container, as the driver cgroupfs nests them."""
    pod = world.group("k8s")
    for name in ("kubepods", "burstable", f"pod{UID}"):
        pod = world.child(pod, name)
    return pod, world.child(pod, SANDBOX), world.child(pod, APP)


def of_pod(scrape: Scrape, metric: str) -> dict[tuple[str, str, str], Fraction]:
    """The values of a metric by the labels id, container and interface, of everything that is of the pod."""
    found = {}
    for (name, labels), value in scrape.series.items():
        texts = dict(labels)
        if name == metric and (texts.get("namespace"), texts.get("pod")) == ("shop", "web-0"):
            found[texts["id"], texts.get("container", ""), texts.get("interface", "")] = value
    return found


def test_a_pod_and_its_containers(world: World, tmp_path: Path) -> None:
    bundle(tmp_path, SANDBOX, container_type="sandbox")
    pod, sandbox, app = groups(world)
    holder = alone(sandbox)
    linked(world, holder.pid, "eth0", 77)
    with Agent(f"--path.rootfs={tmp_path}") as agent:
        until("the pod has its names", lambda: (pod.path, "", "") in of_pod(agent.scrape(), "container_last_seen"))
        bundle(tmp_path, APP, container_type="container", container_name="nginx", image_name="nginx:1")
        joined(app, holder.pid)
        app.start(["sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; exec sleep 1000"])
        send(holder.pid, "198.18.77.1", 20)
        where = app.path, "nginx", ""
        until("the container has its names", lambda: where in of_pod(agent.scrape(), "container_last_seen"))

        def both_have_run() -> Scrape | None:
            """A scrape after the loop has ended: the pod's file may be read before the container's."""
            scrape = agent.scrape()
            used = of_pod(scrape, CPU)
            return scrape if used[pod.path, "", ""] >= used.get(where, 0) > 0 else None

        scrape = until("the pod has run as long as its container", both_have_run)
        assert set(of_pod(scrape, CPU)) == {(pod.path, "", ""), (sandbox.path, "", ""), where}
        carried = of_pod(scrape, BYTES)
        assert set(carried) == {(sandbox.path, "", "eth0")}, "the sandbox has it, once"
        assert carried[sandbox.path, "", "eth0"] > 2000
        images = {dict(labels).get("image", "") for _, labels in scrape.of(app.path)}
        assert images == {"nginx:1"}
        app.kill()
        app.remove()
        sandbox.kill()
        sandbox.remove()
        seen = "container_last_seen"
        until("only the pod is left", lambda: set(of_pod(agent.scrape(), seen)) == {(pod.path, "", "")})
        assert set(of_pod(agent.scrape(), "container_state")) == {(sandbox.path, "", ""), where}, "with their names"
        pod.remove()
        until("it has gone", lambda: not of_pod(agent.scrape(), seen))
