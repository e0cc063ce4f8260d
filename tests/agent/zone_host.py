"""A node of illumos as the agent sees it: the libkstat double, a root directory with /etc/zones, and programs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import pymon
from pymon.agent.build import Agent, build_agent
from pymon.agent.collectors import COLLECTORS
from pymon.agent.options import AgentOptions, load_agent_options
from pymon.agent.scrape import Scrape
from pymon.exposition.negotiation import Format
from tests.agent.fixture_host import REPOSITORY, collect_once
from tests.kstat.double import CHAINS, Double
from tests.oracle import Series, parse

WAIT_SECONDS = 30
CAPTURES = REPOSITORY / "tests/sources/programs/captures"
CHAIN = CHAINS / "smartos-small.json"
OWNER = "930896af-bf8c-48d4-885c-6573a94b1853"
IMAGE = "c02a2044-c1bd-11e4-bd8c-dfc1db8b0182"
NETWORK = "1275886f-3fdb-4d3a-a5c7-5ba2f1c4c9e2"
CAPPED, TWIN, UNCAPPED = (
    "487b08a7-13ae-44be-82f8-2fdf59516a2f",
    "962bc668-09d5-c087-b16f-d5aa6e88d042",
    "962bc668-09d5-c087-b16f-d5aa6e4f1c03",
)
"""Zones 1, 28 and 29 of the chain; the names of the last two are the same for 30 characters."""

ZFS_LIST = (
    "zones\t10212876288\t6698659840\t9102345216\t131072\t0\t671088640\t0\t671088640\t702545920\t1.37x\t1.05x\n"
    f"zones/{CAPPED}\t10212876289\t524541952\t802545664\t131072\t10737418240\t503316480\t21225472\t503316481"
    "\t770048000\t1.53x\t1.47x\n"
    f"zones/{TWIN}\t10212876290\t214748365\t343597384\t65536\t0\t209715200\t5033165\t209715201\t335544320"
    "\t1.60\t10.02\n"
)
"""As `tests/sources/programs/captures/zfs-list.txt`, with names of this chain's zones."""


class ZoneHost:
    """What a node has, below a directory of the test. Programs stand in `programs`, none is there at first."""

    def __init__(self, root: Path, library: Path | None = None) -> None:
        self.root = root
        self.programs = root / "sbin"
        self.programs.mkdir(parents=True)
        self.double = Double(library)
        self._index: dict[str, str] = {}
        self.write("etc/machine-id", "0f1e2d3c4b5a69788796a5b4c3d2e1f0\n")
        self.configure()

    def write(self, path: str, text: str) -> Path:
        """Put a file in place, in one step."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.new")
        partial.write_text(text)
        partial.rename(target)
        return target

    def configure(
        self,
        name: str = "",
        *,
        uuid: str = "",
        alias: str = "",
        owner: str = "",
        brand: str = "joyent",
        nics: Sequence[tuple[str, str, str]] = (),
        tags: dict[str, object] | None = None,
        metadata: dict[str, object] | None = None,
    ) -> None:
        """Write a zone's configuration, as SmartOS does; with no name, an index of what is configured.

        nics: link, nic tag and address. metadata: the customer's.
        """
        if name:
            self._index[name] = f"{name}:installed:/zones/{name}:{uuid or name}\n"
            attrs = {"owner-uuid": owner, "alias": base64.b64encode(alias.encode()).decode(), "dataset-uuid": IMAGE}
            lines = [
                '<!DOCTYPE zone SYSTEM "file:///usr/share/lib/xml/dtd/zonecfg.dtd.1">',
                f'<zone name="{name}" zonepath="/zones/{name}" brand="{brand}" ip-type="exclusive">',
                *(
                    f'  <network global-nic="{tag}" physical="{link}"><net-attr name="ips" value="{address}"/>'
                    f'<net-attr name="network_uuid" value="{NETWORK}"/></network>'
                    for link, tag, address in nics
                ),
                *(f'  <attr name="{key}" type="string" value="{value}"/>' for key, value in attrs.items() if value),
                "</zone>\n",
            ]
            self.write(f"etc/zones/{name}.xml", "\n".join(lines))
            if tags is not None:
                self.write(f"zones/{name}/config/tags.json", json.dumps(tags))
            if metadata is not None:
                self.write(f"zones/{name}/config/metadata.json", json.dumps({"customer_metadata": metadata}))
        self.write("etc/zones/index", "".join(["global:installed:/\n", *self._index.values()]))

    def configure_chain(self) -> None:
        """Three zones of `CHAIN`; the others are not written of."""
        self.configure(
            CAPPED, alias="web-1", owner=OWNER,
            nics=[("net0", "external", "198.51.100.7/24,2001:db8::7/64"), ("net1", "admin", "10.88.88.9/24")],
            tags={"triton.cmon.groups": "front,eu-1", "triton.cns.services": "web:8080", "weight": 7},
        )  # fmt: skip
        self.configure(TWIN, alias='say "hé"', owner=OWNER, brand="lx", nics=[("net0", "internal", "dhcp")])
        self.configure(UNCAPPED, alias="", brand="bhyve")

    def script(self, name: str, body: str) -> None:
        """A program of the node."""
        path = self.write(f"sbin/{name}.new", f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        path.rename(self.programs / name)

    def install_programs(self) -> None:
        """Programs in the place of illumos' own: they print what those printed when it was captured."""
        self.write("zfs-list", ZFS_LIST)
        self.script("zfs", f"exec cat '{self.root}/zfs-list'")
        self.script("zpool", f"exec cat '{CAPTURES}/zpool-list.txt'")
        self.script(
            "ntpq",
            f'case "$*" in *apeers*) exec cat "{CAPTURES}/ntpq-apeers.txt";;'
            f' *) exec cat "{CAPTURES}/ntpq-statistics.txt";; esac',
        )

    def flags(self, *more: str, library: str | Path | None = None) -> list[str]:
        """The flags that make an agent read it."""
        return [
            "--source=kstat",
            f"--kstat.library={library or self.double.path}",
            f"--path.rootfs={self.root}",
            f"--path.procfs={self.root / 'proc'}",
            f"--path.sysfs={self.root / 'sys'}",
            *more,
        ]

    def options(self, *flags: str, library: str | Path | None = None) -> AgentOptions:
        """With no flags, those of the dialect cmon."""
        words = self.flags(*(flags or ("--dialect=cmon",)), library=library)
        return load_agent_options(words, {}, COLLECTORS, version=pymon.__version__)

    def collect(self, *flags: str, openmetrics: bool = False) -> bytes:
        """`pymon collect`, in this process."""
        return collect_once(build_agent(self.options(*flags)), openmetrics=openmetrics)


