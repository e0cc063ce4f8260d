"""From `pymon up` to a tenant's target in Prometheus by the commands that each step prints, as they are printed.

They run in a network and mount namespace of their own, so that all ports are the default ones and nothing of this
machine's /etc/prometheus is touched. `docker` is a stand-in that makes the control group and the file that Docker
makes; all else is real.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.e2e.prometheus import require
from tests.e2e.proxy import environment
from tests.e2e.test_up import ANY_PORT
from tests.live.world import HIERARCHIES, PREFIX, until

pytestmark = pytest.mark.root

NOBODY = 65534
REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = Path(sys.executable).with_name("pymon")
ID = "5f" * 32
PARENT = f"{PREFIX}-docker"
DOCKER = """\
#!/bin/sh
# docker run --detach --label KEY=VALUE IMAGE
set -e
[ "$1 $2 $3" = "run --detach --label" ]
for root in {roots}; do
    mkdir -p "$root/{parent}/docker-{id}.scope"
done
mkdir -p '{rootfs}/var/lib/docker/containers/{id}'
cat >'{rootfs}/var/lib/docker/containers/{id}/config.v2.json' <<END
{{"Name": "/web", "Config": {{"Image": "$5", "Labels": {{"${{4%%=*}}": "${{4#*=}}"}}}}, "State": {{"Running": true}}}}
END
echo {id}
"""


class Place:
    """A namespace, and commands that run in it with `docker` on their PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = pwd.getpwnam("prometheus")
        programs, etc, home, rootfs = (folder / name for name in ("bin", "etc", "home", "rootfs"))
        for directory in (programs, etc, home, rootfs / "etc"):
            directory.mkdir(parents=True)
        os.chown(home, self.user.pw_uid, self.user.pw_gid)
        etc.chmod(0o755)
        (rootfs / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        docker = programs / "docker"
        roots = " ".join(f"'{root}'" for root in HIERARCHIES.roots)
        docker.write_text(DOCKER.format(roots=roots, parent=PARENT, id=ID, rootfs=rootfs))
        docker.chmod(0o755)
        self._environment = {**environment(), "PATH": f"{programs}:{os.environ['PATH']}"}
        self.up_environment = {"PYMON_DATA_DIR": str(folder / "data"), "PYMON_PATH_ROOTFS": str(rootfs)}
        script = (
            'ip link set lo up && mount --bind "$0" /etc/prometheus && mount --bind "$1" /var/lib/prometheus && '
            "echo there && exec sleep 600"
        )
        self._holder = subprocess.Popen(
            ["unshare", "-m", "-n", "sh", "-c", script, etc, home], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self._holder.stdout
        with self._holder.stdout as stdout:
            said = stdout.readline().decode()
        if said != "there\n":
            self._holder.wait()
            pytest.skip(f"no namespace of its own: {said}")
        self._inside = ["nsenter", "-t", str(self._holder.pid), "-m", "-n"]
        self._started: list[subprocess.Popen[bytes]] = []

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a command line to its end, which must be a good one."""
        done = subprocess.run(
            [*self._inside, "sh", "-c", f"cd {self.folder}; {line}"], env=self._environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done)
        return done

    def start(self, line: str, name: str, environment: Mapping[str, str] = MappingProxyType({})) -> Path:
        """Start a command line that goes on; the file that both of its streams go to."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as stream:
            words = [*self._inside, "sh", "-c", f"cd {self.folder}; exec {line}"]
            self._started.append(
                subprocess.Popen(
                    words,
                    env={**self._environment, **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=stream,
                )
            )
        return log

    def prometheus(self, query: str) -> Any:
        """What Prometheus's API answers; None when it does not."""
        done = subprocess.run(
            [*self._inside, "curl", "--silent", "--fail", f"http://127.0.0.1:9090/api/v1/{query}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return json.loads(done.stdout)["data"] if done.returncode == 0 else None

    def user_of(self, number: int) -> int:
        """Who the program runs as that was started as this one, from 0."""
        shell = self._started[number].pid
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return Path(f"/proc/{(children or [str(shell)])[0]}").stat().st_uid

    def close(self) -> None:
        """End everything, the last first, and take the control group away."""
        for process in [*reversed(self._started), self._holder]:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for root in HIERARCHIES.roots:
            for group in (root / PARENT / f"docker-{ID}.scope", root / PARENT):
                if group.exists():
                    group.rmdir()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    for program in ("prometheus", "curl", "unshare", "nsenter", "runuser", "ip"):
        require(program)
    try:
        pwd.getpwnam("prometheus")
    except KeyError:
        pytest.skip("there is no user prometheus")
    if not Path("/etc/prometheus").is_dir() or not Path("/var/lib/prometheus").is_dir():
        pytest.skip("Debian's prometheus is not installed")
    place = Place(tmp_path)
    try:
        yield place
    finally:
        place.close()


def printed(text: str, before: str) -> str:
    """The command line that a text has, indented, behind what introduces it."""
    found = re.search(rf"{before}:\n+  (\S.*)\n", text)
    assert found, text
    return found[1]


def test_four_commands_from_up_to_a_tenants_target(place: Place) -> None:
    up = place.start(f"{PROGRAM} up", "up", place.up_environment)
    until("what up says", lambda: "triton_sd_configs" in up.read_text(), 60)
    first = printed(up.read_text(), "each command prints the next one")
    said = place.run(first).stderr
    second, third = printed(said, "Next, start a container of acme.*"), printed(said, "and create a certificate.*")
    assert second == "docker run --detach --label pymon.account=acme nginx"
    assert place.run(second).stdout == f"{ID}\n"
    said = place.run(third)
    (config,) = [line for line in said.stdout.splitlines() if line.endswith("prometheus.yml")]
    made = Path(f"{place.folder}/etc/acme/prometheus.yml").read_bytes()
    fourth = printed(said.stderr, "Next, start Prometheus")
    assert config in fourth
    place.start(fourth, "prometheus")

    def health() -> list[tuple[str, str]]:
        data = place.prometheus("targets?state=active")
        return [
            (target["labels"].get("alias", ""), target["health"]) for target in (data or {}).get("activeTargets", ())
        ]

    until("the tenant's target is up", lambda: health() == [("web", "up")], 60)
    assert place.user_of(1) == place.user.pw_uid
    assert Path(f"{place.folder}/etc/acme/prometheus.yml").read_bytes() == made
    for expression, count in (
        ('up{job="pymon"} == 1', 1),
        (f'container_last_seen{{name="web",image="nginx",id="/{PARENT}/docker-{ID}.scope"}}', 1),
        ('{exported_name!=""}', 0),
    ):
        found = place.prometheus(f"query?query={urllib.parse.quote(expression)}")
        assert len(found["result"]) == count, (expression, found)
    log = (place.folder / "prometheus.log").read_text()
    assert not re.findall(r".*level=(?:warn|error).*", log), log


def test_up_as_another_user_says_what_it_cannot_read(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rootfs, data = Path(folder, "rootfs"), Path(folder, "data")
        for directory in (rootfs / "etc", rootfs / "var/lib/docker/containers", data):
            directory.mkdir(parents=True)
        (rootfs / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        Path(folder).chmod(0o755)
        (rootfs / "var/lib/docker").chmod(0o700)
        os.chown(data, NOBODY, NOBODY)
        words = [sys.executable, "-m", "pymon", "up", f"--data-dir={data}", f"--path.rootfs={rootfs}", *ANY_PORT]
        log = tmp_path / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                words, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[], stdin=subprocess.DEVNULL,
                env={**environment(), "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", "HOME": folder},
                stdout=stream, stderr=stream,
            )  # fmt: skip
        try:
            until("it serves or has ended", lambda: "pymon-proxy" in log.read_text() or process.poll() is not None, 60)
            text = log.read_text()
            assert process.poll() is None, text
        finally:
            process.terminate()
            assert process.wait(30) == 0
        (docker,) = [line for line in text.splitlines() if "no names and labels of docker containers" in line]
        assert "level=warn" in docker
        assert "permission denied; run pymon as root" in docker
        # His own slice is his own to label, those of others are not.
        assert f"user-(?!{NOBODY}\\.)[0-9]+" in (data / "agent.yaml").read_text()
