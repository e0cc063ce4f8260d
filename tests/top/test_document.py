"""The summary of a server, which may be hostile."""

import json

import pytest

from pymon.summary_document import COLUMNS
from pymon.top import document as module
from pymon.top.document import Row, SummaryError, decoded
from tests.top.summaries import document, row


def test_the_fields_of_a_row_are_the_columns_of_the_summary():
    assert Row.__struct_fields__ == COLUMNS


def test_a_summary():
    found = decoded(document(row("web", cpu_seconds=2, owner="a"), collectors={"zfs": False, "cpu": True}))
    (node,) = found.nodes
    assert (found.account, found.left_out, node.hostname, node.error, node.failing) == (None, 0, "node", "", ["zfs"])
    assert (node.rows[0].name, node.rows[0].cpu_seconds, node.rows[0].memory_bytes) == ("web", 2.0, None)
    away = {"uuid": "n", "hostname": "h", "error": "away", "containers": []}
    (node,) = decoded(json.dumps({"account": "a", "columns": COLUMNS, "nodes": [away]}).encode()).nodes
    assert (node.error, node.rows) == ("away", [])


def test_columns_are_found_by_name():
    ((found,),) = [node.rows for node in decoded(document([7, 5, "u"], columns=["memory_bytes", "new", "uuid"])).nodes]
    assert (found.uuid, found.memory_bytes, found.cpu_seconds, found.name) == ("u", 7.0, None, "")
    ((found,),) = [node.rows for node in decoded(document([*row("a"), 1], columns=[*COLUMNS, "new"])).nodes]
    assert found.name == "a"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"\xff", b"<html>", b"[" * 1_000_000, document(row("a"))[:-3], document(row("a")[:-1]),
        document([*row("a")[:-1], "x"]), document(row("a", name=7)), document(row("a"), time="now"),
        document([1], columns=["name"]), document([1, 2], columns=["uuid"]), document(row("a"), hostname=None),
        document(row("a")).replace(b'"time": 100.0', b'"time": 1e999'),
        b'{"columns":["uuid"],"nodes":[{"uuid":"n","hostname":"h","containers":{}}]}',
    ],
)  # fmt: skip
def test_what_is_no_summary_is_refused_in_one_line(body):
    with pytest.raises(SummaryError) as raised:
        decoded(body)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


def test_bounds(monkeypatch):
    monkeypatch.setattr(module, "MAX_CONTAINERS", 3)
    found = decoded(document(*(row(str(number)) for number in range(5))))
    assert ([one.name for one in found.nodes[0].rows], found.left_out) == (["0", "1", "2"], 2)
    with pytest.raises(SummaryError, match="more than 16 MiB"):
        decoded(b" " * (module.MAX_BYTES + 1))
    with pytest.raises(SummaryError, match="more than 3000000 items"):
        decoded(b'{"columns":[' + b"0," * 3_000_001)
    with pytest.raises(SummaryError, match="more than 200000 lists"):
        decoded(b'{"columns":[' + b"[]," * 200_000)
    found = decoded(document(*([str(number)] for number in range(5)), columns=["uuid"]))
    assert ([one.uuid for one in found.nodes[0].rows], found.left_out) == (["0", "1", "2"], 2)
    found = decoded(document(collectors={str(number): False for number in range(1000)}))
    assert len(found.nodes[0].failing) == module.MAX_FAILING
    node = {"uuid": "n", "hostname": "h", "error": "x", "containers": []}
    with pytest.raises(SummaryError, match="more than 1024 nodes"):
        decoded(json.dumps({"columns": COLUMNS, "nodes": [node] * 1025}).encode())
