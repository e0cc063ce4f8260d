"""A node of illumos for agents that are processes: its files, and the chain that its kernel has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.agent.zone_host import CHAIN, TWIN, ZoneHost
from tests.kstat.double import build

SEVEN = re.findall(r'"zonename": "([0-9a-f-]{36})"', CHAIN.read_text())


class Machine:
    """A node's files, and the chain that its kernel has."""

    def __init__(self, folder: Path) -> None:
        self.host = ZoneHost(folder / "node")
        self.host.configure_chain()
        self._kstats = json.loads(CHAIN.read_text())
        self.chain = folder / "chain.json"
        self.show()

    def show(self, without: str = "", **set_: int) -> None:
        """Replace the chain by one without a zone, and with other values of zone 28's statistics."""
        kstats = [item for item in self._kstats if without not in item["data"].get("zonename", "") or not without]
        for item in kstats:
            if item["data"].get("zonename") == TWIN:
                item["data"] |= {key: number for key, number in set_.items() if key in item["data"]}
        partial = self.chain.with_suffix(".new")
        partial.write_text(json.dumps(kstats))
        partial.rename(self.chain)

    def environment(self) -> dict[str, str]:
        return {"KSTAT_JSON": str(self.chain)}

    def flags(self, *more: str) -> list[str]:
        return self.host.flags(*(more or ("--dialect=cmon",)), library=build())
