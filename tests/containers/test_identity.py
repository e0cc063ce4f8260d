"""What a container is called for ever."""

import uuid
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.containers.files import UnreadableError
from pymon.containers.identity import (
    Container,
    container_uuid,
    identify,
    node_identity,
    parse_groups,
    uuid5,
)
from pymon.containers.model import Details, Match
from pymon.containers.owner import OwnerRules
from pymon.containers.recognise import recognise

NODE = UUID("11111111-2222-5333-8444-555555555555")
CLAIMED = "0a1b2c3d-0000-4000-8000-00000000abcd"
A = "0123456789abcdef" * 4
USER = "/user.slice/user-1000.slice/user@1000.service"


class TestNode:
    @pytest.fixture
    def roots(self, tmp_path):
        files = {
            "root/etc/machine-id": "b08dfa6083e7567a1921a715000001fb\n",
            "sys/class/dmi/id/product_uuid": "4C4C4544-0051-3610-8057-B4C04F4D3532\n",
            "proc/sys/kernel/random/boot_id": "e2e8b1f5-3b6b-4b53-9dbb-2b1f6d2c9f11\n",
        }
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True)
            path.write_text(content)
        return tmp_path / "root", tmp_path / "sys", tmp_path / "proc"

    def test_the_machine_id_comes_first_and_does_not_show(self, roots):
        identity = node_identity(*roots)
        assert (str(identity.uuid), identity.source) == ("8a2dd67b-c777-5e2d-916b-104051673808", "machine-id")
        assert "b08dfa60" not in str(identity.uuid)
        assert node_identity(*roots) == identity

    @pytest.mark.parametrize("content", ["", "uninitialized\n", "0" * 32, "B08D", "x" * 33, None])
    def test_then_the_hardware(self, roots, content):
        machine_id = roots[0] / "etc/machine-id"
        if content is None:
            machine_id.unlink()
        else:
            machine_id.write_text(content)
        assert node_identity(*roots).source == "product_uuid"

    @pytest.mark.parametrize("content", ["", "Not Settable\n", "03000200-0400-0500-0006-000700080009\n"])
    def test_then_the_boot(self, roots, content):
        (roots[0] / "etc/machine-id").unlink()
        (roots[1] / "class/dmi/id/product_uuid").write_text(content)
        assert node_identity(*roots).source == "boot_id"

    def test_or_nothing(self, tmp_path):
        with pytest.raises(UnreadableError, match="machine-id: expected 32 hexadecimal digits"):
            node_identity(tmp_path, tmp_path, tmp_path)


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
        assert container_uuid(NODE, recognise(path), {}) == pinned[expected]

    def test_the_label_wins(self):
        assert container_uuid(NODE, recognise(f"/docker/{A}"), {"pymon.uuid": CLAIMED.upper()}) == UUID(CLAIMED)

    @pytest.mark.parametrize("value", ["", "x", CLAIMED + " ", CLAIMED.replace("-", ""), "{" + CLAIMED + "}"])
    def test_a_label_that_is_no_uuid(self, value):
        match = recognise(f"/docker/{A}")
        assert container_uuid(NODE, match, {"pymon.uuid": value}) == container_uuid(NODE, match, {})

    def test_an_id_that_is_one(self):
        assert container_uuid(NODE, recognise(f"/lxc.payload.{CLAIMED}"), {}) == UUID(CLAIMED)

    def test_a_virtual_machine_keeps_it_when_its_number_changes(self):
        first = recognise(r"/machine.slice/machine-qemu\x2d1\x2dweb.scope")
        second = recognise(r"/machine.slice/machine-qemu\x2d2\x2dweb.scope")
        assert container_uuid(NODE, first, {}) == container_uuid(NODE, second, {})

    def test_users_claim_nothing(self):
        mine = recognise(f"{USER}/user.slice/libpod-{A}.scope")
        assert container_uuid(NODE, mine, {"pymon.uuid": CLAIMED}) == uuid.uuid5(NODE, f"podman::1000:{A}")
        named = recognise(f"{USER}/lxc.payload.{CLAIMED}")
        assert container_uuid(NODE, named, {}) != UUID(CLAIMED)

    def test_users_cannot_take_an_id_of_the_system_or_of_one_another(self):
        paths = [f"/machine.slice/libpod-{A}.scope", f"{USER}/libpod-{A}", f"{USER.replace('1000', '1001')}/libpod-{A}"]
        assert len({container_uuid(NODE, recognise(path), {}) for path in paths}) == 3

    def test_what_is_taken_is_left_alone(self):
        match = recognise(f"/docker/{A}")
        by_id = container_uuid(NODE, match, {})
        assert container_uuid(NODE, match, {"pymon.uuid": CLAIMED}, {UUID(CLAIMED)}) == by_id
        by_path = container_uuid(NODE, match, {"pymon.uuid": CLAIMED}, {UUID(CLAIMED), by_id})
        assert by_path == uuid.uuid5(NODE, f"cgroup:/docker/{A}")

    @given(st.text())
    def test_is_the_standard_one(self, name):
        assert uuid5(NODE, name) == uuid.uuid5(NODE, name)

    def test_paths_that_are_no_utf8(self):
        assert uuid5(NODE, "/lxc/\udcff") != uuid5(NODE, "/lxc/\udcfe")


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
        container = identify(NODE, self.match, self.details, OwnerRules([{"label": "owner"}]), 5.0)
        assert container == Container(container.uuid, f"/docker/{A}", "web", "docker", 1793000000.5)
        assert (container.owner, container.state, container.health) == ("alice", "paused", "healthy")
        assert (container.groups, container.services) == (("a", "b"), "www:443:x,,")
        assert container.cns == {"cns_status": "down", "cns_disable": ""}
        assert (container.namespace, container.pod, container.image) == ("shop", "web-0", "nginx:1")
        assert container.problems == ()

    def test_and_of_the_path_where_nothing_is(self):
        container = identify(NODE, self.match, Details(reason="gone"), OwnerRules([{"label": "owner"}]), 5.0)
        assert (container.name, container.start_seconds, container.state) == (A, 5.0, "running")
        assert (container.owner, container.groups, container.services) == (None, (), "")
        assert container.problems == ("gone",)

    def test_problems_are_collected(self):
        details = replace(self.details, labels={"triton.cmon.groups": "!", "owner": "not an account"}, reason="r")
        container = identify(NODE, self.match, details, OwnerRules([{"label": "owner"}]), 5.0)
        assert container.owner is None
        assert len(container.problems) == 3

    def test_the_zone_owner_and_the_account_of_a_pattern(self):
        rules = OwnerRules([{"zone": True}])
        assert identify(NODE, self.match, self.details, rules, 5.0, zone_owner="bob").owner == "bob"
        assert identify(NODE, replace(self.match, account="eve"), self.details, rules, 5.0).owner == "eve"

    def test_equality_is_uuid_and_start(self):
        one = Container(NODE, "/a", "a", "docker", 1.0)
        assert one == Container(NODE, "/b", "b", "podman", 1.0)
        assert hash(one) == hash(Container(NODE, "/b", "b", "podman", 1.0))
        assert one != Container(NODE, "/a", "a", "docker", 2.0)
        assert one != Container(uuid.uuid5(NODE, "x"), "/a", "a", "docker", 1.0)
        assert one != "a"
