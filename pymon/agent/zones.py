"""The containers of a node whose containers are zones: from the kstat chain and /etc/zones to the inventory."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pymon.agent.rows import ContainerRows
from pymon.containers.identity import identify, zone_claims
from pymon.containers.model import Details, Match

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymon.containers.labels import LabelExport
    from pymon.containers.node_identity import NodeIdentity
    from pymon.containers.owner import OwnerRules
    from pymon.containers.zones import CoreZone, ZoneDetails
    from pymon.sources.kstat import ZoneAppeared

_log = logging.getLogger(__name__)


class ZoneRegistry(ContainerRows):
    """Zones by row. The row of a zone is the row of its kstats.

    Two zones can have the same name while the kernel still holds references to a dead one. Only the one that appeared
    last is a container. unread: number of zones whose configuration has not been read.
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
        self._known: dict[int, tuple[ZoneDetails, bool]] = {}
        self.unread = 0
        self._core: dict[int, CoreZone] = {}

    def ready(self) -> str | None:
        """Return None when every zone's configuration has been read, else the reason why not, on one line.

        Owners and tags are in the configurations, so the inventory is not complete before.
        """
        return f"the configurations of {self.unread} zones are still to be read" if self.unread else None

    def appeared(self, zone: ZoneAppeared, details: ZoneDetails, *, read: bool = True) -> None:
        """Add a zone, or update it after its configuration has changed.

        read: whether its configuration has been read. Until then the zone is left out of scrapes of all containers,
        because its labels would change afterwards.
        """
        other = self._rows.get(zone.name, zone.row)
        if other != zone.row:
            if self._zones.get(zone.row) == zone:
                return
            self._core.pop(other, None)
            self.vacate(other)
        self.reserve(zone.row + 1)
        before = self.container(zone.row)
        self._zones[zone.row], self._rows[zone.name] = zone, zone.row
        self._known[zone.row] = details, read
        if zone.boot_time_seconds is not None:
            started = float(zone.boot_time_seconds)
        else:
            started = before.start_seconds if before else float(self._clock_ns() // 1_000_000_000)
        match = Match(f"/{zone.name}", details.brand or "zone", runtime_id=details.uuid or zone.name, name=zone.name)
        container = identify(
            self.claim(zone.row, zone_claims(self.node.uuid, match), zone.row),
            match,
            Details(details.alias, details.image, details.labels, started, "running", reason=details.reason),
            self._owners,
            started,
            zone_owner=details.owner,
        )
        container = replace(container, runtime_id=str(zone.zone_id), addresses=details.addresses)
        for problem in container.problems:
            _log.debug("zone", extra={"fields": {"zone": zone.name, "problem": problem}})
        labels = zip(self._export.names, self._export.values(container.labels), strict=True)
        self.place(zone.row, container, labels, started, shown=read)
        if details.core is not None:
            self._core[zone.row] = details.core
        else:
            self._core.pop(zone.row, None)

    def use_owners(self, owners: OwnerRules) -> None:
        """Decide by other rules who owns a zone."""
        self._owners = owners
        for row, (details, read) in list(self._known.items()):
            self.appeared(self._zones[row], details, read=read)
        self.tell()

    def gone(self, row: int) -> None:
        """Remove the zone of a row, which has halted."""
        zone = self._zones.pop(row, None)
        self._known.pop(row, None)
        if zone is not None and self._rows.get(zone.name) == row:
            del self._rows[zone.name]
            self._core.pop(row, None)
            self.vacate(row)

    def core_zone(self, uuid: str) -> CoreZone | None:
        """Return where the zone with this UUID serves metrics if it is one of Triton itself, else None."""
        row = self.row_of(uuid)
        return None if row is None else self._core.get(row)
