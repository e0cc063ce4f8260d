"""Sums over containers whose samples have the labels container, namespace and pod."""

from __future__ import annotations

import pytest

from tests.proxy.aggregated import aggregate, exposition, merge, one

NAMES = {"container": "java", "id": "/a", "namespace": "shop", "pod": "web-0"}


def lines(body: bytes) -> list[str]:
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(("by", "key"), [("node", 'node="n1"'), ("service", 'service="web"'), ("group", 'group="g"')])
def test_they_are_not_in_sums(by: str, key: str) -> None:
    bodies = [
        exposition(("a_total", "counter", [(NAMES | {"pod": pod, "container": container, "cpu": "total"}, 1)]))
        for pod, container in (("web-0", "java"), ("web-1", ""))
    ]
    parts = [one(body, f"u{number}", services=("web",), groups=("g",)) for number, body in enumerate(bodies)]
    assert lines(aggregate(parts, by)) == [f'a_total{{{key},cpu="total"}} 2']


def test_a_container_of_kubernetes_and_another_are_one_sum() -> None:
    bodies = [exposition(("a_total", "counter", [(labels, 1)])) for labels in (NAMES, {"id": "/b"})]
    assert lines(aggregate([one(body, f"u{number}") for number, body in enumerate(bodies)], "node")) == [
        'a_total{node="n1"} 2'
    ]


@pytest.mark.parametrize("left", [("container", "pod"), ("namespace",), ("pod",)])
def test_a_plugins_own_label_of_such_a_name_stays(left: tuple[str, ...]) -> None:
    own = dict.fromkeys(left, "x")
    body = exposition(("a_total", "counter", [(own | {"id": "/a"}, 1)]))
    wanted = ",".join(f'{name}="x"' for name in sorted(own))
    assert lines(aggregate([one(body)], "node")) == [f'a_total{{node="n1",{wanted}}} 1']


def test_a_plugins_own_label_beside_them_stays() -> None:
    body = exposition(("a_total", "counter", [(NAMES | {"exported_pod": "x"}, 1)]))
    assert lines(aggregate([one(body)], "node")) == ['a_total{node="n1",exported_pod="x"} 1']


def test_all_samples_together_have_them() -> None:
    body = exposition(("a_total", "counter", [(NAMES, 1)]))
    (line,) = lines(merge([one(body)]))
    assert line == 'a_total{uuid="u1",node="n1",container="java",id="/a",namespace="shop",pod="web-0"} 1'
