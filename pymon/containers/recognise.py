"""Which cgroups are containers: the forms of all runtimes in one expression, and the operator's patterns before them.

What is inside a container of a runtime belongs to that container: a Docker container that runs a cluster, or systemd,
is one container.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from . import bare, containerd, crio, docker, lxc, machines, podman, systemd
from .model import Form, Match

# The first form that fits wins, so the more special one comes before.
_FORMS: tuple[Form, ...] = (
    *docker.FORMS,
    *podman.FORMS,
    *containerd.FORMS[:1],
    *crio.FORMS,
    *bare.FORMS,
    *lxc.FORMS,
    *machines.FORMS,
    *systemd.FORMS,
    *containerd.FORMS[1:],
)
_MAKERS = {form.group: form.make for form in _FORMS}
# Matched against the last two components: the last one alone first, then both for the forms that have two.
_TAIL = re.compile(
    "(?:/[^/]*)?/(?:" + "|".join(form.regex.replace("{}", f"(?P<{form.group}>{form.capture})") for form in _FORMS) + ")"
)
_USER = re.compile(r"/user\.slice/user-([0-9]{1,10})\.slice/")
_CACHE = 8192


class Patterns:
    """The operator's own expressions (`--container.pattern`) for cgroups that no runtime's form covers.

    Each must match the whole path, with or without the leading "/". Matching anywhere in it would take in every cgroup
    below the one that was meant, and would let a tenant who may name a cgroup of his own choose what it is taken for.
    Named groups `name` and `account`, where present and not empty, set the container's name and owner.
    """

    def __init__(self, expressions: Sequence[str | re.Pattern[str]] = ()) -> None:
        """Compile; ValueError with one line that names the expression when one is not valid."""
        self._compiled: list[re.Pattern[str]] = []
        for expression in expressions:
            source, flags = (expression, 0) if isinstance(expression, str) else (expression.pattern, expression.flags)
            try:
                # DOTALL: a tenant may put a newline into the name of a cgroup.
                self._compiled.append(re.compile(source, flags | re.DOTALL))
            except (re.error, RecursionError, OverflowError) as error:
                why = " ".join(str(error).split())
                message = f"container.pattern {source!r}: {why}, expected a regular expression for a whole path"
                raise ValueError(message) from error

    def match(self, path: str) -> Match | None:
        """The match of the first expression that fits."""
        for compiled in self._compiled:
            found = compiled.fullmatch(path) or compiled.fullmatch(path[1:])
            if found:
                groups = found.groupdict()
                name = groups.get("name") or path.rpartition("/")[2] or "/"
                return Match(path, "pattern", "", name, account=groups.get("account") or None, uid=_uid(path))
        return None


class Recogniser:
    """Decides which cgroups are containers.

    patterns: the operator's, which win over the forms of the runtimes.
    every: report every cgroup (`--container.all`), also inside containers; those that are none have runtime "cgroup".
    """

    def __init__(self, patterns: Patterns | None = None, *, every: bool = False) -> None:
        self._patterns = patterns or Patterns()
        self._every = every
        self._closed: dict[str, bool] = {"": False}

    def recognise(self, path: str) -> Match | None:
        """The container that the cgroup at `path` is, or None. `path` starts with "/" and does not end with one."""
        found = self._alone(path)
        if self._every:
            if found is None:
                return Match(path, "cgroup", "", "", descend=True, uid=_uid(path))
            return found if found.descend else replace(found, descend=True)
        if found is None or self._is_closed(path.rpartition("/")[0]):
            return None
        return found

    def _alone(self, path: str) -> Match | None:
        """What the path would be if nothing above it were a container."""
        return self._patterns.match(path) or _built_in(path)

    def _is_closed(self, path: str) -> bool:
        """Whether the cgroup at `path` is, or is inside, a container that nothing is reported of."""
        verdicts = self._closed
        unknown: list[str] = []
        while path not in verdicts:
            unknown.append(path)
            path = path.rpartition("/")[0]
        closed = verdicts[path]
        if len(verdicts) + len(unknown) > _CACHE:
            self._closed = verdicts = {"": False}
        for ancestor in reversed(unknown):
            if not closed:
                found = self._alone(ancestor)
                closed = found is not None and not found.descend
            verdicts[ancestor] = closed
        return closed


def recognise(path: str) -> Match | None:
    """The container that the cgroup at `path` is, by the forms of the runtimes alone."""
    return _BUILT_IN.recognise(path)


def _built_in(path: str) -> Match | None:
    found = _TAIL.fullmatch(path, max(path.rfind("/", 0, max(path.rfind("/"), 0)), 0))
    if found is None or found.lastgroup is None:
        return None
    match = _MAKERS[found.lastgroup](path, found[found.lastgroup])
    if match is None:
        return None
    uid = _uid(path)
    return match if uid is None else replace(match, uid=uid)


def _uid(path: str) -> int | None:
    found = _USER.match(path)
    return int(found[1]) if found else None


_BUILT_IN = Recogniser()
