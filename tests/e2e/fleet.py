"""Nodes that share this machine: real agents, each with a part of the control groups and a root file system of its own.

A node's agent runs in a mount namespace of its own, where the groups below the node's are all that there is, and its
root file system has another machine-id and what Docker writes of the node's containers.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import shutil
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.e2e.proxy import Site, free_port
from tests.live.agent import Agent
from tests.live.world import HIERARCHIES, World

OWNER_LABEL = "com.example.account"
UUID_LABEL = "com.example.uuid"


class Container:
    """A container of a node: Docker's, by its group and its file."""

    def __init__(
        self,
        node: Node,
        name: str,
        account: str = "",
        *,
        uuid_: str = "",
        groups: Sequence[str] = (),
        services: str = "",
        image: str = "example/image:1",
        started_at: float = 0.0,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """uuid_: what its label says, else a new one. account: "" for nobody's. started_at: else now. labels: more."""
        self.node = node
        self.name = name
        self.uuid = uuid_ or str(uuid.uuid4())
        self.image = image
        self.groups = tuple(groups)
        self.account = account
        self.started_at = started_at or time.time()
        runtime_id = uuid.uuid4().hex * 2
        self._folder = node.root / "var/lib/docker/containers" / runtime_id
        self._folder.mkdir(parents=True)
        labels = {
            **(labels or {}),
            UUID_LABEL: self.uuid,
            "triton.cmon.groups": ",".join(groups),
            "triton.cns.services": services,
            OWNER_LABEL: account,
        }
        self._config = {"Image": image, "Labels": {key: text for key, text in labels.items() if text}}
        self.write()
        self.path = f"/docker-{runtime_id}.scope"
        self.group = node.world.child(node.group, self.path[1:])
        node.containers.append(self)

    def write(self, **state: object) -> None:
        """The runtime replaces its file. state: what it says besides that the container runs."""
        started = dt.datetime.fromtimestamp(self.started_at, dt.UTC).isoformat()
        document = {
            "Name": f"/{self.name}",
            "Config": self._config,
            "State": {"Running": True, "StartedAt": started, **state},
        }
        new = self._folder / "new"
        new.write_text(json.dumps(document))
        new.rename(self._folder / "config.v2.json")

    def end(self) -> None:
        """It stops."""
        self.node.containers.remove(self)
        self.group.remove()
        shutil.rmtree(self._folder)


class Node:
    """A node, whose agent is at the same address whenever it runs."""

    def __init__(
        self,
        world: World,
        folder: Path,
        name: str,
        *flags: str,
        scheme: str = "http",
        run: type[Agent] = Agent,
        host: str = "127.0.0.1",
    ) -> None:
        self.world = world
        self._run = run
        self.name = name
        self.containers: list[Container] = []
        self.group = world.group(name)
        self.root = folder / name / "root"
        (self.root / "etc").mkdir(parents=True)
        (self.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        view = folder / name / "cgroup"
        config = folder / name / "agent.yml"
        config.write_text(f"owners:\n  - label: {OWNER_LABEL}\n")
        mounts = []
        for root in HIERARCHIES.roots:
            (view / root.name).mkdir(parents=True)
            mounts += [str(root / self.group.name), str(view / root.name)]
        script = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done; shift; exec "$@"'
        self._prefix = ("unshare", "-m", "sh", "-c", script, "sh", *mounts, "--")
        self.port = free_port()
        self.url = f"{scheme}://{host}:{self.port}"
        self._flags = (
            f"--web.listen-address={host}:{self.port}",
            f"--path.rootfs={self.root}",
            f"--path.cgroupfs={view}",
            f"--config.file={config}",
            f"--container.uuid-label={UUID_LABEL}",
            *flags,
        )
        self.agent: Agent | None = None

    def start(self) -> None:
        """Run the agent."""
        self.agent = self._run(*self._flags, prefix=self._prefix)

    @functools.cached_property
    def uuid(self) -> str:
        """What the agent says that it is."""
        assert self.agent is not None
        answer: str = json.loads(self.agent.get("/v1/containers").body)["node"]["uuid"]
        return answer

    def stop(self) -> None:
        """End the agent, which must end well."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent.stop()

    def kill(self) -> None:
        """SIGKILL."""
        agent, self.agent = self.agent, None
        if agent is not None:
            agent._kill()

    def clear(self, kept: Collection[Container] = ()) -> None:
        """End the containers but these."""
        for container in self.containers[:]:
            if container not in kept:
                container.end()

    def container(self, name: str, account: str = "", **more: object) -> Container:
        """Start a container on this node and return it. account: of its owner, "" for none. more: as in `Container`."""
        return Container(self, name, account, **more)  # type: ignore[arg-type]


class Fleet:
    """Nodes n1, n2, ... at these addresses, with their agents. `with` takes everything away."""

    def __init__(self, folder: Path, hosts: Sequence[str] = ("127.0.0.1",) * 3) -> None:
        self.world = World()
        self.nodes: list[Node] = []
        try:
            self.nodes = [Node(self.world, folder, f"n{number}", host=host) for number, host in enumerate(hosts, 1)]
        except BaseException:
            self.world.close()
            raise

    def start(self) -> None:
        """Run the agents that do not."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(Node.start, [node for node in self.nodes if node.agent is None]))

    def register(self, site: Site) -> None:
        """Put the nodes into the directory."""
        for node in self.nodes:
            site.pymon("node", "create", node.name, node.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            for node in self.nodes:
                if kind is None:
                    node.stop()
        finally:
            for node in self.nodes:
                node.kill()
            self.world.close()
