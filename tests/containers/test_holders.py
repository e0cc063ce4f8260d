"""Which container has a UUID that several claim."""

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from pymon.containers.holders import LOOKS, Holders
from pymon.containers.identity import Basis, Claim

NODE = UUID("11111111-2222-5333-8444-555555555555")


def by_id(name):
    return Claim(uuid5(NODE, name), name, Basis.ID)


def by_path(row):
    return Claim(uuid5(NODE, f"path {row}"), f"path {row}", Basis.PATH)


def by_label(uuid):
    return Claim(uuid, "", Basis.LABEL)


class Node:
    """Containers whose processes a test chooses. looked: at which rows, in order."""

    def __init__(self) -> None:
        self.populated = set()
        self.looked = []
        self.holders = Holders(self._look)

    def _look(self, row):
        self.looked.append(row)
        return row in self.populated

    def add(self, row, *claims, age=None):
        return self.holders.claim(row, (*claims, by_path(row)), row if age is None else age)

    def names(self):
        return {row: self.holders.held(row).name for row in self.holders._claims}


def test_one_alone_has_what_it_claims_first_and_is_not_looked_at():
    node = Node()
    for row in range(100):
        assert node.add(row, by_id(f"id {row}")) == {}
    node.holders.review()
    assert node.holders.held(7) == by_id("id 7")
    assert node.looked == []


def test_a_leftover_gives_it_to_the_one_with_processes():
    node = Node()
    node.add(1, by_id("x"))
    node.populated = {2}
    assert node.add(2, by_id("x")) == {1: by_path(1)}
    assert node.names() == {1: "path 1", 2: "x"}


def test_a_leftover_that_comes_later_takes_nothing():
    node = Node()
    node.populated = {1}
    node.add(1, by_id("x"))
    assert node.add(2, by_id("x")) == {}
    assert node.names() == {1: "x", 2: "path 2"}


def test_it_follows_the_processes():
    node = Node()
    node.populated = {1}
    node.add(1, by_id("x"))
    node.add(2, by_id("x"))
    node.populated = {1, 2}
    assert node.holders.review() == {}, "the one that had it keeps it while it has processes"
    node.populated = {2}
    assert node.holders.review() == {1: by_path(1), 2: by_id("x")}
    node.populated = set()
    assert node.holders.review() == {}


def test_of_those_that_were_there_at_the_start_the_older_one_has_it():
    node = Node()
    node.populated = {1, 2}
    node.add(1, by_id("x"), age=9)
    node.add(2, by_id("x"), age=5)
    assert node.holders.begin() == {1: by_path(1), 2: by_id("x")}


def test_the_other_has_it_when_the_holder_goes():
    node = Node()
    node.populated = {1}
    node.add(1, by_id("x"))
    node.add(2, by_id("x"))
    assert node.holders.release(1) == {2: by_id("x")}
    assert node.holders.release(2) == {}
    assert not node.holders._rivals
    assert not node.holders._winner
    assert not node.holders._contested


def test_a_label_takes_nothing_that_is_made_of_another():
    node = Node()
    node.populated = {1}
    node.add(1, by_label(by_id("x").uuid), by_id("y"))
    node.add(2, by_label(by_path(3).uuid), by_id("z"))
    assert node.holders.missed(1) is None
    assert node.add(3, by_id("x")) == {1: by_id("y"), 2: by_id("z")}
    assert node.holders.missed(1) == by_label(by_id("x").uuid)
    assert node.names() == {1: "y", 2: "z", 3: "x"}


def test_one_label_for_two():
    node = Node()
    node.populated = {1, 2}
    node.add(1, by_label(NODE), by_id("x"))
    node.add(2, by_label(NODE), by_id("y"))
    assert node.names() == {1: "", 2: "y"}
    assert node.holders.missed(2) == by_label(NODE)
    assert node.add(1, by_id("x")) == {2: by_label(NODE)}, "the first has the label no longer"


def test_many_rivals_cost_a_bounded_number_of_looks_and_everybody_has_a_turn():
    node = Node()
    node.add(0, by_id("x"))
    for row in range(1, 1000):
        node.add(row, by_id("x"))
    node.populated = {999}
    reviews = 0
    while node.holders.held(999).name != "x":
        node.looked.clear()
        node.holders.review()
        assert len(node.looked) <= 2 * LOOKS
        reviews += 1
    assert reviews < 100
    node.looked.clear()
    node.holders.review()
    assert node.looked == [999]


def test_many_uuids_with_rivals_cost_a_bounded_number_of_looks_and_every_one_has_a_turn():
    node = Node()
    for row in range(0, 2000, 2):
        node.add(row, by_id(f"{row}"))
        node.add(row + 1, by_id(f"{row}"))
    node.populated = set(range(1, 2000, 2))
    for _ in range(100):
        node.looked.clear()
        node.holders.review()
        assert len(node.looked) <= 2 * LOOKS
    assert all(node.holders.held(row).basis is Basis.ID for row in node.populated)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["come", "label", "go", "run", "halt", "review", "begin"]),
        st.integers(0, 2),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_comes_and_goes_no_two_have_one_uuid_and_what_is_told_is_what_is_held(steps):
    node = Node()
    known = {}
    for row, step, name in steps:
        changes = {}
        if step in ("come", "label"):
            label = [by_label(by_id(f"{(name + 1) % 3}").uuid)] if step == "label" else []
            changes = node.add(row, *label, by_id(f"{name}"), age=-row)
            changes[row] = node.holders.held(row)
        elif step == "go":
            known.pop(row, None)
            changes = node.holders.release(row)
        elif step == "run":
            node.populated.add(row)
        elif step == "halt":
            node.populated.discard(row)
        elif step == "review":
            changes = node.holders.review()
        else:
            changes = node.holders.begin()
        known |= changes
        assert known == {row: node.holders.held(row) for row in node.holders._claims}
        assert len({claim.uuid for claim in known.values()}) == len(known)
    node.holders.review()
    for uuid, rivals in node.holders._rivals.items():
        equal = [rival.row for rival in rivals if rival.basis == rivals[0].basis]
        if node.populated.intersection(equal):
            assert node.holders._winner[uuid] in node.populated
