"""What a container is called for ever."""

import uuid
from dataclasses import replace
from uuid import UUID

import pytest

from pymon.containers.identity import (
    Basis,
    Claim,
    Container,
    claims_of,
    identify,
    parse_groups,
    zone_claims,
)
from pymon.containers.model import Details, Match, PodNames
from pymon.containers.node_identity import named_identity
from pymon.containers.owner import OwnerRules
from pymon.containers.recognise import recognise
from pymon.uuid_name import container_uuid

NODE = UUID("11111111-2222-5333-8444-555555555555")
CLAIMED = "0a1b2c3d-0000-4000-8000-00000000abcd"
A = "0123456789abcdef" * 4
USER = "/user.slice/user-1000.slice/user@1000.service"


def uuid_of(path, labels=(), uuid_label=""):
    """The UUID of a container that nobody disputes."""
    match = recognise(path)
    (claim, *_), _ = claims_of(NODE, match, dict(labels), uuid_label)
    if claim.name:
        assert container_uuid(NODE, claim.name) == claim.uuid
    return claim.uuid


class TestUuid:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            (f"/docker/{A}", "DOCKER"),
            (f"/system.slice/docker-{A}.scope", "DOCKER"),
            (f"/machine.slice/libpod-{A}.scope", "PODMAN"),
            ("/system.slice/nginx.service", "SERVICE"),
            ("/lxc.payload.web", "LXC"),
        ],
    )
    def test_is_the_same_for_ever(self, path, expected):
        pinned = {
            "DOCKER": uuid.uuid5(NODE, f"docker::{A}"),
            "PODMAN": uuid.uuid5(NODE, f"podman::{A}"),
            "SERVICE": uuid.uuid5(NODE, "cgroup:/system.slice/nginx.service"),
            "LXC": uuid.uuid5(NODE, "cgroup:/lxc.payload.web"),
        }
        assert uuid_of(path) == pinned[expected]

    def test_what_it_is_made_of_is_told(self):
        claims, problem = claims_of(NODE, recognise(f"/docker/{A}"), {})
        assert [claim.name for claim in claims] == [f"docker::{A}", f"cgroup:/docker/{A}"]
        assert problem == ""

    @pytest.mark.parametrize(
        "path", [f"/lxc.payload.{CLAIMED}", rf"/machine.slice/machine-qemu\x2d1\x2d{CLAIMED}.scope"]
    )
    def test_a_runtime_s_id_is_never_the_uuid_as_it_stands(self, path):
        assert UUID(CLAIMED) not in {claim.uuid for claim in claims_of(NODE, recognise(path), {})[0]}

    def test_a_virtual_machine_keeps_it_when_its_number_changes(self):
        first = rf"/machine.slice/machine-qemu\x2d1\x2d{CLAIMED}.scope"
        assert uuid_of(first) == uuid_of(first.replace("x2d1", "x2d2")) == uuid.uuid5(NODE, f"libvirt::{CLAIMED}")

    def test_users_cannot_take_an_id_of_the_system_or_of_one_another(self):
        paths = [f"/machine.slice/libpod-{A}.scope", f"{USER}/libpod-{A}", f"{USER.replace('1000', '1001')}/libpod-{A}"]
        assert len({uuid_of(path) for path in paths}) == 3
        assert uuid_of(paths[1]) == uuid.uuid5(NODE, f"podman::1000:{A}")

    def test_paths_that_are_no_utf8(self):
        uuids = {uuid_of(f"/lxc.payload.{name}") for name in ("\udcff", "\udcfe", "x" * 200, "\u00ff")}
        assert len(uuids) == 4

    def test_nodenames_too(self):
        assert named_identity("a").uuid != named_identity("\udcff").uuid

    def test_of_a_zone(self):
        own = zone_claims(NODE, Match(f"/{CLAIMED}", "joyent", CLAIMED))
        assert [(claim.uuid, claim.name) for claim in own[:1]] == [(UUID(CLAIMED), "")]
        (made,) = zone_claims(NODE, Match("/web", "joyent", "web"))
        assert made == Claim(uuid.uuid5(NODE, "cgroup:/web"), "cgroup:/web", Basis.PATH)


class TestUuidLabel:
    LABEL = "com.example.uuid"
    DOCKER = f"/docker/{A}"

    @pytest.mark.parametrize("key", ["pymon.uuid", "com.example.uuid"])
    def test_a_label_has_no_effect_where_no_key_is_named(self, key):
        assert uuid_of(self.DOCKER, {key: CLAIMED}) == uuid_of(self.DOCKER)

    def test_whose_key_is_known_is_told_of(self):
        _, problem = claims_of(NODE, recognise(self.DOCKER), {"pymon.uuid": CLAIMED})
        assert problem == "label pymon.uuid: not honoured, container.uuid-label does not name it"

    def test_the_one_that_is_named_is_the_uuid_and_is_not_derived(self):
        (claim, *_), problem = claims_of(NODE, recognise(self.DOCKER), {self.LABEL: CLAIMED.upper()}, self.LABEL)
        assert (claim, problem) == (Claim(UUID(CLAIMED), "", Basis.LABEL), "")

    def test_no_other_is(self):
        assert uuid_of(self.DOCKER, {"pymon.uuid": CLAIMED}, self.LABEL) == uuid_of(self.DOCKER)

    @pytest.mark.parametrize(
        "value", ["x", CLAIMED + " ", CLAIMED.replace("-", ""), "{" + CLAIMED + "}", str(NODE), "x" * 100]
    )
    def test_what_is_no_uuid_of_a_container(self, value):
        claims, problem = claims_of(NODE, recognise(self.DOCKER), {self.LABEL: value}, self.LABEL)
        assert claims[0].uuid == uuid_of(self.DOCKER)
        assert problem.endswith(", expected the UUID of a container")

    def test_none_below_a_user_s_slice(self):
        mine = recognise(f"{USER}/user.slice/libpod-{A}.scope")
        claims, problem = claims_of(NODE, mine, {self.LABEL: CLAIMED}, self.LABEL)
        assert claims == claims_of(NODE, mine, {})[0]
        assert problem == f"label {self.LABEL}: not honoured below a user's slice"


