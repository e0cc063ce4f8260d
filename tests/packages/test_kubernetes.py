"""deploy/kubernetes: what its files say of one another. `make kubernetes-check` compares with the schemas."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pymon.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "kubernetes"


def resources(name: str) -> dict[str, dict]:
    """The resources of a file, by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((FOLDER / name).read_text())}


def pod(resource: dict) -> dict:
    return resource["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def agent() -> dict[str, dict]:
    return resources("agent.yaml")


@pytest.fixture(scope="module")
def proxy() -> dict[str, dict]:
    return resources("proxy.yaml")


def test_the_configurations_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web = tmp_path / "web.yml"
    web.write_text("{}\n")
    text = (FOLDER / "agent-config.yaml").read_text()
    assert "/etc/pymon/web.yml" in text
    (tmp_path / "agent.yaml").write_text(text.replace("/etc/pymon/web.yml", str(web)))
    assert main(["check-config", str(tmp_path / "agent.yaml"), str(FOLDER / "proxy-config.yaml")]) == 0
    assert capsys.readouterr().err == ""


def test_the_agents_admit_the_proxy_by_its_name(proxy: dict[str, dict]) -> None:
    web = yaml.safe_load((FOLDER / "agent-web.yml").read_text())["tls_server_config"]
    assert web["client_allowed_sans"] == [f"pymon:proxy:{pod(proxy['Deployment'])['hostname']}"]
    assert web["client_auth_type"] == "RequireAndVerifyClientCert"


def test_the_proxy_finds_the_agents_by_the_records_of_their_service(agent: dict[str, dict]) -> None:
    service, space = agent["Service"], resources("namespace.yaml")["Namespace"]["metadata"]["name"]
    port, name = service["spec"]["ports"][0], service["metadata"]["name"]
    srv = yaml.safe_load((FOLDER / "proxy-config.yaml").read_text())["node"]["srv"]
    assert srv == f"https://_{port['name']}._tcp.{name}.{space}.svc.cluster.local"
    config = yaml.safe_load((FOLDER / "agent-config.yaml").read_text())
    assert config["web"]["listen-address"] == f":{port['port']}"
    assert service["spec"]["clusterIP"] == "None"


def test_the_capabilities_are_those_of_the_unit(agent: dict[str, dict], proxy: dict[str, dict]) -> None:
    unit = (REPOSITORY / "deploy" / "pymon-agent.service").read_text()
    line = next(line for line in unit.splitlines() if line.startswith("AmbientCapabilities="))
    named = line.partition("=")[2].replace("CAP_", "").split()
    given = pod(agent["DaemonSet"])["containers"][0]["securityContext"]["capabilities"]
    assert given == {"drop": ["ALL"], "add": named}
    for container in (*pod(proxy["Deployment"])["initContainers"], *pod(proxy["Deployment"])["containers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_nothing_has_a_token_of_the_api(agent: dict[str, dict], proxy: dict[str, dict]) -> None:
    for workload in (agent["DaemonSet"], proxy["Deployment"]):
        assert pod(workload)["automountServiceAccountToken"] is False


def test_the_volumes_that_are_mounted_are_there(agent: dict[str, dict], proxy: dict[str, dict]) -> None:
    for workload in (agent["DaemonSet"], proxy["Deployment"]):
        there = {volume["name"] for volume in pod(workload)["volumes"]}
        containers = [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]
        assert {mount["name"] for container in containers for mount in container["volumeMounts"]} == there
    config = yaml.safe_load((FOLDER / "agent-config.yaml").read_text())
    mounts = pod(agent["DaemonSet"])["containers"][0]["volumeMounts"]
    assert config["path"]["rootfs"] in {mount["mountPath"] for mount in mounts if mount.get("readOnly")}
    assert config["data-dir"] in {mount["mountPath"] for mount in mounts}
