"""Follows what runtimes write about containers: reads it, and reads it again when the stamps of its files change.

Events of a runtime's daemon say earlier that something has changed. All reads run on the threads of a `Describer`.
Those of one origin, a runtime or a user's runtime, cost at most a share of a CPU: the more they take, the later the
files are looked at again. So no runtime and no user can make the agent busy by changing files without end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from pymon.agent.describer import Describer, Job, Origin
from pymon.agent.engine_events import EngineEvents
from pymon.containers.engine import Started
from pymon.containers.model import Details
from pymon.containers.runtimes import has_events, knows_more, tells_all

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from pymon.containers.model import Match
    from pymon.containers.runtimes import Runtimes
    from pymon.containers.stamps import Stamps

LOOK_SECONDS = 3.0
"""Interval at which the stamps of files are compared. A change is then known after twice this time at the latest."""

TOLD_LOOK_SECONDS = 15.0
"""The same interval while a daemon tells of every change that its files show."""

TOGETHER_SECONDS = 0.1
"""Reads of an origin that are asked for within this time of the last ones begin together, after it: where many
containers come and go, threads are then woken less often."""

SYSTEM_SHARE, USERS_SHARE = 0.05, 0.02
"""Share of a CPU that reads of one of the system's runtimes, and of all users' runtimes together, may take."""

USER_ENGINES = 16
"""The most users to whose daemons the agent listens. What the others' daemons change is found in their files."""

AGAIN_SECONDS = (0.5, 2.0, 10.0)
"""Delays before each further read of an incomplete description. A runtime may write it after it made the cgroup."""

LATER_SECONDS = 30.0
"""Delay before each read after those, of a description that a daemon may complete: it may have been hanging."""

_LOOK_AT = 256
"""The most containers whose files are looked at in one job of the describer, so that it takes milliseconds."""


@dataclass(slots=True, eq=False)
class Description:
    """A container whose description is followed.

    told: called with the details after the first read, and with each that differ. details: the last that were told.
    stamps: those of the files before they were last read; None if the files must be read again. job: the read under
    way. outdated: whether something has changed since it began. attempt: number of reads because the last one was
    incomplete. again: the timer of the next of them.
    """

    match: Match
    told: Callable[[Details], None]
    details: Details | None = None
    stamps: Stamps | None = None
    job: Job | None = None
    outdated: bool = False
    attempt: int = 0
    again: asyncio.TimerHandle | None = None

    @property
    def origin(self) -> Origin:
        """The runtime and the user whose files describe the container."""
        return Origin(self.match.runtime, self.match.uid)


@dataclass(slots=True, eq=False)
class _Followed:
    """The descriptions of an origin.

    by_id: the same by the runtime's ids, of which several may have one: an ended container, and one that comes again.
    looks: jobs that compare stamps. cpu_seconds: of jobs since looks were begun. events: those of the runtime's daemon.
    together: reads that wait to begin. begun: when reads were begun last, on the clock of time.monotonic().
    """

    descriptions: dict[Description, None] = field(default_factory=dict)
    by_id: dict[str, dict[Description, None]] = field(default_factory=dict)
    looks: dict[_Look, Job] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    timer: asyncio.TimerHandle | None = None
    events: EngineEvents | None = None
    together: dict[Description, None] = field(default_factory=dict)
    begun: float = 0.0


class _Look:
    """Compares stamps of some descriptions, on a thread. at: the one whose files are being looked at."""

    def __init__(self, runtimes: Runtimes, descriptions: Sequence[Description]) -> None:
        self._runtimes = runtimes
        self._items = [(description, description.stamps) for description in descriptions]
        self.at: Description | None = None

    def __call__(self) -> list[Description]:
        """Return the descriptions whose files have to be read again."""
        changed = []
        for description, seen in self._items:
            self.at = description
            if seen is None or self._stamps(description.match) != seen:
                changed.append(description)
        return changed

    def _stamps(self, match: Match) -> Stamps | None:
        try:
            return self._runtimes.stamps(match)
        except Exception:  # noqa: BLE001 - reading the files tells what is wrong
            return None


