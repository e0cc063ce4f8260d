"""A proxy over a directory that is a dictionary, two honest nodes and a hostile one, and containers that they claim."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pymon.directory.model import Account, Node, Quota, Snapshot
from pymon.inventory_document import Container
from pymon.proxy.agent_document import Inventory
from pymon.proxy.claimant import FRESH_SECONDS
from pymon.proxy.claims import Claims
from pymon.proxy.fleet import Fleet
from pymon.proxy.holder_rows import Row
from pymon.uuid_name import container_uuid

ALICE, BOB, CAROL = UUID(int=0xA11CE), UUID(int=0xB0B), UUID(int=0xCA401)
N, M, H = (UUID(int=number << 64) for number in (1, 2, 3))
"""Two honest nodes and a hostile one."""

NAMES = {N: "n", M: "m", H: "h"}
NOW = 1_000_000.0
X = str(UUID(int=0xC))


def proven(node: UUID, text: str, owner: str | None = "alice", **fields: Any) -> Container:
    """A container whose UUID can be checked."""
    return container(str(container_uuid(node, text)), owner, uuid_name=text, **fields)


def container(uuid: str = X, owner: str | None = "alice", start: float = 100.0, **fields: Any) -> Container:
    """One whose UUID cannot be checked."""
    values = {"id": "/c", "name": "c", "runtime": "docker", "runtime_id": "", "image": "", "state": "running"}
    values |= {"health": "", "groups": (), "services": "", "namespace": "", "pod": "", "pod_id": ""} | fields
    return Container(uuid=uuid, owner=owner, start=start, **values)


class Site:
    """A directory, and a proxy that follows it. Each step of a node is followed by what the proxy then writes."""

    def __init__(self, *, durable: bool = True, max_containers: int = 1000) -> None:
        self.rows: dict[str, Row] = {}
        self.now = NOW
        self.nodes = {name: Node(name, uuid, "http://x:1") for uuid, name in NAMES.items()}
        self.names = {"alice": ALICE, "bob": BOB}
        self.generation = 0
        self.durable = durable
        self.max_containers = max_containers
        self.documents: dict[UUID, tuple[Container, ...]] = {}
        self.fleet = Fleet()
        self.restart()

    def restart(self) -> None:
        """A proxy that begins with the rows of the directory and copies of what nodes said last, the hostile one's
        first.
        """
        stops = {name: self.fleet.stops(name) for name in self.nodes}
        self.fleet = Fleet(Claims(durable=self.durable, max_containers=self.max_containers))
        self.follow()
        self.fleet.learn(self.rows, (), self.now)
        self.settle()
        for node in sorted(self.documents, reverse=True):
            self._replace(node, copy=True)
            self.fleet.restore_stopped(NAMES[node], stops[NAMES[node]], self.now)
        self.write()

    def follow(self) -> None:
        """Let the proxy have the directory as it is."""
        self.generation += 1
        accounts = [Account(uuid, name, False, 0.0, Quota()) for name, uuid in self.names.items()]
        self.accounts = Snapshot.of(self.generation, accounts=accounts, nodes=self.nodes.values())
        self.fleet.resolve_owners(self.accounts)

    def _replace(self, node: UUID, *, copy: bool = False) -> None:
        found = {one.uuid: one for one in self.documents[node]}
        inventory = Inventory(str(node), NAMES[node], found)
        self.fleet.replace(NAMES[node], inventory, self.accounts, self.now, copy=copy)

    def says(self, node: UUID, *containers: Container) -> None:
        """The inventory of a node, and what the proxy writes then."""
        self.documents[node] = containers
        self._replace(node)
        self.write()

    def write(self) -> None:
        """Write what is wanted, as the directory does."""
        claims = self.fleet.claims
        while claims.durable and claims.wanted and not claims.away:
            told: dict[str, Row] = {}
            wanted = claims.take(500, 500)
            for uuid, (before, after) in wanted.items():
                if self.rows.get(uuid) == before:
                    self.rows[uuid] = after
                if uuid in self.rows:
                    told[uuid] = self.rows[uuid]
            self.fleet.learn(told, (), self.now)
            claims.failed(wanted)

    def passes(self, seconds: float, *answering: UUID) -> None:
        """Time, in which only these nodes answer."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + FRESH_SECONDS / 2)
            for node in answering:
                self.fleet.heard(NAMES[node])
            self.settle()

    def settle(self) -> None:
        self.fleet.settle(self.now, self.now, 10_000)
        self.write()

    def release(self, uuid: str) -> None:
        """`pymon claim release`."""
        del self.rows[uuid]
        self.fleet.learn({}, [uuid], self.now)
        self.write()

    def where(self, uuid: str = X) -> str | None:
        place = self.fleet.find(uuid)
        return place.node.name if place is not None else None

    def owner(self, uuid: str = X) -> UUID | None:
        place = self.fleet.find(uuid)
        assert place is not None
        return place.owner

    def refused(self, node: UUID = H) -> dict[str, int]:
        """How many claims of a node were refused, by reason."""
        return {reason: count for (name, reason), count in self.fleet.claims.counts.items() if name == NAMES[node]}
