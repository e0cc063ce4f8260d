"""Addresses and ports that runtimes tell, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from pymon.containers import network
from pymon.containers.identity import claims_of, identify
from pymon.containers.model import Details, Match
from pymon.containers.owner import OwnerRules
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes
from pymon.inventory_document import Container, checked
from tests.containers.engine_double import engine_double

ID = "ab" * 32


def networks(*ends: object) -> dict[str, object]:
    return {"Networks": {f"net{number}": end for number, end in enumerate(ends)}}


def test_addresses_of_each_network() -> None:
    settings = networks(
        {"IPAddress": "172.17.0.2", "GlobalIPv6Address": "2001:DB8:0::2"},
        {"IPAddress": "10.1.0.3", "GlobalIPv6Address": ""},
        {"IPAddress": "172.17.0.2"},
    )
    assert network.addresses(settings) == ("172.17.0.2", "10.1.0.3", "2001:db8::2")


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", "::1", "0.0.0.0", "::", "169.254.1.1", "fe80::1", "224.0.0.1", "ff02::1", "fd00::1%eth0",
     "10.0.0.1/24", "010.0.0.1", "web", "10.0.0.1\n", 7, None, ["10.0.0.1"], {}],
)  # fmt: skip
def test_what_is_no_address_of_a_host(address: object) -> None:
    assert network.addresses(networks({"IPAddress": address, "GlobalIPv6Address": address})) == ()


@pytest.mark.parametrize("settings", [None, 7, [], {}, {"Networks": []}, {"Networks": {"a": 7}}, {"Ports": "80/tcp"}])
def test_settings_of_another_shape(settings: object) -> None:
    assert (network.addresses(settings), network.ports(settings)) == ((), ())


def test_ports() -> None:
    told = dict.fromkeys(
        ["443/tcp", "80/tcp", "53/udp", "080/tcp", "0/tcp", "65536/tcp", "80/TCP", "80", "", "80/tcp\n"]
    )
    assert network.ports({"Ports": told}) == ("53/udp", "80/tcp", "443/tcp")


def test_there_are_not_more_than_a_few() -> None:
    ends = networks(*({"IPAddress": f"10.0.{number // 256}.{number % 256}"} for number in range(5000)))
    assert len(network.addresses(ends)) == network.LIMIT
    assert len(network.ports({"Ports": {f"{number}/tcp": None for number in range(1, 5000)}})) == network.LIMIT


def test_a_daemon_tells_them(tmp_path: Path) -> None:
    match = recognise(f"/system.slice/docker-{ID}.scope")
    assert match is not None
    with engine_double(tmp_path / "run/docker.sock") as docker:
        settings = networks({"IPAddress": "172.17.0.2"}) | {"Ports": {"80/tcp": [{"HostPort": "8080"}], "81/tcp": None}}
        document = {"Name": "/web", "State": {"Running": True}, "NetworkSettings": settings}
        docker.containers[ID] = document
        details = Runtimes(tmp_path).describe(match)
        assert (details.addresses, details.ports) == (("172.17.0.2",), ("80/tcp", "81/tcp"))
        docker.containers[ID] = document | {"State": {"Running": False}}
        assert Runtimes(tmp_path).describe(match).addresses == (), "they may be another's by now"


@pytest.mark.parametrize(("uid", "addresses"), [(None, ("10.0.0.7",)), (1000, ())])
def test_users_do_not_say_where_their_containers_are(uid: int | None, addresses: tuple[str, ...]) -> None:
    match = Match("/x", "docker", ID, ID, uid=uid)
    details = Details(addresses=("10.0.0.7",), ports=("80/tcp",))
    (claim, *_), _ = claims_of(UUID("11111111-2222-5333-8444-555555555555"), match, {})
    found = identify(claim, match, details, OwnerRules(()), 0.0)
    assert (found.addresses, found.ports) == (addresses, ("80/tcp",))


@pytest.mark.parametrize(
    ("told", "ports"),
    [
        (["80/tcp", "53/udp"], ("80/tcp", "53/udp")),
        ([], None),
        (["", "x", "0/tcp", "80/icmp", "123456/tcp", "80/tcp\n"], None),
        (["80/tcp"] * 500, ("80/tcp",) * 64),
        (None, None),
    ],
)
def test_a_proxy_takes_ports_alone(told: list[str] | None, ports: tuple[str, ...] | None) -> None:
    members = {
        "uuid": "0b0f0c0d-1111-5222-8333-44444444abcd", "id": "/c", "name": "", "runtime": "docker", "runtime_id": "",
        "image": "", "start": 1.0, "owner": None, "state": "running", "health": "", "groups": [], "services": "",
        "namespace": "", "pod": "", "pod_id": "", "ports": told,
    }  # fmt: skip
    found = checked(msgspec.json.decode(json.dumps(members), type=Container))
    assert found is not None
    assert found.ports == ports