@asynccontextmanager
async def running(options: AgentOptions, *, serving: bool = False) -> AsyncIterator[Agent]:
    """Build an agent and start its collection on this loop, without HTTP; stop it at the end."""
    agent = build_agent(options, serving=serving)
    agent.collection.start()
    try:
        yield agent
    finally:
        await agent.collection.stop()


async def scrape(
    agent: Agent,
    uuid: str = "",
    *,
    scope: str = "all",
    collect: Sequence[str] = (),
    names: Sequence[str] = (),
    seconds: float | None = None,
    openmetrics: bool = False,
) -> bytes | None:
    """An exposition of the node, or of a container; None when that is not there."""
    asked = Scrape(
        "container" if uuid else scope,
        uuid,
        frozenset(collect) or None,
        frozenset(names) or None,
        Format.OPENMETRICS_1_0_0 if openmetrics else Format.TEXT_0_0_4,
        deadline=None if seconds is None else time.monotonic() + seconds,
    )
    lent = await agent.collection.scrape(asked)
    if lent is None:
        return None
    body = bytes(lent.data)
    lent.release()
    return body


async def series(agent: Agent, uuid: str = "", **wish: object) -> dict[Series, Fraction]:
    """Return the series of such a scrape with their values."""
    body = await scrape(agent, uuid, **wish)
    assert body is not None
    return parse(body)


def value(found: dict[Series, Fraction], name: str, /, **labels: str) -> Fraction | None:
    """The one value with these labels and perhaps others."""
    wanted = set(labels.items())
    values = [value for (metric, own), value in found.items() if metric == name and wanted <= own]
    assert len(values) <= 1, (name, labels, values)
    return values[0] if values else None


def names(found: dict[Series, Fraction]) -> set[str]:
    """Return the names of all series."""
    return {name for name, _ in found}


def zones(found: dict[Series, Fraction]) -> set[str]:
    """The zones that have series, by their `id`."""
    return {text.removeprefix("/") for _, labels in found for key, text in labels if key == "id"}


def failures(found: dict[Series, Fraction], collector: str = "kstat") -> dict[str, int]:
    """What went wrong with a collector, by reason."""
    return {
        dict(labels)["reason"]: int(count)
        for (name, labels), count in found.items()
        if name == "pymon_collector_failures_total" and ("collector", collector) in labels
    }


def zone(agent: Agent, name: str) -> dict:
    """A zone in the inventory."""
    document = json.loads(agent.registry.document())
    (found,) = [item for item in document["containers"] if item["id"] == f"/{name}"]
    return found


async def until(what: str, look: Callable[[], object]) -> None:
    """Wait until `look` returns something true. Raises AssertionError with `what` after `WAIT_SECONDS`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not look():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)