@pytest.mark.parametrize(
    ("label", "groups", "problem"),
    [
        ("", (), None),
        ("front", ("front",), None),
        ("front,eu-1,A_b", ("front", "eu-1", "A_b"), None),
        ("b,a,b", ("b", "a"), None),
        ("x" * 100, ("x" * 100,), None),
        ("a,,b", ("a", "b"), "''"),
        ("a, b", ("a",), "' b'"),
        ("a,b!,c!", ("a",), "'b!'"),
        ("\u00e9", (), r"'\xe9'"),
        ("a,b\n", ("a",), r"'b\n'"),
        ("x" * 101, (), "'" + "x" * 80 + "...'"),
        (",".join(f"g{number}" for number in range(100)), tuple(f"g{number}" for number in range(100)), None),
        (",".join(f"g{number}" for number in range(101)), tuple(f"g{number}" for number in range(100)), "101 groups"),
    ],
)
def test_groups(label, groups, problem):
    found, problems = parse_groups(label)
    assert found == groups
    if problem is None:
        assert problems == ()
    else:
        assert len(problems) == 1
        assert problems[0].startswith(f"label triton.cmon.groups: {problem}")


class TestContainer:
    claim = Claim(UUID(CLAIMED), f"docker::{A}", Basis.ID)
    match = Match(f"/docker/{A}", "docker", A, A)
    details = Details(
        "web",
        "nginx:1",
        {
            "triton.cmon.groups": "a,b",
            "triton.cns.services": "www:443:x,,",
            "triton.cns.status": "down",
            "triton.cns.disable": "",
            "owner": "Alice",
        },
        1793000000.5,
        "paused",
        "healthy",
        "shop",
        "web-0",
    )

    def test_is_made_of_what_is_known(self):
        container = identify(self.claim, self.match, self.details, OwnerRules([{"label": "owner"}]), 5.0)
        assert (container.uuid, container.uuid_name) == (UUID(CLAIMED), f"docker::{A}")
        assert container == Container(container.uuid, f"/docker/{A}", "web", "docker", 1793000000.5)
        assert (container.owner, container.state, container.health) == ("alice", "paused", "healthy")
        assert (container.groups, container.services) == (("a", "b"), "www:443:x,,")
        assert container.cns == {"cns_status": "down", "cns_disable": ""}
        assert (container.namespace, container.pod, container.image) == ("shop", "web-0", "nginx:1")
        assert container.problems == ()

    @pytest.mark.parametrize(
        ("names", "found"),
        [
            (None, ((9100,), "/m")),
            (PodNames("shop", "web-0", "web"), ((9100,), "/m")),
            (PodNames("shop", "web-0", "POD"), (None, None)),
            (PodNames("shop", "web-0", ""), (None, None)),
        ],
    )
    def test_where_its_application_answers_is_its_own_and_not_of_what_holds_the_pod(self, names, found):
        labels = {"pymon.metrics.port": "9100", "pymon.metrics.path": "/m"}
        details = replace(self.details, labels=labels, kubernetes=names)
        container = identify(self.claim, self.match, details, OwnerRules([]), 5.0)
        assert (container.app_ports, container.app_path) == found

    def test_and_of_the_path_where_nothing_is(self):
        container = identify(self.claim, self.match, Details(reason="gone"), OwnerRules([{"label": "owner"}]), 5.0)
        assert (container.name, container.start_seconds, container.state) == (A, 5.0, "running")
        assert (container.owner, container.groups, container.services) == (None, (), "")
        assert container.problems == ("gone",)

    def test_problems_are_collected(self):
        details = replace(self.details, labels={"triton.cmon.groups": "!", "owner": "not an account"}, reason="r")
        container = identify(self.claim, self.match, details, OwnerRules([{"label": "owner"}]), 5.0)
        assert container.owner is None
        assert len(container.problems) == 3

    def test_the_zone_owner_and_the_account_of_a_pattern(self):
        rules = OwnerRules([{"zone": True}])
        assert identify(self.claim, self.match, self.details, rules, 5.0, zone_owner="bob").owner == "bob"
        assert identify(self.claim, replace(self.match, account="eve"), self.details, rules, 5.0).owner == "eve"

    def test_equality_is_uuid_and_start(self):
        one = Container(NODE, "/a", "a", "docker", 1.0)
        assert one == Container(NODE, "/b", "b", "podman", 1.0)
        assert hash(one) == hash(Container(NODE, "/b", "b", "podman", 1.0))
        assert one != Container(NODE, "/a", "a", "docker", 2.0)
        assert one != Container(uuid.uuid5(NODE, "x"), "/a", "a", "docker", 1.0)
        assert one != "a"
