"""The tree of groups over ordinary directories: inotify(7) tells of those as it does of a control group's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import Event, INotify, flags

from pymon.sources import tree as module
from pymon.sources.errors import SourceError
from pymon.sources.tree import CgroupTree, Group, Verdict


class Follower:
    """A tree over two roots and what it reported. Names with an `x` are not looked below, `y` are no groups."""

    def __init__(self, roots: list[Path]) -> None:
        self.said: list[tuple[str, str]] = []
        self.tree = CgroupTree(
            roots, self.judge, appeared=self.note("+"), spread=self.note("~"), vanished=self.note("-")
        )

    @staticmethod
    def judge(path: str) -> Verdict:
        last = path.rpartition("/")[2]
        if path == "/" or last.startswith("y"):
            return Verdict.PASS
        if last.startswith("z"):
            return Verdict.IGNORE
        return Verdict.GROUP if last.startswith("x") else Verdict.GROUP_AND_BELOW

    def note(self, sign: str):
        def noted(group: Group) -> None:
            self.said.append((sign, group.path))

        return noted

    def news(self) -> list[tuple[str, str]]:
        """What was reported since the last call, after a refresh."""
        self.tree.refresh()
        said, self.said = self.said, []
        return said


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "memory", tmp_path / "cpu"]
    for root in made:
        root.mkdir()
    return made


@pytest.fixture
def limit() -> dict[str, int | None]:
    """How many watches there are; None is no limit."""
    return {"watches": None}


@pytest.fixture
def followers(monkeypatch: pytest.MonkeyPatch, limit: dict[str, int | None]) -> Iterator[list[Follower]]:
    class Limited(INotify):
        def add_watch(self, path, mask):
            if limit["watches"] is not None:
                if limit["watches"] <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                limit["watches"] -= 1
            return super().add_watch(path, mask)

    monkeypatch.setattr(module, "INotify", Limited)
    made: list[Follower] = []
    yield made
    for follower in made:
        follower.tree.close()


@pytest.fixture
def follow(followers: list[Follower], roots: list[Path]):
    def start() -> Follower:
        followers.append(Follower(roots))
        return followers[-1]

    return start


def test_what_is_there_at_the_start(follow, roots):
    for path in ("a", "a/b", "x1", "x1/below", "y1", "y1/c", "z1", "z1/d"):
        (roots[0] / path).mkdir()
    (roots[0] / "a/file").write_text("")
    follower = follow()
    assert sorted(follower.said) == [("+", "/a"), ("+", "/a/b"), ("+", "/x1"), ("+", "/y1/c")]
    assert follower.tree.unwatched == 0
    # roots, a, a/b, y1, y1/c
    assert follower.tree.watched == 6


@pytest.mark.parametrize("watches", [None, 2, 0], ids=["watched", "some", "none"])
def test_comings_and_goings(follow, roots, limit, watches):
    limit["watches"] = watches
    follower = follow()
    assert follower.news() == []
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]
    (roots[1] / "a").mkdir()
    assert follower.news() == [("~", "/a")]
    (roots[0] / "a/b").mkdir()
    assert follower.news() == [("+", "/a/b")]
    (roots[0] / "a/b").rmdir()
    (roots[0] / "a").rmdir()
    assert follower.news() == [("-", "/a/b")], "the other tree still has it"
    (roots[1] / "a").rmdir()
    assert follower.news() == [("-", "/a")]
    assert not follower.tree.groups
    assert follower.tree.watched + follower.tree.unwatched == 2, "the roots alone"


@pytest.mark.parametrize("watches", [None, 2, 0], ids=["watched", "some", "none"])
def test_a_whole_tree_at_once(follow, roots, limit, watches):
    limit["watches"] = watches
    follower = follow()
    (roots[0] / "y1/y2/a/b").mkdir(parents=True)
    assert follower.news() == [("+", "/y1/y2/a"), ("+", "/y1/y2/a/b")]
    for path in ("y1/y2/a/b", "y1/y2/a", "y1/y2", "y1"):
        (roots[0] / path).rmdir()
    assert sorted(follower.news()) == [("-", "/y1/y2/a"), ("-", "/y1/y2/a/b")]
    assert not follower.tree.groups


@pytest.mark.parametrize("watches", [None, 0], ids=["watched", "none"])
def test_made_anew_between_two_refreshes(follow, roots, limit, watches):
    """A held descriptor keeps the old inode's number from being given to the new directory."""
    limit["watches"] = watches
    (roots[0] / "x1").mkdir()
    follower = follow()
    follower.said.clear()
    held = os.open(roots[0] / "x1", os.O_RDONLY)
    (roots[0] / "x1").rmdir()
    (roots[0] / "x1").mkdir()
    os.close(held)
    assert follower.news() == [("-", "/x1"), ("+", "/x1")]