class Descriptions:
    """The descriptions of the node's containers. All methods, and `told`, are called on one thread."""

    def __init__(self, runtimes: Runtimes) -> None:
        self._runtimes = runtimes
        self._describer = Describer()
        self._origins: dict[Origin, _Followed] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def overdue(self) -> int:
        """Number of reads that are still running after their deadline."""
        return self._describer.overdue

    def follow(self, match: Match, told: Callable[[Details], None]) -> Description:
        """Read the description of a container, and follow it until `leave`."""
        description = Description(match, told)
        origin = description.origin
        if origin not in self._origins:
            self._origins[origin] = _Followed()
            self._look_later(origin)
            self._listen(origin)
        self._origins[origin].descriptions[description] = None
        self._origins[origin].by_id.setdefault(match.runtime_id, {})[description] = None
        self._read(description)
        return description

    def leave(self, description: Description) -> None:
        """Follow a description no longer."""
        if description.job is not None:
            self._describer.cancel(description.job)
        if description.again is not None:
            description.again.cancel()
        followed = self._origins[description.origin]
        del followed.descriptions[description]
        of_id = followed.by_id[description.match.runtime_id]
        del of_id[description]
        if not of_id:
            del followed.by_id[description.match.runtime_id]
        followed.together.pop(description, None)
        if not followed.descriptions:
            if followed.timer is not None:
                followed.timer.cancel()
            if followed.events is not None:
                followed.events.close()
            for job in followed.looks.values():
                self._describer.cancel(job)
            del self._origins[description.origin]

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow changes from now on, on this loop. The caller must call `check` regularly."""
        self._loop = loop
        self._describer.start(loop)
        for origin, followed in self._origins.items():
            followed.cpu_seconds = 0.0
            self._look_later(origin)
            self._listen(origin)
            for description in followed.descriptions:
                if description.details is not None and description.details.reason:
                    self._read_again(description)

    def check(self) -> None:
        """Start threads for reads that wait behind those that hang, within the limits."""
        self._describer.check()

    def wait(self, seconds: float) -> None:
        """Wait until all is read except what hangs, for at most `seconds`. Only to be called before `start`."""
        self._describer.wait(seconds)

    def close(self) -> None:
        """End the threads after their current reads; this does not wait for them."""
        self._loop = None
        self._describer.close()
        for followed in self._origins.values():
            if followed.events is not None:
                followed.events.close()
            for timer in (followed.timer, *(description.again for description in followed.descriptions)):
                if timer is not None:
                    timer.cancel()

    # Reading.

    def _read(self, description: Description) -> None:
        if description.again is not None:
            description.again.cancel()
            description.again = None
        followed = self._origins[description.origin]
        if description.job is not None or description in followed.together:
            return
        since = time.monotonic() - followed.begun
        if self._loop is not None and (followed.together or since < TOGETHER_SECONDS):
            if not followed.together:
                self._loop.call_later(TOGETHER_SECONDS - since, self._begin_together, followed)
            followed.together[description] = None
        else:
            self._begin(followed, description)

    def _begin_together(self, followed: _Followed) -> None:
        together, followed.together = followed.together, {}
        for description in together if self._loop is not None else ():
            self._begin(followed, description)

    def _begin(self, followed: _Followed, description: Description) -> None:
        followed.begun = time.monotonic()
        read = partial(self._described, description.match)
        description.job = self._describer.submit(description.origin, read, partial(self._take, description))

    def _described(self, match: Match) -> tuple[Stamps | None, Details]:
        """Return what the runtime's files say, and their stamps before. Runs on a thread, never raises."""
        try:
            return self._runtimes.stamps(match), self._runtimes.describe(match)
        except Exception as error:  # noqa: BLE001 - a bad file must affect only the description of one container
            return (), Details(match.name, namespace=match.namespace, reason=f"internal error: {error!r}")

    def _take(self, description: Description, job: Job, read: tuple[Stamps | None, Details]) -> None:
        self._origins[description.origin].cpu_seconds += job.cpu_seconds
        description.job = None
        description.stamps, details = read
        if description.outdated:
            description.outdated, description.stamps = False, None
            self._read(description)
        if job.late:  # a file system that hung may return an error first, so allow every attempt again
            description.attempt = 0
        before = description.details
        if before is not None and before.asked and not details.asked and knows_more(description.origin.runtime):
            return  # its daemon is away; it is asked again when it is back
        if before is not None and details.reason and not before.reason:
            # Files that are being replaced or removed say nothing: what is known stays true.
            self._read_again(description)
            return
        if details != before:
            description.details = details
            description.told(details)
        if details.reason:
            self._read_again(description)

    def _read_again(self, description: Description) -> None:
        """Schedule another read of an incomplete description if attempts are left, or if there may be a daemon."""
        if self._loop is None or description.job is not None:
            return
        if description.attempt < len(AGAIN_SECONDS):
            delay = AGAIN_SECONDS[description.attempt]
        elif has_events(description.match.runtime):
            delay = LATER_SECONDS
        else:
            return
        description.attempt += 1
        description.again = self._loop.call_later(delay, self._read, description)

    # Looking whether files have changed.

    def _look_later(self, origin: Origin) -> None:
        if self._loop is None:
            return
        followed = self._origins[origin]
        told = followed.events is not None and followed.events.listening and tells_all(origin.runtime)
        delay = max(TOLD_LOOK_SECONDS if told else LOOK_SECONDS, self._busy_seconds(origin))
        followed.cpu_seconds = 0.0
        followed.timer = self._loop.call_later(delay, self._look, origin)

    def _busy_seconds(self, origin: Origin) -> float:
        """Return how much time the reads of an origin since the last look may take from its share."""
        share = SYSTEM_SHARE
        if origin.uid is not None:
            share = USERS_SHARE / sum(other.uid is not None for other in self._origins)
        return self._origins[origin].cpu_seconds / share

    def _look(self, origin: Origin) -> None:
        """Begin to look at the files of an origin, except those being read or at which an earlier look hangs."""
        followed = self._origins[origin]
        self._look_later(origin)
        if not all(map(self._describer.is_overdue, followed.looks.values())):
            return  # the last look goes on, or waits behind reads that hang
        hanging = {look.at for look in followed.looks}
        there = [item for item in followed.descriptions if item.job is None and item not in hanging]
        for first in range(0, len(there), _LOOK_AT):
            look = _Look(self._runtimes, there[first : first + _LOOK_AT])
            followed.looks[look] = self._describer.submit(origin, look, partial(self._looked, followed, look))

    def _looked(self, followed: _Followed, look: _Look, job: Job, changed: Sequence[Description]) -> None:
        del followed.looks[look]
        followed.cpu_seconds += job.cpu_seconds
        for description in changed:
            if description in followed.descriptions:
                description.attempt = 0
                self._read(description)

    # Events of daemons.

    def _listen(self, origin: Origin) -> None:
        if self._loop is None or not has_events(origin.runtime):
            return
        if origin.uid is not None and self._listening_to_users >= USER_ENGINES:
            return
        events = partial(self._runtimes.events, origin.runtime, origin.uid)
        name = f"pymon-{origin.runtime}-events"
        self._origins[origin].events = EngineEvents(name, events, partial(self._heard, origin), self._loop)

    @property
    def _listening_to_users(self) -> int:
        return sum(origin.uid is not None and followed.events is not None for origin, followed in self._origins.items())

    def _heard(self, origin: Origin, ids: frozenset[str | Started]) -> None:
        """Read again what a daemon says has changed, or after a gap in its events what only it can say."""
        followed = self._origins.get(origin)
        if followed is None:
            return
        gap = "" in ids
        if gap and followed.timer is not None:
            followed.timer.cancel()
            self._look(origin)
        for description in followed.descriptions if gap else ():
            details = description.details
            if details is not None and (details.asked or details.reason or knows_more(origin.runtime)):
                self._read_soon(origin, description)
        for event in ids:
            started = isinstance(event, Started)
            for description in followed.by_id.get(event.identifier if isinstance(event, Started) else event, ()):
                details = description.details
                if not (started and details is not None and details.state == "running"):
                    self._read_soon(origin, description)

    def _read_soon(self, origin: Origin, description: Description) -> None:
        """Read a description again, or have the next look do it if the share of its origin is used up."""
        description.attempt, description.stamps = 0, None
        if self._busy_seconds(origin) > LOOK_SECONDS:
            return
        if description.job is not None:
            description.outdated = True
        self._read(description)
