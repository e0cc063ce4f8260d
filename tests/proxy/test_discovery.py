"""Bodies of discovery, and the queries that ask for them."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trustme
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from pymon.inventory_document import Container
from pymon.proxy.discovery import (
    PARAMETERS,
    Query,
    QueryError,
    discover,
    discover_nodes,
    http_sd,
    http_sd_apps,
    is_address,
    parse_query,
    shard_of,
)
from pymon.proxy.places import NodeView, Place

ALICE = UUID(int=0xA11CE)
NODE = NodeView("n1", "00000000-0000-0000-0000-0000000000aa", "host-1")


def uuid_of(number: int) -> str:
    return str(UUID(int=number))


def place(number: int, owner: UUID | None = ALICE, **fields: Any) -> Place:
    container = Container(
        uuid=uuid_of(number), id="/c", name=f"c{number}", runtime="docker", runtime_id="x", image="nginx:1",
        start=1700000000.125, owner="alice", state="running", health="", groups=(), services="", namespace="", pod="",
        pod_id="",
    )  # fmt: skip
    return Place(msgspec.structs.replace(container, **fields), NODE, owner)


def uuids(body: bytes) -> list[str]:
    return [found["vm_uuid"] for found in json.loads(body)["containers"]]


def sd(things: list[Any], query: str = "") -> Any:
    return json.loads(http_sd(things, parse_query(query), zone="z.example", port=9163, proxy="proxy.example:9163"))


# --- Triton's ---


def test_discover() -> None:
    places = [place(2, None, image="", groups=("web", "b")), place(1)]
    assert json.loads(discover(places)) == {
        "containers": [
            {
                "vm_uuid": uuid_of(1),
                "vm_alias": "c1",
                "vm_brand": "docker",
                "vm_image_uuid": "nginx:1",
                "vm_owner_uuid": str(ALICE),
                "vm_state": "running",
                "server_uuid": NODE.uuid,
                "groups": [],
                "cached_date": 1700000000125,
            },
            {
                "vm_uuid": uuid_of(2),
                "vm_alias": "c2",
                "vm_brand": "docker",
                "vm_state": "running",
                "server_uuid": NODE.uuid,
                "groups": ["web", "b"],
                "cached_date": 1700000000125,
            },
        ]
    }


def test_nothing_is_an_empty_list() -> None:
    assert discover([]) == b'{"containers":[]}'
    assert discover_nodes([]) == b'{"cns":[]}'
    assert sd([]) == []


def test_discover_nodes() -> None:
    other = NodeView("n2", uuid_of(3), 'a "b"\r\n')
    assert json.loads(discover_nodes([NODE, other])) == {
        "cns": [
            {"server_uuid": uuid_of(3), "server_hostname": 'a "b"\r\n'},
            {"server_uuid": NODE.uuid, "server_hostname": "host-1"},
        ]
    }


def test_groups_are_an_or() -> None:
    places = [place(1, groups=("a", "b")), place(2, groups=("c",)), place(3), place(4, groups=("B",))]
    assert uuids(discover(places, groups=["b", "c"])) == [uuid_of(1), uuid_of(2)]
    assert uuids(discover(places, groups=["x"])) == []
    assert len(uuids(discover(places))) == 4


def test_equal_knowledge_is_equal_bytes() -> None:
    places = [place(number, groups=("a",)) for number in range(1, 50)]
    nodes = [NodeView("", uuid_of(number), "") for number in range(1, 50)]
    assert discover(places) == discover(reversed(places), groups=("a",))
    assert discover_nodes(nodes) == discover_nodes(reversed(nodes))
    assert sd(places) == sd(places[::-1])
    assert sd(nodes, "role=node") == sd(nodes[::-1], "role=node")


def test_what_users_chose_stays_inside_its_string() -> None:
    name = 'a"},{"b\\\r\n\0\x1b\u2028😀</script>'
    assert json.loads(discover([place(1, name=name, image=name, runtime=name)]))["containers"][0]["vm_alias"] == name
    assert sd([place(1, name=name)])[0]["labels"]["__meta_triton_machine_alias"] == name


# --- Prometheus's ---


def test_http_sd_has_the_labels_of_triton_sd_and_more() -> None:
    assert sd([place(1, groups=("a", "b")), place(2, None, image="", state="stopped", name="")]) == [
        {
            "targets": [f"{uuid_of(1)}.cmon.z.example:9163"],
            "labels": {
                "__meta_triton_machine_id": uuid_of(1),
                "__meta_triton_machine_alias": "c1",
                "__meta_triton_machine_brand": "docker",
                "__meta_triton_machine_image": "nginx:1",
                "__meta_triton_machine_state": "running",
                "__meta_triton_server_id": NODE.uuid,
                "__meta_triton_groups": ",a,b,",
                "__meta_triton_owner_id": str(ALICE),
            },
        },
        {
            "targets": [f"{uuid_of(2)}.cmon.z.example:9163"],
            "labels": {
                "__meta_triton_machine_id": uuid_of(2),
                "__meta_triton_machine_brand": "docker",
                "__meta_triton_machine_state": "stopped",
                "__meta_triton_server_id": NODE.uuid,
            },
        },
    ]


def test_http_sd_of_nodes() -> None:
    assert sd([NODE], "role=node&groups=a") == [
        {
            "targets": [f"{NODE.uuid}.cmon.z.example:9163"],
            "labels": {"__meta_triton_machine_id": NODE.uuid, "__meta_triton_machine_alias": "host-1"},
        }
    ]


def test_http_sd_of_what_runs_in_containers() -> None:
    places = [
        place(1, services="web:8080,db:port=5432:weight=3,alone", addresses=("192.0.2.7", "2001:db8::7")),
        place(2, services="web:9090", addresses=("2001:db8::8",), groups=("a",)),
        place(3, services="web:1"),
        place(4, services="web:2", addresses=("192.0.2.9",), state="stopped"),
        place(5, services="WEB:70000,;", addresses=("192.0.2.10",)),
    ]
    found = json.loads(http_sd_apps(places, parse_query("role=app")))
    assert [(target["targets"], target["labels"]["__meta_triton_service"]) for target in found] == [
        (["192.0.2.7:5432"], "db"),
        (["192.0.2.7:8080"], "web"),
        (["[2001:db8::8]:9090"], "web"),
    ]
    assert found[0]["labels"]["__meta_triton_machine_id"] == uuid_of(1)
    assert found[0]["labels"]["__meta_triton_owner_id"] == str(ALICE)
    assert len(json.loads(http_sd_apps(places, parse_query("role=app&groups=a")))) == 1
    shards = [json.loads(http_sd_apps(places, parse_query(f"role=app&shards=2&shard={shard}"))) for shard in (0, 1)]
    assert sorted(map(str, shards[0] + shards[1])) == sorted(map(str, found))


def apps(places: list[Any], query: str = "") -> list[Any]:
    found: list[Any] = json.loads(http_sd_apps(places, parse_query(f"role=app{query}"), proxy="proxy.example:9163"))
    return found


def test_http_sd_of_applications_that_labels_declare() -> None:
    at = {"addresses": ("192.0.2.7",), "app_path": "/stats"}
    places = [
        place(1, services="web:8080,db:5432", app_ports=(9100, 8080), **at),
        place(2, app_ports=(80,), state="paused", **at),
        place(3, app_ports=(80,), app_path="/stats"),
    ]
    found = [
        (target["targets"][0], labels.get("__metrics_path__"), labels.get("__meta_triton_service"))
        for target in apps(places)
        for labels in [target["labels"]]
    ]
    assert found == [
        ("192.0.2.7:5432", None, "db"),
        ("192.0.2.7:8080", "/stats", "web"),
        ("192.0.2.7:9100", "/stats", None),
    ]


def test_applications_by_path_are_those_that_agents_fetch() -> None:
    fetched = {"app_path": "/stats", "app_fetched": True}
    places = [
        place(1, services="web:8080,db:5432", app_ports=(9100, 8080), **fetched),
        place(2, app_ports=(80,), app_path="/stats", addresses=("192.0.2.7",)),
        place(3, app_ports=(80,), state="stopped", **fetched),
    ]
    found = apps(places, "&via=path")
    assert [target["targets"] for target in found] == [["proxy.example:9163"]] * 2
    labels = [target["labels"] for target in found]
    assert [item["__param_port"] for item in labels] == ["8080", "9100"]
    assert [item["instance"] for item in labels] == [f"{uuid_of(1)}:8080", f"{uuid_of(1)}:9100"]
    assert {item["__metrics_path__"] for item in labels} == {f"/v1/{uuid_of(1)}/app/metrics"}
    assert [item.get("__meta_triton_service") for item in labels] == ["web", None]


def test_targets_are_at_addresses_of_hosts() -> None:
    for addresses, host in (
        (("127.0.0.1", "169.254.169.254", "::1", "192.0.2.7"), "192.0.2.7"),
        (("fe80::1", "ff02::1", "::ffff:127.0.0.1", "2001:db8::7"), "[2001:db8::7]"),
    ):
        (target,) = json.loads(
            http_sd_apps([place(1, services="web:22", addresses=addresses)], parse_query("role=app"))
        )
        assert target["targets"] == [f"{host}:22"]
        places = [place(1, services="web:22", addresses=addresses[:-1])]
        assert json.loads(http_sd_apps(places, parse_query("role=app"))) == []


def test_targets_by_path_need_no_dns() -> None:
    for things, query, uuid in (([place(1)], "via=path", uuid_of(1)), ([NODE], "via=path&role=node", NODE.uuid)):
        (target,) = sd(things, query)
        assert target["targets"] == ["proxy.example:9163"]
        assert target["labels"]["__metrics_path__"] == f"/v1/{uuid}/metrics"
        assert target["labels"]["instance"] == f"{uuid}.cmon.z.example:9163"
        assert target["labels"]["__meta_triton_machine_id"] == uuid


def test_http_sd_by_groups() -> None:
    places = [place(1, groups=("a",)), place(2)]
    assert [target["labels"]["__meta_triton_machine_id"] for target in sd(places, "groups=b,a")] == [uuid_of(1)]


@given(st.lists(st.uuids(), unique=True, max_size=50), st.integers(1, 1000))
def test_shards_are_a_partition(found: list[UUID], shards: int) -> None:
    places = [place(uuid.int) for uuid in found]
    nodes = [NodeView("", str(uuid), "") for uuid in found]
    query = Query(shards=shards)
    for things in (places, nodes):
        seen = []
        for shard in {shard_of(str(uuid), shards) for uuid in found} | {0, shards - 1}:
            body = http_sd(things, replace(query, shard=shard), zone="z", port=1)
            seen += [target["labels"]["__meta_triton_machine_id"] for target in json.loads(body)]
        assert sorted(seen) == sorted(map(str, found))


def test_shards_are_even_and_never_move() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[shard_of(str(UUID(int=number << 64 | number)), 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200
    assert [shard_of(uuid_of(number), 1000) for number in range(4)] == [225, 167, 933, 987]


# --- queries ---


def test_a_query_without_anything_is_everything() -> None:
    assert parse_query("") == Query()


def test_a_whole_query() -> None:
    query = parse_query("groups=a%2CB-_9&shard=2&shards=3&role=node&stopped=true&via=path")
    assert query == Query(frozenset(("a", "B-_9")), 2, 3, "node", stopped=True, via="path")
    assert parse_query("role=container&stopped=false&via=name&shard=0&shards=1") == Query()
    assert parse_query("groups=" + ",".join(f"g{number}" for number in range(100)))
    assert parse_query("groups=" + "x" * 100)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("groups=", """invalid "groups": expected groups of 1 to 100 letters, digits, _ and -, got ''"""),
        ("groups=a,,b", 'invalid "groups": expected groups'), ("groups=a,", 'invalid "groups": expected groups'),
        ("groups=a b", 'invalid "groups": expected groups'), ("groups=a%0D%0AX:y", 'invalid "groups": expected groups'),
        ("groups=%C3%A9", 'invalid "groups": expected groups'), ("groups=%FF", 'invalid "groups": expected groups'),
        ("groups=" + "x" * 101, 'invalid "groups": expected groups'),
        ("groups=a,b,a", 'invalid "groups": a group is named twice'),
        ("groups=" + ",".join(f"g{number}" for number in range(101)), 'invalid "groups": expected at most 100'),
        ("groups=a&groups=b", 'invalid "groups": given twice'),
        ("shard=0", 'invalid "shards": expected both'), ("shards=2", 'invalid "shard": expected both'),
        ("shard=2&shards=2", 'invalid "shard": expected a number from 0 to 1, got \'2\''),
        ("shard=-1&shards=2", 'invalid "shard": expected'), ("shard=&shards=2", 'invalid "shard": expected'),
        ("shard=0&shards=0", 'invalid "shards": expected a number from 1 to 1000'),
        ("shard=0&shards=1001", 'invalid "shards": expected'), ("shard=0&shards=1e2", 'invalid "shards": expected'),
        ("shard=0&shards=%D9%A1", 'invalid "shards": expected'), ("shard=0&shards=" + "9" * 5000, 'invalid "shards"'),
        ("role=cn", 'invalid "role": expected container or node or app, got \'cn\''),
        ("role=", 'invalid "role": expected'),
        ("stopped", 'invalid "stopped": expected true or false'), ("stopped=1", 'invalid "stopped": expected'),
        ("via=dns", 'invalid "via": expected name or path'),
        ("group=a", 'invalid "group": unknown parameter, did you mean groups?'), ("=a", 'invalid "": unknown'),
        ("a%0D%0Ab=1", 'invalid "a\\r\\nb": unknown'), ("x" * 5000, 'invalid "x'),
        ("&".join(["groups=a"] * 50), 'invalid "query": expected at most 32'),
    ],
    ids=range(31),
)  # fmt: skip
def test_a_wrong_query_says_what_was_expected(query: str, text: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse_query(query)
    assert str(caught.value).startswith(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_an_endpoint_says_which_parameters_it_has() -> None:
    assert parse_query("groups=a", ("groups",)).groups == {"a"}
    with pytest.raises(QueryError, match='invalid "shards": unknown parameter'):
        parse_query("shards=1&shard=0", ("groups",))


@given(st.text(alphabet="groupshadivl=&,%;+0129-_ \r\né\udcff") | st.text())
def test_any_query_is_read_or_refused(text: str) -> None:
    try:
        found: Query | QueryError = parse_query(text, PARAMETERS)
    except QueryError as error:
        found = error
    assert str(found).isprintable()


@pytest.mark.parametrize("host", ["a", "cmon.z.example:9163", "10.0.0.1:1", "[::1]:9163", "[fe80::1]", "a_b-c.d"])
def test_a_host_can_be_a_target(host: str) -> None:
    assert is_address(host)


@pytest.mark.parametrize(
    "host",
    ["", "a b", "a:", ":1", "a:b", "a:1:2", "a/b", "a@b", "a\r\n", 'a"', "é", "::1", "[]", "a:123456", "x" * 300],
)
def test_other_hosts_cannot(host: str) -> None:
    assert not is_address(host)


# --- Prometheus reads them ---

CONFIG = """\
scrape_configs:
- job_name: containers
  triton_sd_configs:
  - &triton
    {{account: alice, dns_suffix: cmon.z.test, endpoint: localhost, port: {port}, tls_config: &tls {{ca_file: {ca}}}}}
