"""Decides which cgroups are containers, by the operator's patterns first and by the forms of all runtimes second.

The forms are compiled into one regular expression. Cgroups inside a runtime's container belong to that container: a
Docker container that runs systemd or a whole cluster is one container.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from .model import HEX_ID, Match
from .runtimes import RUNTIMES, bare, kubernetes

# The first form that matches wins, so forms with an id precede those with any name.
_FORMS = sorted(
    (*bare.FORMS, *(form for runtime in RUNTIMES for form in runtime.forms)),
    key=lambda form: (form.last, form.capture != HEX_ID),
)
_MAKERS = {form.group: form.make for form in _FORMS}
# Matched against the last two components of a path, of which most forms match only the last one.
_TAIL = re.compile(
    "(?:/[^/]*)?/(?:" + "|".join(form.regex.replace("{}", f"(?P<{form.group}>{form.capture})") for form in _FORMS) + ")"
)
_USER = re.compile(r"/user\.slice/user-([0-9]{1,10})\.slice/")
_SLICE = re.compile(
    r"(?:/[^/]*)*/[^/]+\.slice|/kubepods(?:/burstable|/besteffort)?(?:/pod[^/]+)?|/docker|/libpod_parent|/lxc"
)
"""Groups of systemd, of the kubelet without systemd, and the parents that runtimes without systemd have."""
_CACHE = 8192


PATTERN_GROUPS = ("name", "account")
"""The named groups that a pattern may have.

Others are refused: a misspelt `account` would leave the containers without an owner.
"""


class Patterns:
    """The operator's regular expressions (`--container.pattern`) for cgroups that no runtime's form matches.

    An expression must match the whole path, with or without the leading "/". If it could match a part of the path, it
    would also match all cgroups below the intended one, and tenants could name their cgroups so that it matches. The
    groups `name` and `account` set the container's name and owner, if they are present and not empty.
    """

    def __init__(self, expressions: Sequence[str | re.Pattern[str]] = ()) -> None:
        """Compile the expressions. Raises ValueError, with a line that names the expression, if one is not valid."""
        self._compiled: list[re.Pattern[str]] = []
        for expression in expressions:
            source, flags = (expression, 0) if isinstance(expression, str) else (expression.pattern, expression.flags)
            try:
                # DOTALL: a tenant can put a newline into the name of a cgroup.
                self._compiled.append(re.compile(source, flags | re.DOTALL))
            except (re.error, RecursionError, OverflowError) as error:
                why = " ".join(str(error).split())
                message = f"container.pattern {source!r}: {why}, expected a regular expression for a whole path"
                raise ValueError(message) from error

    def match(self, path: str) -> Match | None:
        """Return the match of the first expression that matches a path, or None."""
        for compiled in self._compiled:
            found = compiled.fullmatch(path) or compiled.fullmatch(path[1:])
            if found:
                groups = found.groupdict()
                name = groups.get("name") or path.rpartition("/")[2] or "/"
                return Match(path, "pattern", "", name, account=groups.get("account") or None, uid=_uid(path))
        return None


class Recogniser:
    """Decides which cgroups are containers.

    patterns: the operator's patterns, which take precedence over the forms of the runtimes.
    every: report every cgroup (`--container.all`), also those inside containers. A cgroup that is not a container has
        the runtime "cgroup".
    root, pods, slices: report the root, the kubelet's groups for pods, and all groups that runtimes and systemd put
        containers into, to be measured only.
    """

    def __init__(
        self,
        patterns: Patterns | None = None,
        *,
        every: bool = False,
        root: bool = False,
        pods: bool = False,
        slices: bool = False,
    ) -> None:
        self._patterns = patterns or Patterns()
        self._every = every
        self._root = root
        self._pods = pods
        self._slices = slices
        self._closed: dict[str, bool] = {"": False}

    def recognise(self, path: str) -> Match | None:
        """Return the match of a cgroup, or None if it is not to be reported.

        path: starts with "/" and does not end with one.
        """
        found = self._alone(path)
        if self._every:
            if found is None:
                return Match(path, "cgroup", "", "", descend=True, uid=_uid(path))
            return found if found.descend else replace(found, descend=True)
        if found is None:
            return self._measured_only(path)
        return None if self._is_closed(path.rpartition("/")[0]) else found

    def _measured_only(self, path: str) -> Match | None:
        if path == "/":
            wanted = self._root
        else:
            # A user may call any number of groups in his slice pods.
            pod = self._pods and kubernetes.is_pod(path) and _uid(path) is None
            found = pod or (self._slices and bool(_SLICE.fullmatch(path)))
            wanted = found and not self._is_closed(path.rpartition("/")[0])
        return Match(path, "cgroup", descend=True, measured_only=True) if wanted else None

    def _alone(self, path: str) -> Match | None:
        """Return the match of a path without regard to containers above it, or None."""
        return self._patterns.match(path) or _built_in(path)

    def _is_closed(self, path: str) -> bool:
        """Return whether a cgroup is, or is inside, a container whose inner cgroups are not reported."""
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
    """Return the match of a cgroup by the forms of the runtimes alone, or None if it is not a container."""
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
