"""The inventory that an agent sends is one that a proxy takes, whatever tenants call their containers."""

from __future__ import annotations

import json
from uuid import UUID

from pymon.agent.rows import MAX_DOCUMENT_BYTES, ContainerRows
from pymon.containers.identity import Basis, Claim, Container
from pymon.containers.node_identity import NodeIdentity
from pymon.proxy.agent_document import decode_inventory
from pymon.uuid_name import container_uuid

NODE = UUID(int=9)
LONG, SHORT = 600, 400


def test_an_inventory_is_bounded_and_has_every_container() -> None:
    rows = ContainerRows(NodeIdentity(NODE, "test"))
    rows.reserve(LONG + SHORT)
    for number in range(LONG + SHORT):
        name = f"cgroup:/c{number}"
        text = "\0" * 1024 if number < LONG else "web"
        cns = dict.fromkeys(("cns_status", "cns_disable", "cns_reverse_ptr"), text * 4)
        container = Container(
            container_uuid(NODE, name), f"/c{number}", text, "cgroup", 1.0, uuid_name=name, image=text, pod=text,
            owner="alice", services=text * 4, cns=cns,
        )  # fmt: skip
        rows.claim(number, [Claim(container.uuid, name, Basis.PATH)], number)
        rows.place(number, container, (), 1.0)
    document = rows.document()
    assert MAX_DOCUMENT_BYTES - 150_000 < len(document) < MAX_DOCUMENT_BYTES + 1000
    told = {one["uuid"]: one for one in json.loads(document)["containers"]}
    assert len(told) == LONG + SHORT
    assert {one["owner"] for one in told.values()} == {"alice"}
    assert all(
        told[str(container_uuid(NODE, f"cgroup:/c{number}"))]["name"] == "web" for number in range(LONG, LONG + SHORT)
    )
    assert len(decode_inventory(document).containers) == LONG + SHORT
