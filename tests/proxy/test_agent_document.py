"""What an agent tells of its containers, as it is read."""

from __future__ import annotations

import json
import math
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon import inventory_document
from pymon.inventory_document import Container
from pymon.proxy import agent_document
from pymon.proxy.agent_document import decode_inventory, text_bytes
from tests.proxy.inventories import (
    document,
    inventory,
    node_of,
    row,
    uuid_of,
)


def test_of_a_node_with_too_many_services_those_with_most_are_left_out() -> None:
    few, many = "web:80,db:5432", ",".join(f"s{number}:{number}" for number in range(1, 65))
    body = document(*(row(number, services=few if number % 2 else many) for number in range(1, 2001)))
    found = decode_inventory(body, limit=2000)
    left = [container.services for container in found.containers.values()]
    assert left.count(few) == 1000
    assert 500 < left.count(many) < 600  # 15 kB each, of 8 MiB
    assert found.left_out == 1000 - left.count(many)


@pytest.mark.parametrize("addresses", [["x"] * 50_000, [f"{number:x}::" for number in range(25_000)]])
def test_what_is_no_address_or_one_too_many_costs_little(addresses: list[str]) -> None:
    found = inventory(row(1, addresses=addresses, groups=["!"] * 500))
    container = found.containers[uuid_of(1)]
    assert container.addresses == tuple(str(ip_address(one)) for one in addresses[:64] if one != "x")
    assert container.groups == ()
    asked: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inventory_document, "_address", lambda text: asked.append(text) or "")
        inventory(row(1, addresses=addresses))
    assert len(asked) < 500


@pytest.mark.parametrize("character", ["x", "\N{GRINNING FACE}"])
def test_of_a_document_with_too_much_text_those_with_the_longest_are_left_out(character: str) -> None:
    few, many = 60, 500
    long = [row(number, name=character + "x" * 200_000) for number in range(1, few + 1)]
    short = [row(number, name=character) for number in range(few + 1, few + many)]
    body = json.dumps(
        {"node": {"uuid": node_of(1), "hostname": "h"}, "containers": [*long, *short]}, ensure_ascii=False
    )
    found = decode_inventory(body.encode(), limit=1000)
    assert {one["uuid"] for one in short} <= found.containers.keys()
    assert found.left_out == few + many - 1 - len(found.containers)
    assert few // 10 < found.left_out < few
    assert sum(map(text_bytes, found.containers.values())) <= 8 << 20
    assert decode_inventory(body.encode(), limit=20_000).left_out == {"x": 0}.get(character, 31)


def test_a_document_is_read() -> None:
    found = inventory(row(7, owner="alice", groups=["a", "b"], new_field={"x": [1]}), hostname='a "quoted"\r\nhost')
    assert (found.uuid, found.hostname, found.refused) == (node_of(1), 'a "quoted"\r\nhost', 0)
    assert found.containers[uuid_of(7)] == Container(**row(7, owner="alice", groups=("a", "b")))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<!DOCTYPE html><html></html>", b"null", b"[]", b"{}", b"\xff", b'{"node":{"uuid":"' + b"\xff" + b'"}}',
        document(row(1)) + b"x", document(row(1))[:-1], document(row(1, groups="web")), document(row(1, groups=[1])),
        document(row(1, groups=None)), document(row(1, name=None)), document(row(1, start="1")),
        document(row(1, addresses="198.18.1.2")), document(row(1, addresses=[1])), document(row(1, addresses=None)),
        document(row(1, start=True)), document(row(1, start=math.nan)), document(row(1, start=math.inf)),
        document(row(1, uuid=5)), document(row(1)).replace(b'"name": "c1", ', b""),
        document(row(1, start=1)).replace(b'"start": 1', b'"start": 1e999'),
        document().replace(node_of(1).encode(), b"me"), document().replace(b'"containers": []', b'"containers": {}'),
        b'{"x":' + b"[" * 200_000, b'{"node":"\\udc', b'"\\ud800', b'{"node":"\\ud800\0"}',
    ],
    ids=range(29),
)  # fmt: skip
def test_what_is_no_inventory_is_a_value_error_of_one_line(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"^expected an inventory\b.*$") as caught:
        decode_inventory(body)
    assert "\n" not in str(caught.value)


def test_an_inventory_of_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_document, "MAX_CONTAINERS", 2)
    assert len(inventory(row(1), row(2)).containers) == 2
    with pytest.raises(ValueError, match="at most 2 containers"):
        inventory(row(1), row(2), row(3))


