"""Expositions put together in steps: what is too much is said before the work, or ends it, and costs nobody else."""

import gzip
import itertools

import pytest

from pymon.inventory_document import Container
from pymon.proxy import account_work
from pymon.proxy.account_work import MAX_PART_ADDENDS, MAX_PART_BYTES, Parts, TooLargeError, Work, outsized
from pymon.proxy.places import NodeView, Place
from tests.proxy.running import EXPOSITION

MIB = 1 << 20


def place(number, node="n1", groups=()):
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    container = Container(uuid, "/x", "x", "docker", "r", "i", 1.0, "a", "running", "", tuple(groups), "", "", "", "")
    return Place(container, NodeView(node, "u", node), None)


def series(count, name="a_total", kind="counter"):
    lines = "".join(f'{name}{{i="{number}"}} 1\n' for number in range(count))
    return f"# TYPE {name} {kind}\n{lines}".encode()


def work_on(bodies, by=None, *, compress=False, until=1e9, clock=lambda: 0.0, most=48 * MIB):
    """bodies: (place, body) each."""
    parts = Parts()
    for one, body in bodies:
        parts.put(one.container.uuid, one.node.name, body)
    places = [one for one, _ in bodies]
    return parts, Work(places, parts, by, gzip=compress, until=until, clock=clock, most=most)


def run(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def pieces(work):
    run(work.combining())
    last = False
    while not last:
        piece, last = run(work.writing())
        yield piece


def result(work):
    return b"".join(pieces(work))


def steps_of(work):
    yield from work.combining()
    last = False
    while not last:
        _, last = yield from work.writing()


def successes(body):
    return [int(line[-1:]) for line in body.splitlines() if line.startswith(b"pymon_container_scrape_success{")]


def test_the_answer_is_all_parts_and_their_success():
    given = [(place(1), EXPOSITION), (place(2, "n2"), b"x"), (place(3), EXPOSITION)]
    parts, work = work_on(given)
    body = result(work)
    assert body.count(b"cpu_seconds_total{uuid=") == 2
    assert successes(body) == [1, 0, 1]
    assert "00000002" in parts.problem
    assert gzip.decompress(result(work_on(given, compress=True)[1])) == body


def test_a_hundred_groups_of_a_large_body_are_refused_before_anything_is_read(monkeypatch):
    groups = [f"g{number}" for number in range(100)]
    parts, work = work_on([(place(1, groups=groups), series(40_000)), (place(2), EXPOSITION)], "group")
    monkeypatch.setattr(account_work, "MAX_PART_BYTES", 16 * MIB)
    body = result(work)
    assert successes(body) == [0, 1]
    assert f"come to 4000100 series, more than {MAX_PART_ADDENDS}" in parts.problem
    assert b"cpu_seconds_total 12.5\n" in body
    assert parts.too_large == 1


def test_a_long_label_for_each_of_a_hundred_groups_is_refused_before_anything_is_read():
    groups = [f"g{number}" for number in range(100)]
    body = b'# TYPE a counter\na{x="%b"} 1\n' % (b"x" * 200_000)
    parts, work = work_on([(place(1, groups=groups), body), (place(2), EXPOSITION)], "group")
    assert successes(result(work)) == [0, 1]
    assert " bytes, more than " in parts.problem


def test_a_container_whose_metrics_are_too_large_is_not_taken():
    parts, work = work_on([(place(1), b"x" * (MAX_PART_BYTES + 1)), (place(2), EXPOSITION)])
    assert (parts.size, parts.too_large) == (len(EXPOSITION), 1)
    assert successes(result(work)) == [0, 1]


def test_sums_are_bounded_while_they_are_made(monkeypatch):
    monkeypatch.setattr(account_work, "MAX_SERIES", 5000)
    bodies = [(place(n, groups=("a",)), series(2000, f"m{n}_total")) for n in range(10)]
    steps = steps_of(work_on(bodies, "group")[1])
    with pytest.raises(TooLargeError, match="by=group gives more than 5000 series"):
        for _ in steps:
            pass


@pytest.mark.parametrize("by", [None, "group"])
def test_what_is_held_is_bounded_while_it_grows(by):
    bodies = [(place(n, groups=("a",)), series(1000, f"m{n}_total")) for n in range(60)]
    size = sum(len(body) for _, body in bodies)
    _, work = work_on(bodies, by, most=size * 2)
    held = [size]
    with pytest.raises(TooLargeError, match=f"takes more than {size * 2} bytes"):
        held.extend(work.held_bytes for _ in steps_of(work))
    assert size <= max(held) <= size * 2


def test_ten_thousand_families_of_a_part_are_counted():
    body = b"".join(b"# TYPE f%d gauge\nf%d 1\n" % (n, n) for n in range(10_000))
    with pytest.raises(TooLargeError):
        result(work_on([(place(1), body)], most=4 * MIB)[1])


def test_the_work_of_all_parts_is_bounded_before_it_begins(monkeypatch):
    monkeypatch.setattr(account_work, "MAX_ADDENDS", 1000)
    with pytest.raises(TooLargeError, match="1212 series are to be put together, more than 1000"):
        next(work_on([(place(n), series(100)) for n in range(12)])[1].combining())


def test_a_node_whose_containers_are_outsized_gives_way_to_the_others(monkeypatch):
    monkeypatch.setattr(account_work, "MAX_ADDENDS", 1000)
    bodies = [(place(1, "n2"), series(900)), (place(2), series(100)), (place(3, "n3"), series(50))]
    parts, work = work_on(bodies)
    assert successes(result(work)) == [0, 1, 1]
    assert "node n2: its containers' metrics are too large" in parts.problem


def test_bytes_of_an_outsized_node_give_way_while_they_are_fetched():
    parts = Parts()
    for number in range(100):
        parts.put(f"good{number}", "n1", b"x" * 1000)
        parts.put(f"bad{number}", "n2", b"x" * 100_000)
        assert parts.give_way(MIB)
    assert sum(body is not None for body in parts.bodies.values()) >= 100
    assert all(parts.bodies[f"good{number}"] is not None for number in range(100))
    equal = Parts()
    equal.put("a", "n1", b"x" * MIB)
    equal.put("b", "n2", b"x" * MIB)
    assert not equal.give_way(MIB)


def test_outsized():
    assert outsized({}) is None
    assert outsized({"a": (10**9, 1)}) is None
    assert outsized({"a": (100, 10), "b": (100, 10)}) is None
    assert outsized({"a": (4000, 10), "b": (1000, 10)}) is None
    assert outsized({"a": (4001, 10), "b": (1000, 10)}) == "a"
    assert outsized({"a": (10**6, 20_000), "b": (100, 2)}) is None
    assert outsized({"a": (1000, 1), "b": (0, 0)}) == "a"


def test_a_node_that_takes_long_costs_the_others_nothing():
    clock = itertools.count(0.0, 0.5)
    bodies = [(place(n, "n1"), EXPOSITION) for n in range(100)] + [(place(200, "n2"), EXPOSITION)]
    parts, work = work_on(bodies, until=20.0, clock=lambda: next(clock))
    body = result(work)
    assert successes(body)[-1] == 1
    assert 1 < successes(body).count(1) < 40
    assert "node n1: its containers' metrics take too long" in parts.problem


def test_no_step_is_long():
    """As the driver counts: lines that are added up or written in one step."""
    parts, work = work_on([(place(n), series(2000, f"m{n % 3}_total")) for n in range(20)], "node")
    counts = [0, *(work._whole.series for _ in steps_of(work))]
    assert max(b - a for a, b in itertools.pairwise(counts)) <= 1001
    assert parts.problem == ""
