"""One hostile node among honest ones: whatever it says and whenever, others see of the honest ones what they saw.

The same steps run in two sites. In one of them the hostile node says nothing. What can be seen of honest containers is
the same in both, but for what the rules let pass: a container that its node gave up, or whose node was silent for ten
minutes, and that the hostile node claims for the same account with a newer start.
"""

from __future__ import annotations

import json
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pymon.dns.options import DnsOptions
from pymon.dns.records import Records
from pymon.front.names import view
from pymon.inventory_document import Container
from pymon.proxy.agent_document import Inventory
from pymon.proxy.claims import FUTURE_SECONDS
from pymon.proxy.discovery import discover
from pymon.proxy.fleet import IdentityError
from tests.proxy.claim_site import ALICE, BOB, NOW, H, M, N, Site, container, proven

ZONE = "pymon.internal"
CHECKED = {N: [proven(N, f"docker::{n}", name=f"n{n}", services="www:80") for n in range(2)],
           M: [proven(M, "cgroup:/a", "bob", name="m0")]}  # fmt: skip
ZONES = [str(UUID(int=number)) for number in (0xC0, 0xC1)]
HONEST = {*ZONES, *(one.uuid for found in CHECKED.values() for one in found)}
STARTS = (0.0, 99.0, 100.0, 101.0, 200.0, NOW, NOW + 5000, 1e10)
PLACES = st.sampled_from([N, M, None])

HOSTILE = st.builds(
    lambda uuid, owner, start, name, state: container(
        uuid, owner, start, uuid_name=name, name=f"h-{uuid[-2:]}", state=state, addresses=("198.18.9.9",)
    ),
    st.sampled_from([*sorted(HONEST), str(N), str(M), str(H), str(UUID(int=0xEE))]),
    st.sampled_from(["alice", "bob", "nobody", None]),
    st.sampled_from(STARTS),
    st.sampled_from([None, None, None, "docker::0", "cgroup:/a", "", "x" * 9000]),
    st.sampled_from(["running", "running", "stopped", "paused"]),
)
STEPS = st.one_of(
    st.tuples(st.just("hostile"), st.lists(HOSTILE, max_size=6, unique_by=lambda one: one.uuid)),
    st.tuples(st.just("hostile"), st.lists(HOSTILE, max_size=6, unique_by=lambda one: one.uuid)),
    st.tuples(st.just("identity"), st.sampled_from([N, M, *(UUID(uuid) for uuid in sorted(HONEST))])),
    st.tuples(st.just("honest"), st.sampled_from([N, M]), st.integers(0, 3)),
    st.tuples(st.just("zone"), st.sampled_from([0, 1]), PLACES),
    st.tuples(st.just("restart")),
    st.tuples(st.just("passes"), st.sampled_from([1.0, 50.0, 400.0, 700.0]), st.booleans()),
    st.tuples(st.just("away"), st.booleans()),
)


