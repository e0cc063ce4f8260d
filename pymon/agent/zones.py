"""Zones as containers: from what appears in the kstat chain, and what /etc/zones says of it, to the inventory."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pymon.agent.rows import ContainerRows
from pymon.containers.identity import UUID_LABEL, identify
from pymon.containers.model import Details, Match

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymon.containers.identity import NodeIdentity
    from pymon.containers.labels import LabelExport
    from pymon.containers.owner import OwnerRules
    from pymon.containers.zones import ZoneDetails
    from pymon.sources.kstat import ZoneAppeared

_log = logging.getLogger(__name__)


class ZoneRegistry(ContainerRows):
    """Zones by row: that of their kstats.

    Of two that have one name, which is when one is dead and the kernel still holds on to it, the one that came last is
    a container and the other is not.
    """

    def __init__(
        self,
        owners: OwnerRules,
        export: LabelExport,
        node: NodeIdentity,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(node, clock_ns=clock_ns)
        self._owners = owners
        self._export = export
        self._clock_ns = clock_ns
        self._zones: dict[int, ZoneAppeared] = {}
        self._rows: dict[str, int] = {}
        self.unread = 0

    def ready(self) -> str | None:
        """Owners and tags are in the configurations: without them nobody is to take this for the inventory."""
        return f"the configurations of {self.unread} zones are still to be read" if self.unread else None

    def appeared(self, zone: ZoneAppeared, details: ZoneDetails, *, read: bool = True) -> None:
        """A zone is there, or its configuration has changed.

        read: whether that has been; until then the zone is in no exposition of all, where it would be called otherwise.
        """
        other = self._rows.get(zone.name, zone.row)
        if other != zone.row:
            if self._zones.get(zone.row) == zone:
                return
            self.vacate(other)
        self.reserve(zone.row + 1)
        before = self.container(zone.row)
        self._zones[zone.row], self._rows[zone.name] = zone, zone.row
        if zone.boot_time_seconds is not None:
            started = float(zone.boot_time_seconds)
        else:
            started = before.start_seconds if before else float(self._clock_ns() // 1_000_000_000)
        # Tags are the tenant's: they group and name its zones, they do not say which zone this is.
        tags = {name: value for name, value in details.labels.items() if name != UUID_LABEL}
        match = Match(f"/{zone.name}", details.brand or "zone", runtime_id=details.uuid or zone.name, name=zone.name)
        self._forget_uuid(zone.row)
        container = identify(
            self.node.uuid,
            match,
            Details(details.alias, details.image, tags, started, "running", reason=details.reason),
            self._owners,
            started,
            taken=self._by_uuid.keys(),
            zone_owner=details.owner,
        )
        container = replace(container, runtime_id=str(zone.zone_id), addresses=details.addresses)
        for problem in container.problems:
            _log.debug("zone", extra={"fields": {"zone": zone.name, "problem": problem}})
        labels = zip(self._export.names, self._export.values(container.labels), strict=True)
        self.place(zone.row, container, labels, started, shown=read)

    def gone(self, row: int) -> None:
        """The zone of a row has halted."""
        zone = self._zones.pop(row, None)
        if zone is not None and self._rows.get(zone.name) == row:
            del self._rows[zone.name]
            self.vacate(row)
