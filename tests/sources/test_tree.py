"""The tree of groups over ordinary directories: inotify(7) tells of those as it does of a control group's."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from inotify_simple import Event, INotify, flags

from pymon.sources import tree as module
from pymon.sources.errors import SourceError
from pymon.sources.tree import CgroupTree, Change, News, Verdict

SIGNS = {News.CAME: "+", News.SPREAD: "~", News.WENT: "-"}


class Clock:
    """Seconds, as they are set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Follower:
    """A tree over two roots. Names with an `x` are not looked below, `y` are no groups."""

    def __init__(self, roots: list[Path]) -> None:
        self.clock = Clock()
        self.tree = CgroupTree(roots, self.judge, clock=self.clock)
        self.first = self._signs(self.tree.take())

    @staticmethod
    def judge(path: str) -> Verdict:
        last = path.rpartition("/")[2]
        if path == "/" or last.startswith("y"):
            return Verdict.PASS
        if last.startswith("z"):
            return Verdict.IGNORE
        return Verdict.GROUP if last.startswith("x") else Verdict.GROUP_AND_BELOW

    @staticmethod
    def _signs(changes: list[Change]) -> list[tuple[str, str]]:
        return [(SIGNS[change.news], change.group.path) for change in changes]

    def news(self) -> list[tuple[str, str]]:
        """What was reported since the last call, after a refresh."""
        return self._signs(self.tree.refresh())

    def news_of_events(self) -> list[tuple[str, str]]:
        """What events have told since the last call."""
        while self.tree.follow(100):
            pass
        return self._signs(self.tree.take())


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
    assert sorted(follower.first) == [("+", "/a"), ("+", "/a/b"), ("+", "/x1"), ("+", "/y1/c")]
    assert follower.tree.unwatched == 0
    # the root, a, a/b, y1, y1/c; the other root has no group
    assert follower.tree.watched == follower.tree.kernel_watches() == 5


@pytest.mark.parametrize("watches", [None, 2, 0], ids=["watched", "some", "none"])
def test_comings_and_goings(follow, roots, limit, watches):
    limit["watches"] = watches
    follower = follow()
    assert follower.news() == []
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]
    (roots[1] / "a").mkdir()
    assert follower.news() == []
    (roots[0] / "a/b").mkdir()
    assert follower.news() == [("+", "/a/b")]
    (roots[0] / "a/b").rmdir()
    (roots[0] / "a").rmdir()
    assert follower.news() == [("-", "/a/b")], "the other tree still has it"
    (roots[1] / "a").rmdir()
    assert follower.news() == [("-", "/a")]
    assert not follower.tree.groups
    assert follower.tree.watched + follower.tree.unwatched == 1, "the root alone"


@pytest.mark.parametrize("watches", [None, 2, 0], ids=["watched", "some", "none"])
def test_comings_and_goings_in_two_trees(follow, roots, limit, watches):
    for root, name in zip(roots, ("a", "b"), strict=True):
        (root / name).mkdir()
    limit["watches"] = watches
    follower = follow()
    assert follower.first == [("+", "/a"), ("+", "/b")]
    (roots[1] / "a").mkdir()
    assert follower.news() == [("~", "/a")]
    (roots[0] / "a").rmdir()
    assert follower.news() == []
    (roots[1] / "a").rmdir()
    assert follower.news() == [("-", "/a")]
    assert follower.tree.watched + follower.tree.unwatched == 3, "the roots and b"


def test_a_tree_is_followed_once_it_has_a_group_alone(follow, roots):
    follower = follow()
    (roots[1] / "y").mkdir()
    (roots[1] / "a").mkdir()
    assert follower.news() == []
    follower.clock.now += 0.9
    (roots[0] / "b").mkdir()
    assert follower.news() == [("+", "/b")], "the runtime may make the group in the first tree, too"
    follower.clock.now += 0.2
    assert follower.news() == [("+", "/a")]
    (roots[1] / "y" / "c").mkdir()
    assert follower.news_of_events() == [("+", "/y/c")]
    assert follower.tree.kernel_watches() == 6, "both roots, a, b, y, c"


def test_a_group_that_is_alone_for_a_moment_is_nothing(follow, roots):
    follower = follow()
    for name in ("a", "b"):
        (roots[1] / name).mkdir()
    assert follower.news() == []
    (roots[1] / "b").rmdir()
    (roots[0] / "a").mkdir()
    follower.clock.now += 2
    assert follower.news() == [("+", "/a")]
    assert follower.tree.watched == 2, "the first root, a"


def test_as_few_trees_as_have_all_groups(tmp_path, followers):
    roots = [tmp_path / name for name in ("first", "few", "most", "same")]
    for root, names in zip(roots, ("x1", "x1 x2", "x1 x2 x3", "x1 x2"), strict=True):
        for name in names.split():
            (root / name).mkdir(parents=True)
    followers.append(Follower(roots))
    assert sorted(followers[0].first) == [("+", "/x1"), ("+", "/x2"), ("+", "/x3"), ("~", "/x1")]
    assert followers[0].tree.kernel_watches() == 2


def test_one_that_left_the_followed_tree_and_came_back_is_another(follow, roots):
    for root in roots:
        (root / "x1").mkdir()
    follower = follow()
    (roots[0] / "x1").rmdir()
    assert follower.news() == []
    (roots[0] / "x1").mkdir()
    assert follower.news() == [("-", "/x1"), ("+", "/x1")]
    (roots[0] / "x1").rmdir()
    assert follower.news() == []
    held = os.open(roots[1] / "x1", os.O_RDONLY)
    (roots[1] / "x1").rmdir()
    (roots[1] / "x1").mkdir()
    os.close(held)
    assert follower.news() == [("-", "/x1")], "what is there now has never been in a followed tree"
    follower.clock.now += 2
    assert follower.news() == [("+", "/x1")]