- job_name: some
  triton_sd_configs:
  - {{<<: *triton, groups: [a, b]}}
- job_name: nodes
  triton_sd_configs:
  - {{<<: *triton, role: cn}}
- job_name: sd
  http_sd_configs:
  - {{url: 'https://localhost:{port}/v1/sd?groups=a,b', tls_config: *tls}}
- job_name: path
  http_sd_configs:
  - {{url: 'https://localhost:{port}/v1/sd?via=path', tls_config: *tls}}
"""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not there (Debian: prometheus)")
async def test_prometheus_reads_what_it_is_told(tmp_path: Path) -> None:
    places = [place(1, name='a "b"\n', groups=("a", "c")), place(2, None, image=""), place(3, groups=("b",))]

    async def answer(request: web.Request) -> web.Response:
        query = parse_query(request.query_string)
        bodies = {
            "/v1/discover": lambda: discover(places, groups=query.groups),
            "/v1/gz/discover": lambda: discover_nodes([NODE]),
            "/v1/sd": lambda: http_sd(places, query, zone="z.test", port=9163, proxy="p:1"),
        }
        return web.Response(body=bodies[request.path](), content_type="application/json")

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        config = tmp_path / "prometheus.yml"
        config.write_text(CONFIG.format(port=runner.addresses[0][1], ca=tmp_path / "ca.pem"))

        async def labels(job: str) -> list[dict[str, str]]:
            process = await asyncio.create_subprocess_exec(
                "promtool", "check", "service-discovery", "--timeout=1s", str(config), job,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, error = await process.communicate()
            assert process.returncode == 0, error
            return sorted((row["discoveredLabels"] for row in json.loads(out)), key=lambda found: found["__address__"])

        containers, some, nodes, found, path = await asyncio.gather(
            *(labels(job) for job in ("containers", "some", "nodes", "sd", "path"))
        )
    finally:
        await runner.cleanup()
    assert [row["__meta_triton_machine_alias"] for row in containers] == ['a "b"\n', "c2", "c3"]
    assert [row["__meta_triton_machine_alias"] for row in some] == ['a "b"\n', "c3"]
    assert [row["__meta_triton_machine_alias"] for row in nodes] == ["host-1"]
    keys = {key for row in some for key in row if key.startswith("__meta_triton_")}
    assert keys == {
        f"__meta_triton_{key}"
        for key in ("machine_id", "machine_alias", "machine_brand", "machine_image", "server_id", "groups")
    }
    ours = [{key: row[key] for key in keys} for row in found]
    assert ours == [{key: row[key] for key in keys} for row in some]
    assert [row["__address__"].rpartition(":")[0] for row in found] == [
        row["__address__"].rpartition(":")[0] for row in some
    ]
    assert {row["__address__"] for row in path} == {"p:1"}
    assert sorted(row["__metrics_path__"] for row in path) == [f"/v1/{uuid_of(number)}/metrics" for number in (1, 2, 3)]