def test_uuids_and_owners_are_folded_to_lower_case() -> None:
    upper = "0B0F0C0D-1111-2222-3333-44444444ABCD"
    found = inventory(row(1, uuid=upper, owner="BOB"), row(2, owner="\N{KELVIN SIGN}im"))
    assert found.containers[upper.lower()].owner == "bob"
    assert found.containers[upper.lower()].uuid == upper.lower()
    assert found.containers[uuid_of(2)].owner == "\N{KELVIN SIGN}im"
    assert decode_inventory(document().replace(node_of(1).encode(), upper.encode())).uuid == upper.lower()


@pytest.mark.parametrize(
    "wrong",
    [
        {"uuid": "x"}, {"uuid": ""}, {"uuid": "0b0f0c0d-1111-2222-3333-44444444abcd\n"}, {"uuid": "0" * 32},
        {"uuid": "../../../../../../../../../../../../"}, {"uuid": "\N{KELVIN SIGN}" * 36}, {"start": -1},
        {"start": 1.7e12},
    ],
)  # fmt: skip
def test_a_container_that_cannot_be_costs_only_itself(wrong: dict[str, Any]) -> None:
    found = inventory(row(1), row(2, **wrong))
    assert list(found.containers) == [uuid_of(1)]
    assert found.refused == 1


def test_one_uuid_twice_in_a_node_is_the_newer_one() -> None:
    found = inventory(row(1, name="old", start=1), row(1, name="new", start=3), row(1, name="middle", start=2))
    assert found.containers[uuid_of(1)].name == "new"
    assert found.refused == 2
    assert inventory(row(1, name="first"), row(1, name="second")).containers[uuid_of(1)].name == "first"


def test_groups_that_would_forge_a_label_are_left_out() -> None:
    groups = ["web", "a,b", "", "web", "é", "x" * 101, "ok\n", *(f"g{number}" for number in range(200))]
    found = inventory(row(1, groups=groups)).containers[uuid_of(1)].groups
    assert found[:2] == ("web", "g0")
    assert len(found) == 100


def test_addresses_are_told_in_one_form() -> None:
    told = ["198.18.1.2", "2001:DB8:0::5", "198.18.1.2", "fd00::6", "255.255.255.255", "0.0.0.0"]
    found = inventory(row(1, addresses=told), row(2)).containers
    assert found[uuid_of(1)].addresses == ("198.18.1.2", "2001:db8::5", "fd00::6", "255.255.255.255", "0.0.0.0")
    assert found[uuid_of(2)].addresses == ()


def test_what_is_no_address_is_left_out() -> None:
    wrong = [
        "", "x", "198.18.1", "198.18.1.256", "198.18.01.2", "198.18.1.2\n", " 198.18.1.2", "198.18.1.2/24", "1.2.3.4.5",
        "fe80::1%eth0", "2001:db8::1::2", ":::", "[::1]", "0x7f.0.0.1", "127.1", "\0", "9" * 10_000,
    ]  # fmt: skip
    found = inventory(row(1, addresses=[*wrong, "198.18.1.2", *wrong])).containers[uuid_of(1)]
    assert found.addresses == ("198.18.1.2",)


def test_addresses_are_at_most_64() -> None:
    told = [f"198.18.{number // 256}.{number % 256}" for number in range(1000)]
    assert inventory(row(1, addresses=told)).containers[uuid_of(1)].addresses == tuple(told[:64])


@given(st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=20))))
def test_every_address_that_is_read_is_one(told: list[str]) -> None:
    found = inventory(row(1, addresses=told)).containers[uuid_of(1)].addresses
    assert [str(ip_address(text)) for text in found] == list(found)


def test_names_may_hold_anything_that_a_user_chose() -> None:
    name = 'a"b\\c\r\nd\0\x1b[31m\u2028😀'
    assert inventory(row(1, name=name)).containers[uuid_of(1)].name == name


def test_a_path_that_is_not_utf_8_does_not_spoil_the_node() -> None:
    texts = ["\udcff", "\\\udcff", "\\\\udcff", "\ud800\ud800x", "😀\udcffé", "\udcff" * 3, "\udcff\ud800", "a\\ud800"]
    found = inventory(*(row(number, name=text) for number, text in enumerate(texts)))
    expected = [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]
    assert [found.containers[uuid_of(number)].name for number in range(len(texts))] == expected
