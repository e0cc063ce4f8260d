"""containers: what fits a terminal, what is chosen, and why a container has its owner."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pymon.cli import main
from tests.agent.fixture_host import FixtureHost, copy_host

DOCKER = "0e156a16-8a01-5534-9d60-e9ef3ccd6e65"
DOCKER_ID = "4c01db0b339c"


@pytest.fixture
def host(tmp_path: Path) -> FixtureHost:
    host = copy_host("v2", tmp_path)
    (group,) = host.cgroups.glob(f"system.slice/docker-{DOCKER_ID}*.scope")
    identifier = group.name.removeprefix("docker-").removesuffix(".scope")
    directory = host.root / "var/lib/docker/containers" / identifier
    directory.mkdir(parents=True)
    labels = {"who": "acme", "evil\x1b[2J\n": "\x1b]0;x\x07"}
    document = {"Name": "/web", "Config": {"Image": "nginx", "Labels": labels}, "State": {"Running": True}}
    (directory / "config.v2.json").write_text(json.dumps(document))
    return host


@pytest.fixture
def containers(
    host: FixtureHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*flags: str, status: int = 0) -> str:
        assert main(["containers", *host.flags(), *flags]) == status
        out, err = capsys.readouterr()
        assert (err == "") is (status == 0)
        return out + err

    return run


def rules(host: FixtureHost, text: str) -> str:
    """The flag that gives the agent these rules."""
    file = host.root / "agent.yaml"
    file.write_text(text)
    return f"--config.file={file}"


def column(text: str, name: str) -> list[str]:
    title, *lines = (re.split("  +", line) for line in text.splitlines())
    return [line[title.index(name)] for line in lines]


def test_ids_are_as_short_as_runtimes_show_them(containers: Callable[..., str]) -> None:
    short, whole = containers(), containers("--no-trunc")
    assert f"/system.slice/docker-{DOCKER_ID}.scope" in column(short, "CGROUP")
    assert re.search(rf"/docker-{DOCKER_ID}[0-9a-f]{{52}}\.scope$", whole, re.MULTILINE)
    assert column(short, "UUID") == column(whole, "UUID")
    assert DOCKER in column(short, "UUID")


@pytest.mark.parametrize("width", [80, 100, 140])
def test_it_fits_the_terminal(containers: Callable[..., str], monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = containers()
    assert max(map(len, text.splitlines())) <= width
    assert DOCKER[:8] in {uuid[:8] for uuid in column(text, "UUID")}
    assert len(column(text, "NAME")) == 6
    whole = containers("--no-trunc")
    assert max(map(len, whole.splitlines())) > 140


def _seconds(age: str) -> int:
    return int(age[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[age[-1]]


def test_sort_and_filter(containers: Callable[..., str]) -> None:
    assert column(containers("--sort=runtime"), "RUNTIME") == [
        "containerd", "crio", "docker", "lxc", "podman", "systemd",
    ]  # fmt: skip
    assert column(containers("--filter=name=web*", "--sort=name"), "NAME") == ["web", "web1"]
    assert column(containers("--filter", "name=web*", "--filter", "runtime=lxc"), "NAME") == ["web1"]
    assert len(column(containers("--filter=owner="), "NAME")) == 6
    ages = [_seconds(age) for age in column(containers("--sort=age"), "AGE")]
    assert ages == sorted(ages), "the youngest first"
    (only,) = json.loads(containers("--json", "--filter", f"uuid={DOCKER}"))["containers"]
    assert only["name"] == "web"
    assert "KEY=VALUE" in containers("--filter=colour=red", status=2)
    assert "--sort" in containers("--sort=colour", status=2)


def test_explain(host: FixtureHost, containers: Callable[..., str]) -> None:
    flag = rules(
        host,
        """\
owners:
- slice: tenant-(?P<account>[^.]+)\\.slice
- label: who
- namespace: {shop: carol}
- account: ops
""",
    )
    for wanted in ("web", DOCKER, DOCKER[:8].upper()):
        text = containers("--explain", wanted, flag)
        assert column(text.split("\n\n")[1], "YIELDS") == ["nothing", "nothing", "acme (decides)", "nothing", "ops"]
        assert r"rule 0, slice: tenant-(?P<account>[^.]+)\.slice" in text
        assert "rule 2, namespace: {shop: carol}" in text
        assert text.splitlines()[-1].startswith("owner acme,")
        assert re.search(r"^label who +acme$", text, re.MULTILINE)
        assert "\x1b" not in text, "a tenant writes labels"
        assert "\x07" not in text
    other = containers("--explain", "web1", flag)
    assert "ops (decides)" in other


def test_explain_says_why_there_is_no_owner(host: FixtureHost, containers: Callable[..., str]) -> None:
    assert "no rule yields anything" in containers("--explain=web")
    text = containers("--explain=web", rules(host, 'owners: [{label: "evil\\e[2J\\n"}, {account: ops}]'))
    assert "no account's name" in text
    assert "rule 0 yields '\\x1b]0;x\\x07'" in text
    # Names and labels that cannot be read are a reason too.
    assert "config.v2.json" not in text
    for file in host.root.glob("var/lib/docker/containers/*/config.v2.json"):
        file.write_text("{")
    assert "not valid JSON" in containers("--explain", DOCKER)


def test_explain_of_what_is_not_there_or_there_twice(host: FixtureHost, containers: Callable[..., str]) -> None:
    assert "no container here has this name" in containers("--explain=nothing", status=1)
    (file,) = host.root.glob("var/lib/docker/containers/*/config.v2.json")
    file.write_text(file.read_text().replace("/web", "/web1"))
    assert "2 containers here have this name" in containers("--explain=web1", status=1)


@pytest.mark.parametrize(("command", "own"), [("containers", "--explain"), ("collect", "--openmetrics")])
def test_help_shows_the_commands_own_flags_first(command: str, own: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    first, agent = text.split("\nagent flags:\n")
    assert f"  {own}" in first
    assert f"  {own}" not in agent
    assert "--web.listen-address" in agent
    assert "--web.listen-address" not in first


def test_own_flags_are_no_keys_of_the_agents_file(host: FixtureHost, containers: Callable[..., str]) -> None:
    assert "json: unknown key" in containers(rules(host, "json: true"), status=2)


def test_an_empty_default_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cert", "create", "--help"])
    text = capsys.readouterr().out
    assert "--label TEXT" in text
    assert "Default: ." not in text