class World:
    """Two sites with the same honest nodes."""

    def __init__(self) -> None:
        self.attacked, self.quiet = self.sites = (Site(), Site())
        self.zones: list[tuple[UUID | None, float]] = [(N, 100.0), (M, 100.0)]
        self.running = {N: 3, M: 3}
        self.claims: tuple[Container, ...] = ()
        self.passed: set[str] = set()
        for node in (N, M):
            self.say(node)

    def document(self, node: UUID) -> list[Container]:
        zones = [
            container(uuid, ("alice", "bob")[number], start, name=f"z{number}", services="db:1")
            for number, (uuid, (at, start)) in enumerate(zip(ZONES, self.zones, strict=True))
            if at == node
        ]
        return [*(one for bit, one in enumerate(CHECKED[node]) if self.running[node] & 1 << bit), *zones]

    def say(self, node: UUID) -> None:
        for site in self.sites:
            site.says(node, *self.document(node))

    def step(self, step: tuple) -> None:
        match step:
            case ("hostile", claims):
                self.claims = tuple(claims)
                self.attacked.says(H, *claims)
            case ("identity", uuid):
                try:
                    self.attacked.fleet.replace("h", Inventory(str(uuid), "h", {}), self.attacked.accounts, 0.0)
                except IdentityError:
                    pass
                else:
                    raise AssertionError(uuid)
            case ("honest", node, running):
                self.running[node] = running
                self.say(node)
            case ("zone", number, to):
                at, start = self.zones[number]
                if at == to:
                    return
                # It stops where it is, and then starts elsewhere, later than ever before.
                self.zones[number] = (None, start)
                if at is not None:
                    self.say(at)
                self.look()
                if to is not None:
                    self.zones[number] = (to, max(start, self.quiet.now - NOW) + 1000)
                    self.say(to)
            case ("restart",):
                for site in self.sites:
                    site.restart()
            case ("passes", seconds, answer):
                for site in self.sites:
                    site.passes(seconds, *((N, M) if answer else ()), *((H,) if site is self.attacked else ()))
                self.look()
                if not answer:  # they are back
                    for node in (N, M):
                        self.say(node)
            case ("away", away):
                for site in self.sites:
                    site.fleet.claims.away = away

    def look(self) -> None:
        """Compare, leaving out what may pass to the hostile node now or has."""
        for site in self.sites:
            site.settle()
        for claim in self.claims:
            row = self.attacked.rows.get(claim.uuid) if claim.uuid in ZONES else None
            if row is not None and row.node == str(H):
                before = self.quiet.rows[claim.uuid]
                silent = self.attacked.fleet.claims._nodes["n" if before.node == str(N) else "m"].silent
                gone = self.zones[ZONES.index(claim.uuid)][0] is None
                if claim.uuid not in self.passed:
                    owner = {"alice": ALICE, "bob": BOB}.get(claim.owner or "")
                    assert gone or silent, "no other takes what its node lists"
                    assert (owner, claim.state != "stopped") == (before.owner, True)
                    assert before.start < claim.start <= self.attacked.now + FUTURE_SECONDS
                self.passed.add(claim.uuid)
        seen = [self.seen(site) for site in self.sites]
        assert seen[0] == seen[1]

    def seen(self, site: Site) -> dict[str, object]:
        """All that anybody sees of the honest containers, by UUID."""
        fleet = site.fleet
        left = HONEST - self.passed
        found: dict[str, object] = {"nodes": sorted((one.name, one.uuid) for one in fleet.nodes() if one.name != "h")}
        for uuid in left:
            place = fleet.find(uuid)
            found[uuid] = place and (place.node, place.owner, place.container)  # where its numbers come from
        for owner in (ALICE, BOB, None):
            places = fleet.owned(owner)
            document = json.loads(discover([*places, *fleet.stopped(owner)]))
            found[f"discovery of {owner}"] = [one for one in document["containers"] if one["vm_uuid"] in left]
        nodes = [node.uuid for node in fleet.nodes()]
        options = DnsOptions(proxy_addresses=("192.0.2.1",))
        records = Records(view(fleet.all(), nodes, site.accounts, {"p": ("192.0.2.1",)}, ZONE, options))
        content = records.content(f"{ZONE}.")
        for uuid in left:
            found[f"CNAME of {uuid}"] = content.get(f"{uuid}.cmon.{ZONE}.")
        zones = [f"z{number}" for number, uuid in enumerate(ZONES) if uuid in left]
        for name in ("n0", "n1", "m0", *zones):
            for account in ("alice", "bob"):
                found[f"{name} of {account}"] = content.get(f"{name}.inst.{account}.{ZONE}.")
        return found


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=14))
def test_a_hostile_node_changes_nothing_of_the_honest_ones(steps: list[tuple]) -> None:
    world = World()
    for step in steps:
        world.step(step)
        world.look()
