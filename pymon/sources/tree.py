"""Follows the cgroup trees with inotify, instead of walking them at every scrape.

A cgroup is created and removed only by mkdir(2) and rmdir(2). The kernel reports both to a watch on the parent
directory (inotify(7)). So the cost of a change is its events.

Version 1 has a tree for each controller, and most containers are in all of them. A watch costs kernel memory, and their
number is limited for the whole host, so only as many trees are followed as are needed to see every group: the first,
and those that have groups which no followed tree has. The other trees are walked at long intervals, and followed from
the time that such a group is found in them.

A directory that cannot be watched (fs.inotify.max_user_watches) is listed at intervals. What cannot be listed stays as
it was known, and is listed again later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from inotify_simple import Event, INotify, flags, parse_events

from pymon.sources.errors import SourceError

LIST_SECONDS, LIST_SHARE = 1.0, 0.1
"""Unwatched directories are listed at this interval, or a longer one, so that listing takes this share of the time."""

SCAN_SECONDS, SCAN_SHARE = 10.0, 0.01
"""The same, for walks through the trees that are not followed."""

SETTLE_SECONDS = 1.0
"""A tree is followed if it has a group alone for this long: a runtime makes directories one tree after the other."""

COUNT_SHARE = 0.01
"""Share of the time that counting the kernel's watches may take."""

LINGER_SECONDS = (0.02, 0.5)
"""The first and the longest pause between two looks for groups that are left in trees which are not followed. The pause
doubles. A runtime removes the directories of a group one tree after the other, within milliseconds.
"""

_MASK = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ONLYDIR | flags.EXCL_UNLINK
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)
_EVENT_BYTES = 16384
_LINGERING_EACH = 256
_SUSPECTS = 64
_NO_SUBDIRECTORIES = 2
_BATCH = 256
_FDINFO_BYTES = 64 << 20


class Verdict(Enum):
    """What to do with a path of the tree."""

    PASS = auto()  # do not report it, descend
    GROUP = auto()  # report it, do not descend
    GROUP_AND_BELOW = auto()  # report it and descend
    IGNORE = auto()  # neither report nor descend


_REPORTED = (Verdict.GROUP, Verdict.GROUP_AND_BELOW)
_DESCENDED = (Verdict.PASS, Verdict.GROUP_AND_BELOW)


@dataclass(slots=True, eq=False)
class Group:
    """A reported cgroup.

    tree, inode: where it was first seen, and its directory there. trees: the followed trees that have it.
    """

    path: str
    tree: int
    inode: int
    trees: set[int]


class News(Enum):
    """What has happened to a group."""

    CAME = auto()
    SPREAD = auto()  # one more of the followed trees has it
    WENT = auto()


class Change(NamedTuple):
    """What has happened to which group."""

    news: News
    group: Group


def differences(before: Mapping[str, Group], after: Mapping[str, Group]) -> list[Change]:
    """Return the changes from the groups of one walk to those of a later one, by path.

    Groups that are the same have spread: which trees have them may have changed.
    """
    same = {
        path
        for path, group in after.items()
        if (old := before.get(path)) is not None and (old.tree, old.inode) == (group.tree, group.inode)
    }
    return [
        *(Change(News.WENT, group) for path, group in before.items() if path not in same),
        *(Change(News.SPREAD if path in same else News.CAME, group) for path, group in after.items()),
    ]


@dataclass(slots=True, eq=False)
class _Directory:
    """A directory of a followed tree. below: known subdirectories by name, None if it is not looked into."""

    tree: int
    path: str
    inode: int
    parent: _Directory | None
    below: dict[str, _Directory] | None = None
    watch: int = 0


@dataclass(slots=True)
class _Pace:
    """Work that is done at intervals, for at most a share of the time. due: when to begin again."""

    interval: float
    share: float
    due: float = 0.0
    spent: float = 0.0

    def ended(self, now: float) -> None:
        self.due = now + max(self.interval, self.spent / self.share)
        self.spent = 0.0


