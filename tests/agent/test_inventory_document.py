"""The container of the inventory: what the agent writes is what the proxy reads."""

from __future__ import annotations

import json
from uuid import UUID

import msgspec

from pymon.agent.rows import _document
from pymon.containers import identity
from pymon.inventory_document import Container, checked

UUID_TEXT = "0b0f0c0d-1111-5222-8333-44444444abcd"


def agents(**fields: object) -> identity.Container:
    return identity.Container(UUID(UUID_TEXT), "/c/1", "web", "docker", 12.5, **fields)


def read(container: identity.Container) -> Container:
    return msgspec.json.decode(json.dumps(_document(container)), type=Container)


def test_every_field_of_the_inventory_is_written_and_read() -> None:
    cns = {"cns_status": "up", "cns_disable": "false", "cns_reverse_ptr": "web.example.com"}
    found = read(
        agents(
            runtime_id="abc", image="nginx", owner="acme", state="stopped", groups=("a", "b"), services="www:80",
            cns=cns, namespace="shop", pod="web-0", pod_id="p", health="healthy", addresses=("10.0.0.7",),
            uuid_name="docker::abc", ended=990.5, ports=("80/tcp",), app_ports=(9100, 80), app_path="/metrics",
            app_fetched=True,
        )
    )  # fmt: skip
    assert msgspec.structs.asdict(found) == {
        "uuid": UUID_TEXT, "id": "/c/1", "name": "web", "runtime": "docker", "start": 12.5, "runtime_id": "abc",
        "image": "nginx", "owner": "acme", "state": "stopped", "groups": ("a", "b"), "services": "www:80",
        "namespace": "shop", "pod": "web-0", "pod_id": "p", "health": "healthy", "addresses": ("10.0.0.7",),
        "uuid_name": "docker::abc", "ended": 990.5, "ports": ("80/tcp",), "app_ports": (9100, 80),
        "app_path": "/metrics", "app_fetched": True, **cns,
    }  # fmt: skip
    defaults = read(agents())
    told = [name for name in Container.__struct_fields__ if getattr(found, name) == getattr(defaults, name)]
    assert told == ["uuid", "id", "name", "runtime", "start"], "no field is forgotten in this test"
    assert checked(found) is found


def test_what_is_not_there_is_left_out_as_ever() -> None:
    members = _document(agents())
    assert members["owner"] is None
    assert members["addresses"] == ()
    assert not {"cns_status", "cns_disable", "cns_reverse_ptr", "uuid_name", "ports"} & members.keys()


def test_an_application_that_cannot_be_one_is_left_out() -> None:
    good = read(agents(app_ports=(9100,), app_path="/metrics", app_fetched=True))
    assert checked(good) is good
    for fields in (
        {"app_ports": (0,)}, {"app_ports": (65536,)}, {"app_ports": ()}, {"app_ports": tuple(range(1, 18))},
        {"app_ports": None}, {"app_path": None}, {"app_path": "http://other.example/"}, {"app_path": "/a\r\nb"},
    ):  # fmt: skip
        found = checked(msgspec.structs.replace(good, **fields))
        assert found is not None
        assert (found.app_ports, found.app_path, found.app_fetched) == (None, None, None)