def test_come_and_gone_between_two_refreshes(follow, roots):
    follower = follow()
    (roots[0] / "a").mkdir()
    (roots[0] / "a").rmdir()
    assert follower.news() == []
    assert not follower.tree.groups


def test_watches_that_come_back_are_used(follow, roots, limit):
    limit["watches"] = 0
    follower = follow()
    assert follower.tree.unwatched == 2
    limit["watches"] = None
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]
    assert (0, "/a") not in follower.tree._unwatched
    assert follower.tree.watched >= 1


def test_without_inotify_everything_is_listed(follow, roots, monkeypatch):
    def none(*_: object, **__: object) -> INotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "INotify", none)
    follower = follow()
    assert follower.tree.fileno() is None
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]
    (roots[0] / "a").rmdir()
    assert follower.news() == [("-", "/a")]


def test_an_overflow_of_events_is_a_walk(follow, roots, monkeypatch):
    """The kernel drops events when more than fs.inotify.max_queued_events wait, and says so with one of its own."""
    for name in ("a", "gone", "x1"):
        (roots[0] / name).mkdir()
    follower = follow()
    follower.said.clear()
    lost = follower.tree._inotify.read

    def overflow(timeout: int | None = None) -> list[Event]:
        lost(timeout=timeout)
        return [Event(-1, flags.Q_OVERFLOW, 0, "")]

    monkeypatch.setattr(follower.tree._inotify, "read", overflow)
    held = os.open(roots[0] / "x1", os.O_RDONLY)
    (roots[0] / "x1").rmdir()
    (roots[0] / "x1").mkdir()
    os.close(held)
    (roots[0] / "gone").rmdir()
    (roots[0] / "a/b").mkdir()
    (roots[1] / "a").mkdir()
    (roots[0] / "y1/new").mkdir(parents=True)
    assert sorted(follower.news()) == [
        ("+", "/a/b"), ("+", "/x1"), ("+", "/y1/new"), ("-", "/gone"), ("-", "/x1"), ("~", "/a"),
    ]  # fmt: skip
    monkeypatch.undo()
    (roots[0] / "y1/later").mkdir()
    (roots[0] / "a/b/c").mkdir()
    assert sorted(follower.news()) == [("+", "/a/b/c"), ("+", "/y1/later")], "what the walk found is watched"


def test_a_real_overflow(follow, roots):
    follower = follow()
    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if queue > 100_000:
        pytest.skip(f"fs.inotify.max_queued_events is {queue}")
    for _ in range(queue // 2 + 10):
        (roots[0] / "flicker").mkdir()
        (roots[0] / "flicker").rmdir()
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]


def test_names_that_are_no_text(follow, roots):
    name = os.fsdecode(b"\xff\xfe")
    (roots[0] / name).mkdir()
    follower = follow()
    assert follower.said == [("+", f"/{name}")]
    other = os.fsdecode(b"\xfd")
    (roots[0] / other).mkdir()
    (roots[0] / other / "below").mkdir()
    (roots[0] / name).rmdir()
    follower.said.clear()
    assert sorted(follower.news()) == [("+", f"/{other}"), ("+", f"/{other}/below"), ("-", f"/{name}")]


def test_files_and_links_are_nothing(follow, roots):
    follower = follow()
    (roots[0] / "file").write_text("")
    (roots[0] / "link").symlink_to(roots[1])
    assert follower.news() == []


def test_a_root_that_cannot_be_listed(tmp_path):
    with pytest.raises(SourceError, match="nowhere"):
        Follower([tmp_path / "nowhere"])


def test_nothing_to_read_costs_no_event(follow):
    follower = follow()
    assert follower.tree.fileno() is not None
    assert follower.news() == []


def test_descriptors_are_given_back(roots):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        Follower(roots).tree.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