class CgroupTree:
    """Follows directories in several trees with common paths, as version 1 hierarchies are.

    A path is reported when a followed tree has it, and as gone when no tree has it any more. Only one thread may call
    this, except for the numbers of groups, directories and watches. groups: the reported cgroups by path.
    """

    def __init__(
        self, roots: Sequence[Path], judge: Callable[[str], Verdict], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Walk the trees and start to follow them. `take` returns the groups that were found.

        roots: the tree that is always followed comes first. judge: returns the verdict on a path; "/" is the root.
        clock: seconds.

        Raises SourceError when a root cannot be listed.
        """
        self.groups: dict[str, Group] = {}
        self._roots = [os.fspath(root) for root in roots]
        self._judge = judge
        self._clock = clock
        self._changes: list[Change] = []
        self._tops: dict[int, _Directory] = {}
        self._watches: dict[int, _Directory] = {}
        self._events: deque[Event] = deque()
        self._fresh: dict[_Directory, None] = {}  # to be looked into for the first time
        self._unwatched: dict[_Directory, None] = {}
        self._unlisted: dict[_Directory, None] = {}  # could not be listed
        self._again: dict[_Directory, None] = {}  # those of the present round that are left
        self._overflown = False
        self._listing = _Pace(LIST_SECONDS, LIST_SHARE)
        self._scan: Iterator[tuple[int, str] | None] | None = None
        self._scanning = _Pace(SCAN_SECONDS, SCAN_SHARE)
        self._suspects: dict[tuple[int, str], float] = {}
        self._lingering: dict[str, tuple[int, int]] = {}
        self._linger_due, self._linger_pause = 0.0, LINGER_SECONDS[0]
        self._counted: tuple[int | None, float] = (0, 0.0)  # watches, and when to count them again
        for root in self._roots:
            try:
                os.scandir(root).close()
            except OSError as error:
                raise SourceError.from_os_error(root, error) from error
        self._inotify: INotify | None = None
        with contextlib.suppress(OSError):  # fs.inotify.max_user_instances: every directory is listed at intervals
            self._inotify = INotify(inheritable=False, nonblocking=True)
        self._fdinfo = f"/proc/self/fdinfo/{self._inotify.fileno()}" if self._inotify else ""
        try:
            for tree in self._needed():
                self._adopt(tree)
            while self.follow(_BATCH):
                pass
        except BaseException:
            self.close()
            raise
        self._scanning.ended(self._clock())

    def fileno(self) -> int | None:
        """Return a descriptor that is readable when `follow` has events, or None without inotify."""
        return None if self._inotify is None else self._inotify.fileno()

    @property
    def watched(self) -> int:
        """Number of directories that are watched."""
        return len(self._watches)

    @property
    def unwatched(self) -> int:
        """Number of directories that cannot be watched and are listed at intervals."""
        return len(self._unwatched)

    def take(self) -> list[Change]:
        """Return the changes since the last call, in order."""
        changes, self._changes = self._changes, []
        return changes

    def refresh(self) -> list[Change]:
        """Bring `groups` up to date, however long it takes. Return the changes."""
        while self.follow(_BATCH):
            pass
        self.look_for_lingering()
        self._listing.due = self._scanning.due = 0.0
        while self.follow(_BATCH) or self.wait_seconds() == 0:
            self.look_again(_BATCH)
        return self.take()

    def follow(self, limit: int) -> bool:
        """Handle up to `limit` events, and look into as many new directories. Return whether there may be more."""
        some = bool(self._events) or self._read()
        for _ in range(min(limit, len(self._events))):
            self._handle(self._events.popleft())
        self._list_some(self._fresh, limit)
        return some or bool(self._fresh)

    def look_again(self, limit: int) -> None:
        """Do a part of what is due at intervals: at most `limit` directories."""
        began = self._clock()
        if not self._again and began >= self._listing.due:
            self._again = {**self._unwatched, **self._unlisted}
            self._unlisted.clear()
            if self._overflown:
                self._again |= dict.fromkeys(self._known())
                self._overflown = False
        if self._again:
            self._list_some(self._again, limit)
            self._listing.spent += self._clock() - began
            if not self._again:
                self._listing.ended(self._clock())
        elif began >= self._scanning.due and len(self._tops) < len(self._roots):
            self._scan_on(limit)
            self._scanning.spent += self._clock() - began
            if self._scan is None:
                self._scanning.ended(self._clock())
        self._judge_suspects()

    @property
    def lingering(self) -> int:
        """Number of groups that only trees which are not followed still have."""
        return len(self._lingering)

    @property
    def lingering_is_due(self) -> bool:
        """Whether `look_for_lingering` has been called too long ago."""
        return bool(self._lingering) and self._clock() >= self._linger_due

    def look_for_lingering(self) -> None:
        """Find out whether groups that are left in trees which are not followed are still there."""
        self._linger_due = self._clock() + self._linger_pause
        self._linger_pause = min(2 * self._linger_pause, LINGER_SECONDS[1])
        for path in list(islice(self._lingering, _LINGERING_EACH)):
            tree, inode = self._lingering.pop(path)
            found = self._inode(tree, path)
            if found == inode:
                self._lingering[path] = (tree, inode)
            elif found is None:
                self._left(self.groups[path])
            else:
                self._vanish(self.groups[path])  # removed and created again

    def wait_seconds(self) -> float | None:
        """Return after how many seconds something is due, 0 if it is now, None if nothing but an event can come."""
        if self._events or self._fresh or self._again or self._scan:
            return 0.0
        dues = []
        if self._unwatched or self._unlisted or self._overflown:
            dues.append(self._listing.due)
        if len(self._tops) < len(self._roots):
            dues.append(self._scanning.due)
        if self._lingering:
            dues.append(self._linger_due)
        dues += (since + SETTLE_SECONDS for since in self._suspects.values())
        return max(0.0, min(dues) - self._clock()) if dues else None

    def kernel_watches(self) -> int | None:
        """Return how many watches the kernel has for this tree, None if /proc does not say.

        The kernel keeps the watch of a cgroup that is gone until it is removed, so this may exceed `watched`. They are
        counted at most as often as takes `COUNT_SHARE` of the time.
        """
        found, due = self._counted
        began = time.monotonic()
        if self._fdinfo and began >= due:
            found = _count_watches(self._fdinfo)
            ended = time.monotonic()
            self._counted = (found, ended + (ended - began) / COUNT_SHARE)
        return found

    def close(self) -> None:
        """Close the inotify instance, with which the kernel drops all watches."""
        if self._inotify is not None:
            self._inotify.close()

    # Which trees are followed.

    def _needed(self) -> list[int]:
        """Return the trees to follow: the first, and those that have most of the groups which are still missing."""
        found: dict[int, set[str]] = {}
        for tree in range(len(self._roots)):
            found[tree] = set()
            with contextlib.suppress(OSError):  # the next walk tells
                found[tree].update(path for path in self._walk(tree) if path is not None)
        chosen = [0]
        missing = set().union(*found.values()) - found[0]
        while missing:
            best = max(found, key=lambda tree: len(found[tree] & missing))
            chosen.append(best)
            missing -= found[best]
        return chosen

    def _adopt(self, tree: int) -> None:
        """Follow a tree from now on. Its directories are looked into by the next calls of `follow`."""
        inode = self._inode(tree, "/")
        top = self._tops[tree] = _Directory(tree, "/", inode or 0, None)
        if inode is not None:
            self._judged(top)

    def _walk(self, tree: int) -> Iterator[str | None]:
        """Yield the paths of the groups of a tree, and None after each directory. Raises OSError."""
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            verdict = self._judge(path)
            if verdict in _REPORTED:
                yield path
            if verdict in _DESCENDED:
                waiting += (_join(path, name) for name, _ in self._children(tree, path))
            yield None

    def _scan_all(self) -> Iterator[tuple[int, str] | None]:
        for tree in range(len(self._roots)):
            if tree not in self._tops:
                with contextlib.suppress(OSError):  # the next walk tells
                    for path in self._walk(tree):
                        yield None if path is None else (tree, path)

    def _scan_on(self, limit: int) -> None:
        if self._scan is None:
            self._scan = self._scan_all()
        for found in self._scan:
            if found is None:
                limit -= 1
                if limit <= 0:
                    return
            elif found[1] not in self.groups and len(self._suspects) < _SUSPECTS:
                self._suspects.setdefault(found, self._clock())
        self._scan = None

    def _judge_suspects(self) -> None:
        """Follow the trees that have had a group alone for some time."""
        for (tree, path), since in list(self._suspects.items()):
            if self._clock() - since >= SETTLE_SECONDS:
                del self._suspects[tree, path]
                if tree not in self._tops and path not in self.groups and self._inode(tree, path) is not None:
                    self._adopt(tree)

    # Events.

    def _read(self) -> bool:
        """Read events. Return whether there were any."""
        if self._inotify is None:
            return False
        try:
            self._events.extend(parse_events(os.read(self._inotify.fileno(), _EVENT_BYTES)))
        except (BlockingIOError, InterruptedError):
            return False
        return True

    def _handle(self, event: Event) -> None:
        if event.mask & flags.Q_OVERFLOW:
            self._overflown = True
            return
        parent = self._watches.get(event.wd)
        if parent is None or parent.below is None:
            return
        if event.mask & flags.IGNORED:  # the kernel removed the watch together with the directory
            del self._watches[event.wd]
            parent.watch = 0
        elif event.mask & flags.ISDIR and event.mask & (flags.CREATE | flags.MOVED_TO):
            inode = self._inode(parent.tree, _join(parent.path, event.name))
            if inode is not None:
                self._enter(parent, event.name, inode)
        elif event.mask & flags.ISDIR and event.name in parent.below:
            self._leave(parent.below[event.name])

    # Directories.

    def _enter(self, parent: _Directory, name: str, inode: int) -> None:
        """Take in a directory that exists, in place of an earlier one of its name."""
        if parent.below is None:
            return
        known = parent.below.get(name)
        if known is not None:
            if known.inode == inode:
                return
            self._leave(known)  # removed and created again
        self._judged(_Directory(parent.tree, _join(parent.path, name), inode, parent))

    def _judged(self, directory: _Directory) -> None:
        """Report a new directory and look into it, as its verdict says."""
        verdict = self._judge(directory.path)
        if verdict is Verdict.IGNORE:
            return
        if directory.parent is not None and directory.parent.below is not None:
            directory.parent.below[directory.path.rpartition("/")[2]] = directory
        if verdict in _REPORTED:
            self._report(directory)
        if verdict in _DESCENDED:
            directory.below = {}
            self._watch(directory)
            self._fresh[directory] = None

    def _report(self, directory: _Directory) -> None:
        path, tree, inode = directory.path, directory.tree, directory.inode
        group = self.groups.get(path)
        if group is not None and path in self._lingering and self._lingering.pop(path) != (tree, inode):
            self._vanish(group)  # it had left the followed trees, so this is another one
            group = None
        if group is None:
            group = self.groups[path] = Group(path, tree, inode, set())
            self._changes.append(Change(News.CAME, group))
        elif tree not in group.trees:
            self._changes.append(Change(News.SPREAD, group))
        group.trees.add(tree)

    def _leave(self, top: _Directory) -> None:
        """Forget a directory and all below it."""
        if top.parent is not None and top.parent.below is not None:
            del top.parent.below[top.path.rpartition("/")[2]]
        for directory in reversed(list(_with_descendants(top))):
            for known in (self._fresh, self._again, self._unwatched, self._unlisted):
                known.pop(directory, None)
            self._unwatch(directory)
            group = self.groups.get(directory.path)
            if group is not None and directory.tree in group.trees:
                group.trees.remove(directory.tree)
                if not group.trees:
                    self._left(group)

    def _left(self, group: Group) -> None:
        """Handle that no followed tree has a group any more."""
        for tree in range(len(self._roots)):
            if tree not in self._tops:
                inode = self._inode(tree, group.path)
                if inode is not None:
                    self._lingering[group.path] = (tree, inode)
                    self._linger_pause = LINGER_SECONDS[0]
                    self._linger_due = self._clock() + self._linger_pause
                    return
        self._vanish(group)

    def _vanish(self, group: Group) -> None:
        del self.groups[group.path]
        self._changes.append(Change(News.WENT, group))

    def _known(self) -> Iterator[_Directory]:
        """Yield the directories that are looked into."""
        for top in self._tops.values():
            yield from (directory for directory in _with_descendants(top) if directory.below is not None)

    def _watch(self, directory: _Directory) -> None:
        if self._inotify is not None:
            try:
                directory.watch = self._inotify.add_watch(
                    os.fsencode(self._full(directory.tree, directory.path)), _MASK
                )
            except OSError as error:
                if error.errno in _GONE:
                    return
            else:
                before = self._watches.get(directory.watch)
                if before is not None and before is not directory:
                    before.watch = 0  # it was renamed to this one, and the event that says so is still to come
                self._watches[directory.watch] = directory
                self._unwatched.pop(directory, None)
                return
        self._unwatched[directory] = None

    def _unwatch(self, directory: _Directory) -> None:
        if directory.watch and self._inotify is not None:
            del self._watches[directory.watch]
            # The kernel removes the watch of a removed directory, except in a cgroup file system.
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(directory.watch)
            directory.watch = 0

    def _list_some(self, waiting: dict[_Directory, None], limit: int) -> None:
        for directory in list(islice(waiting, limit)):
            if directory in waiting:  # not when one before it has shown that it is gone
                del waiting[directory]
                self._list(directory)

    def _list(self, directory: _Directory) -> None:
        """Compare the content of a directory with what is known of it."""
        if directory in self._unwatched:
            self._watch(directory)  # there may be a watch for it by now
        try:
            children = dict(self._children(directory.tree, directory.path))
        except OSError:  # EMFILE, ENFILE, ENOMEM: the content is unknown, so nothing has gone
            self._unlisted[directory] = None
            return
        for name in [name for name in directory.below or () if name not in children]:
            self._leave((directory.below or {})[name])
        for name, inode in children.items():
            self._enter(directory, name, inode)

    def _children(self, tree: int, path: str) -> Iterable[tuple[str, int]]:
        """Return the subdirectories of a directory with their inodes; none if it is gone. Raises OSError."""
        full = self._full(tree, path)
        try:
            # A cgroup file system counts subdirectories as links. To list the files would cost ten times as much.
            if os.lstat(full).st_nlink == _NO_SUBDIRECTORIES:
                return ()
            with os.scandir(full) as entries:
                return [(entry.name, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno in _GONE:
                return ()
            raise

    def _full(self, tree: int, path: str) -> str:
        return self._roots[tree] if path == "/" else self._roots[tree] + path

    def _inode(self, tree: int, path: str) -> int | None:
        try:
            return os.lstat(self._full(tree, path)).st_ino
        except OSError:
            return None


def _with_descendants(top: _Directory) -> Iterator[_Directory]:
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        yield directory
        waiting += (directory.below or {}).values()


def _count_watches(fdinfo: str) -> int | None:
    found, left = 0, _FDINFO_BYTES
    try:
        with open(fdinfo, "rb") as lines:  # noqa: PTH123 - Path.open does the same with more
            for line in lines:
                found += line.startswith(b"inotify ")
                left -= len(line)
                if left < 0:
                    return None
    except OSError:
        return None
    return found


def _join(parent: str, name: str) -> str:
    return parent + name if parent == "/" else f"{parent}/{name}"
