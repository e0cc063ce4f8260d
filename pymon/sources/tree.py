"""Which groups there are: the cgroup trees, followed through inotify instead of walked at every scrape.

mkdir(2) and rmdir(2) are the only ways a group comes and goes, and the kernel reports both to a watch on the directory
above (inotify(7)). So a change costs its own events, and a scrape one read(2) that finds nothing. A directory that
cannot be watched (fs.inotify.max_user_watches) is listed again at each refresh instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from inotify_simple import INotify, flags

from pymon.sources.errors import SourceError

_MASK = flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ONLYDIR | flags.EXCL_UNLINK
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)


class Verdict(Enum):
    """What a path is to the one who follows the tree."""

    PASS = auto()  # nothing itself, look below
    GROUP = auto()  # to be reported, nothing below it matters
    GROUP_AND_BELOW = auto()  # to be reported, look below too
    IGNORE = auto()  # neither


@dataclass(slots=True)
class Group:
    """A reported group: its path, and the inode of its directory in each tree (by index) that has it."""

    path: str
    inodes: dict[int, int] = field(default_factory=dict)


class CgroupTree:
    """Follows directories in several trees that are one tree of paths, as version 1 hierarchies are.

    A path is reported when it appears in the first of them and again when it has left the last.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        judge: Callable[[str], Verdict],
        *,
        appeared: Callable[[Group], None],
        spread: Callable[[Group], None],
        vanished: Callable[[Group], None],
    ) -> None:
        """judge: the verdict on a path ("/" is the root). spread: a reported group appeared in one more tree.

        Raises SourceError when a root cannot be listed.
        """
        self.groups: dict[str, Group] = {}
        self._roots = [os.fspath(root) for root in roots]
        self._judge = judge
        self._appeared = appeared
        self._spread = spread
        self._vanished = vanished
        self._inotify: INotify | None = None
        self._watches: dict[int, tuple[int, str]] = {}
        self._descriptors: dict[tuple[int, str], int] = {}
        self._unwatched: dict[tuple[int, str], None] = {}
        for root in self._roots:
            try:
                os.scandir(root).close()
            except OSError as error:
                raise SourceError.from_os_error(root, error) from error
        try:
            self._inotify = INotify(inheritable=False, nonblocking=True)
        except OSError:  # fs.inotify.max_user_instances: every directory is listed at each refresh
            self._inotify = None
        self._walk_all()

    def fileno(self) -> int | None:
        """Readable when there is something to refresh; None without inotify."""
        return None if self._inotify is None else self._inotify.fileno()

    @property
    def watched(self) -> int:
        """Directories that are watched."""
        return len(self._watches)

    @property
    def unwatched(self) -> int:
        """Directories that have to be listed at each refresh."""
        return len(self._unwatched)

    def refresh(self) -> None:
        """Bring `groups` up to date."""
        overflow = False
        if self._inotify is not None:
            for event in self._inotify.read(timeout=0):
                if event.mask & flags.Q_OVERFLOW:
                    overflow = True
                elif event.mask & flags.IGNORED:
                    self._forget(event.wd)
                elif event.mask & flags.ISDIR and event.wd in self._watches:
                    tree, parent = self._watches[event.wd]
                    path = _join(parent, event.name)
                    if event.mask & (flags.CREATE | flags.MOVED_TO):
                        self._came(tree, path)
                    else:
                        self._went(tree, path)
        if overflow:
            self._walk_all()
        for tree, path in tuple(self._unwatched):
            self._list(tree, path)

    def close(self) -> None:
        """Stop following."""
        if self._inotify is not None:
            self._inotify.close()

    def _walk_all(self) -> None:
        for path, group in list(self.groups.items()):
            for tree, inode in list(group.inodes.items()):
                if self._inode(tree, path) != inode:
                    self._went(tree, path)
        for tree, path in [key for key in self._descriptors if self._inode(*key) is None]:
            self._drop(tree, path)
        for tree in range(len(self._roots)):
            self._enter(tree, "/", self._inode(tree, "/"))

    def _came(self, tree: int, path: str) -> None:
        inode = self._inode(tree, path)
        if inode is not None:
            self._enter(tree, path, inode)

    def _enter(self, tree: int, path: str, inode: int | None) -> None:
        """A directory is there: report it, look below it, as the verdict says."""
        if inode is None:
            return
        known = self.groups.get(path)
        if known is not None and known.inodes.get(tree, inode) != inode:
            self._went(tree, path)  # made anew since
        verdict = self._judge(path)
        if verdict in (Verdict.GROUP, Verdict.GROUP_AND_BELOW):
            self._report(tree, path, inode)
        if verdict in (Verdict.PASS, Verdict.GROUP_AND_BELOW):
            self._watch(tree, path)
            self._list(tree, path)

    def _report(self, tree: int, path: str, inode: int) -> None:
        group = self.groups.get(path)
        if group is None:
            group = self.groups[path] = Group(path, {tree: inode})
            self._appeared(group)
        elif tree not in group.inodes:
            group.inodes[tree] = inode
            self._spread(group)

    def _went(self, tree: int, path: str) -> None:
        if (tree, path) in self._unwatched:  # nobody tells what went from it before it went itself
            del self._unwatched[tree, path]
            for other in [other for other in self.groups if other.startswith(path + "/")]:
                self._went(tree, other)
        self._drop(tree, path)
        group = self.groups.get(path)
        if group is None or tree not in group.inodes:
            return
        del group.inodes[tree]
        if not group.inodes:
            del self.groups[path]
            self._vanished(group)

    def _drop(self, tree: int, path: str) -> None:
        self._unwatched.pop((tree, path), None)
        descriptor = self._descriptors.pop((tree, path), None)
        if descriptor is not None:
            del self._watches[descriptor]

    def _watch(self, tree: int, path: str) -> None:
        if (tree, path) in self._descriptors:
            return
        if self._inotify is None:
            self._unwatched[tree, path] = None
            return
        try:
            descriptor = self._inotify.add_watch(os.fsencode(self._full(tree, path)), _MASK)
        except OSError as error:
            if error.errno not in _GONE:  # ENOSPC: no watch left
                self._unwatched[tree, path] = None
            return
        self._unwatched.pop((tree, path), None)
        self._watches[descriptor] = (tree, path)
        self._descriptors[tree, path] = descriptor

    def _forget(self, descriptor: int) -> None:
        """The kernel dropped a watch because its directory went."""
        place = self._watches.pop(descriptor, None)
        if place is not None and self._descriptors.get(place) == descriptor:
            del self._descriptors[place]

    def _list(self, tree: int, path: str) -> None:
        """Look at what is in a directory: enter what came, and notice what went if nobody tells us."""
        seen = set()
        unwatched = (tree, path) in self._unwatched
        try:
            with os.scandir(self._full(tree, path)) as entries:
                children = [(entry.name, entry.inode()) for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            self._unwatched.pop((tree, path), None)
            children = []
        for name, inode in children:
            child = _join(path, name)
            seen.add(child)
            self._enter(tree, child, inode)
        if unwatched:
            prefix = path if path == "/" else path + "/"
            for other in [
                other
                for other, group in self.groups.items()
                if tree in group.inodes and other.startswith(prefix) and other.rpartition("/")[0] + "/" == prefix
            ]:
                if other not in seen:
                    self._went(tree, other)

    def _full(self, tree: int, path: str) -> str:
        return self._roots[tree] if path == "/" else self._roots[tree] + path

    def _inode(self, tree: int, path: str) -> int | None:
        try:
            return os.lstat(self._full(tree, path)).st_ino
        except OSError:
            return None


def _join(parent: str, name: str) -> str:
    return parent + name if parent == "/" else f"{parent}/{name}"
