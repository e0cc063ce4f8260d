"""Inventories as agents tell them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from pymon.directory.model import Account, Quota, Snapshot
from pymon.proxy.agent_document import Inventory, decode_inventory
from pymon.proxy.fleet import Fleet
from pymon.proxy.places import Place

ALICE, BOB = UUID(int=0xA11CE), UUID(int=0xB0B)


def account(uuid: UUID, name: str) -> Account:
    return Account(uuid, name, False, 0.0, Quota())


ACCOUNTS = Snapshot.of(1, accounts=[account(ALICE, "Alice"), account(BOB, "bob")])


def uuid_of(number: int) -> str:
    return str(UUID(int=number))


def node_of(number: int) -> str:
    return str(UUID(int=number << 64))


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "uuid": uuid_of(number), "id": f"/c/{number}", "name": f"c{number}", "runtime": "docker", "runtime_id": "",
        "image": "nginx", "start": 100.0, "owner": None, "state": "running", "health": "", "groups": [],
        "services": "", "namespace": "", "pod": "", "pod_id": "",
    } | fields  # fmt: skip


def document(*rows: dict[str, Any], node: int = 1, hostname: str = "host") -> bytes:
    body = {"version": "1", "node": {"uuid": node_of(node), "hostname": hostname}, "containers": list(rows)}
    return json.dumps(body).encode()


def inventory(*rows: dict[str, Any], node: int = 1, hostname: str = "host") -> Inventory:
    return decode_inventory(document(*rows, node=node, hostname=hostname))


def where(fleet: Fleet, number: int) -> str | None:
    place = fleet.find(uuid_of(number))
    return place.node.name if place else None


def names(places: list[Place]) -> set[str]:
    return {place.container.name for place in places}