def test_a_directory_that_is_moved_is_gone_and_new(follow, roots):
    (roots[0] / "y1/a/b").mkdir(parents=True)
    follower = follow()
    (roots[0] / "y1").rename(roots[0] / "y2")
    assert sorted(follower.news()) == [("+", "/y2/a"), ("+", "/y2/a/b"), ("-", "/y1/a"), ("-", "/y1/a/b")]
    (roots[0] / "y2/a/c").mkdir()
    assert follower.news_of_events() == [("+", "/y2/a/c")]


def test_a_directory_is_seen_under_its_new_name_before_the_old_one_is_known_to_be_gone(follow, roots):
    for name in "ab":
        (roots[0] / name).mkdir()
    follower = follow()
    (roots[0] / "a").rename(roots[0] / "c")
    (roots[0] / "c").rmdir()
    (roots[0] / "b").rename(roots[0] / "c")  # the event of the first rename finds this one
    assert ("-", "/b") in follower.news_of_events()
    assert follower.tree.groups.keys() == {"/c"}
    (roots[0] / "c/d").mkdir()
    assert follower.news_of_events() == [("+", "/c/d")]
    assert follower.tree.watched == follower.tree.kernel_watches() == 3, "the root, c, d"
    (roots[0] / "c/d").rmdir()
    (roots[0] / "c").rmdir()
    follower.news_of_events()
    assert not follower.tree.groups


def test_what_is_not_watched_is_listed_at_intervals(follow, roots, limit):
    limit["watches"] = 0
    follower = follow()
    assert follower.tree.wait_seconds() == 0
    follower.tree.look_again(100)
    assert follower.tree.wait_seconds() == pytest.approx(module.LIST_SECONDS)
    (roots[0] / "a").mkdir()
    follower.tree.look_again(100)
    assert follower.news_of_events() == []
    follower.clock.now += 1.1
    assert follower.tree.wait_seconds() == 0
    follower.tree.look_again(100)
    assert follower.news_of_events() == [("+", "/a")]


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
    assert follower.tree.unwatched == 1
    limit["watches"] = None
    (roots[0] / "a").mkdir()
    assert follower.news() == [("+", "/a")]
    assert (follower.tree.unwatched, follower.tree.watched) == (0, 2)


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
    monkeypatch.setattr(module, "parse_events", lambda _: [Event(-1, flags.Q_OVERFLOW, 0, "")])
    held = os.open(roots[0] / "x1", os.O_RDONLY)
    (roots[0] / "x1").rmdir()
    (roots[0] / "x1").mkdir()
    os.close(held)
    (roots[0] / "gone").rmdir()
    (roots[0] / "a/b").mkdir()
    (roots[1] / "a").mkdir()
    (roots[0] / "y1/new").mkdir(parents=True)
    assert sorted(follower.news()) == [
        ("+", "/a/b"), ("+", "/x1"), ("+", "/y1/new"), ("-", "/gone"), ("-", "/x1"),
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
    assert follower.first == [("+", f"/{name}")]
    other = os.fsdecode(b"\xfd")
    (roots[0] / other).mkdir()
    (roots[0] / other / "below").mkdir()
    (roots[0] / name).rmdir()
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


def cgroup_root() -> Path | None:
    """A cgroup file system in which this user may make groups."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and os.access(where, os.W_OK):
            return Path(where)
    return None


def counted(tree: CgroupTree, expected: int) -> None:
    """Wait until the kernel's count is this one: on a busy machine it is read less often."""
    deadline = time.monotonic() + 20
    while tree.kernel_watches() != expected:
        assert time.monotonic() < deadline, (tree.kernel_watches(), expected)
        time.sleep(0.01)


@pytest.mark.skipif(cgroup_root() is None, reason="no cgroup file system in which this user may make groups")
def test_the_kernel_keeps_no_watch_of_a_group_that_has_gone(followers):
    """A cgroup file system sends no IN_IGNORED, and keeps the watch."""
    root = cgroup_root() / f"y-pymon-test-{os.getpid()}"
    root.mkdir()
    try:
        followers.append(Follower([root]))
        follower = followers[-1]
        before = follower.tree.kernel_watches()
        for number in range(50):
            (root / f"y{number}").mkdir()
            (root / f"y{number}" / "a").mkdir()
            assert follower.news() == [("+", f"/y{number}/a")]
            counted(follower.tree, before + 2)
            (root / f"y{number}" / "a").rmdir()
            (root / f"y{number}").rmdir()
            assert follower.news() == [("-", f"/y{number}/a")]
        counted(follower.tree, before)
        assert follower.tree.watched == before
        (root / "y1").mkdir()
        (root / "y1/a").mkdir()
        assert follower.news() == [("+", "/y1/a")], "a name used again is watched again"
    finally:
        for directory, _, _ in os.walk(root, topdown=False):
            Path(directory).rmdir()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """While this runs, no file can be opened: the limit of descriptors is below those that are open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("watches", [None, 0], ids=["watched", "none"])
def test_without_descriptors_nothing_has_gone(follow, roots, limit, watches):
    limit["watches"] = watches
    (roots[0] / "a").mkdir()
    follower = follow()
    (roots[0] / "b/c").mkdir(parents=True)
    with no_descriptors():
        assert [change for change in follower.news() if change[0] == "-"] == []
    follower.clock.now += 60
    follower.tree.refresh()
    assert {"/a", "/b", "/b/c"} == follower.tree.groups.keys()
    (roots[0] / "b/c").rmdir()
    assert follower.news()[-1] == ("-", "/b/c")
