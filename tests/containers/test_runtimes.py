"""What the runtimes' files tell, of the trees in tests/fixtures/runtimes."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.containers.files import LIMIT, UnreadableError, epoch, parse_json, read_bytes, text
from pymon.containers.model import Match
from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes, parse_path
from tests.containers.runtime_trees import (
    BOLTDB,
    CRI,
    CRIO,
    DOCKER,
    DOCKER_CONFIG,
    EVIL,
    FIXTURES,
    MICROK8S,
    NERDCTL,
    NOBODY,
    POD,
    PODMAN,
    SANDBOX,
    describe,
    edit,
    load,
    settled,
)

pytestmark = pytest.mark.filterwarnings("error")


class TestDocker:
    def test_details(self):
        details = describe(FIXTURES / "docker", f"/system.slice/docker-{DOCKER}.scope")
        assert details.name == "shop-web-1"
        assert details.image == "nginx:1.29"
        assert details.labels == {
            "com.docker.compose.project": "shop",
            "com.example/app": "web",
            "triton.cmon.groups": "front,eu-1",
            "triton.cns.services": "www:443",
            "restartcount": "3",
        }
        assert details.started_at == 1793366848.918018
        assert (details.state, details.health, details.reason) == ("running", "healthy", "")

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"Running": True, "Paused": True}, ("paused", "none", True)),
            ({"Running": False, "Paused": False}, ("", "none", False)),
            ({"Running": True, "StartedAt": "0001-01-01T00:00:00Z"}, ("running", "none", False)),
            ({"Running": True, "Health": {"Status": "starting"}}, ("running", "starting", True)),
        ],
    )
    def test_state(self, tree, change, expected):
        root = tree("docker")
        edit(root / DOCKER_CONFIG, lambda document: document["State"].update({"Health": None} | change))
        details = describe(root, f"/docker/{DOCKER}")
        assert (details.state, details.health, details.started_at is not None) == expected

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({}, (None, None, "")),
            ({"ExitCode": 137}, (137, 1793366900.5, "exited")),
            ({"ExitCode": 1, "Dead": True}, (1, 1793366900.5, "dead")),
            ({"ExitCode": 1, "Running": True}, (None, None, "")),
            ({"ExitCode": 1, "FinishedAt": "0001-01-01T00:00:00Z"}, (None, None, "")),
            ({"ExitCode": "1"}, (None, None, "")),
            ({"ExitCode": 10**400}, (None, None, "")),
            ({"ExitCode": True}, (None, None, "")),
        ],
    )
    def test_end(self, tree, change, expected):
        root = tree("docker")
        state = {"Running": not change, "FinishedAt": "2026-10-30T13:28:20.5Z"} | change
        edit(root / DOCKER_CONFIG, lambda document: document["State"].update(state))
        details = describe(root, f"/docker/{DOCKER}")
        assert (details.exit_code, details.finished_at, details.end_state) == expected
        assert details.restarts == 3
        assert details.state in ("running", "")

    @pytest.mark.parametrize(
        ("change", "killed"),
        [({}, True), ({"OOMKilled": False}, False), ({"OOMKilled": 1}, False), ({"Running": True}, False)],
    )
    def test_killed_for_want_of_memory(self, tree, change, killed):
        root = tree("docker")
        state = {"Running": False, "FinishedAt": "2026-10-30T13:28:20.5Z", "ExitCode": 137, "OOMKilled": True}
        edit(root / DOCKER_CONFIG, lambda document: document["State"].update(state | change))
        assert describe(root, f"/docker/{DOCKER}").oom_killed is killed

    def test_hostile_names_pass_through(self, tree):
        root = tree("docker")

        def change(document):
            document["Name"] = "/" + EVIL
            document["Config"]["Labels"] = {EVIL: "x" * 4096, "half": "\ud800", "number": 7}

        edit(root / DOCKER_CONFIG, change)
        details = describe(root, f"/docker/{DOCKER}")
        assert details.name == EVIL
        assert details.labels == {EVIL: "x" * 4096, "half": "?", "restartcount": "3"}

    def test_another_data_directory(self, tree):
        root = tree("docker")
        (root / "etc/docker").mkdir()
        (root / "etc/docker/daemon.json").write_text('{"data-root": "/srv/docker"}')
        (root / "var/lib/docker").rename(root / "srv-docker")
        (root / "srv").mkdir()
        (root / "srv-docker").rename(root / "srv/docker")
        assert describe(root, f"/docker/{DOCKER}").name == "shop-web-1"

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "not valid JSON"),
            (b'{"Name": "/x"', "not valid JSON"),
            (b"\xff\xfe\x00", "not valid JSON"),
            (b"[" * 100_000, "not valid JSON"),
            (b"[" + b"9" * 5000 + b"]", "not valid JSON"),
            (b"x" * (LIMIT + 1), f"larger than {LIMIT} bytes"),
        ],
    )
    def test_a_bad_file_costs_the_details(self, tree, content, why):
        root = tree("docker")
        (root / DOCKER_CONFIG).write_bytes(content)
        details = describe(root, f"/docker/{DOCKER}")
        assert (details.name, details.image, details.labels) == (DOCKER, "", {})
        assert details.reason == f"{root / DOCKER_CONFIG}: {why}"

    @pytest.mark.parametrize(
        "content",
        ["[]", "7", "null", '{"Config": [], "State": 3, "Name": null}', '{"Config": {"Labels": null}}'],
    )
    def test_another_shape_is_empty(self, tree, content):
        root = tree("docker")
        (root / DOCKER_CONFIG).write_text(content)
        details = describe(root, f"/docker/{DOCKER}")
        assert (details.name, details.image, details.labels, details.started_at) == (DOCKER, "", {}, None)

    def test_missing(self):
        details = describe(FIXTURES / "docker", f"/docker/{NOBODY}")
        assert details.name == NOBODY
        assert details.reason.endswith(f"{NOBODY}/config.v2.json: no such file or directory")

    def test_pipes_links_and_directories_are_not_read(self, tree):
        root = tree("docker")
        path = root / DOCKER_CONFIG
        path.unlink()
        os.mkfifo(path)
        assert describe(root, f"/docker/{DOCKER}").reason == f"{path}: not a regular file"
        path.unlink()
        path.symlink_to(root / "etc/passwd")
        assert describe(root, f"/docker/{DOCKER}").reason.startswith(f"{path}: ")
        path.unlink()
        path.mkdir()
        assert describe(root, f"/docker/{DOCKER}").reason == f"{path}: not a regular file"


class TestRootless:
    path = f"/user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service/user.slice"

    @pytest.fixture
    def root(self, tree):
        root = tree("docker")
        passwd = root / "etc/passwd"
        passwd.write_text(f"broken line\nann:x:{os.getuid()}:100:Ann:/home/ann:/bin/sh\n")
        return root

    def test_docker_in_the_users_home(self, root):
        assert describe(root, f"{self.path}/docker-{DOCKER}.scope").name == "anns-web"

    def test_a_user_cannot_borrow_the_systems_container(self, root):
        shutil.rmtree(root / "home/ann/.local/share/docker")
        details = describe(root, f"{self.path}/docker-{DOCKER}.scope")
        assert (details.name, details.labels) == (DOCKER, {})
        assert "home/ann" in details.reason

    def test_files_of_another_user_are_not_read(self, root):
        other = os.getuid() + 1
        (root / "etc/passwd").write_text(f"eve:x:{other}:100:Eve:/home/ann:/bin/sh\n")
        details = describe(root, f"/user.slice/user-{other}.slice/docker-{DOCKER}.scope")
        assert (details.name, details.labels) == (DOCKER, {})
        assert f"belongs to uid {os.getuid()}, expected {other}" in details.reason

    def test_an_unknown_user(self, root):
        details = describe(root, f"/user.slice/user-4294967.slice/libpod-{PODMAN}.scope")
        assert details.reason == f"{root}/etc/passwd: has no user 4294967, whose home would describe the container"

    def test_podman_in_the_users_home(self, root):
        storage = root / "home/ann/.local/share/containers/storage"
        shutil.copytree(FIXTURES / "podman/var/lib/containers/storage", storage)
        load(storage / "db.sql")
        details = describe(root, f"{self.path}/libpod-{PODMAN}.scope")
        assert (details.name, details.pod, details.labels["tier"]) == ("db", "backend", "storage")

    def test_a_users_database_being_written(self, root):
        storage = root / "home/ann/.local/share/containers/storage"
        shutil.copytree(FIXTURES / "podman/var/lib/containers/storage", storage)
        load(storage / "db.sql")
        (storage / "db.sql-journal").touch()
        details = describe(root, f"{self.path}/libpod-{PODMAN}.scope")
        assert (details.name, details.reason) == ("db", f"{storage}/db.sql: being written")

    def test_a_database_made_to_waste_time(self, root):
        storage = root / "home/ann/.local/share/containers/storage"
        storage.mkdir(parents=True)
        database = sqlite3.connect(storage / "db.sql")
        database.executescript(
            """
            CREATE VIEW ContainerConfig AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
            SELECT i AS ID, i AS JSON, i AS PodID FROM n;
            CREATE TABLE ContainerState(ID, JSON); CREATE TABLE PodConfig(ID, Name);
            """
        )
        database.close()
        details = describe(root, f"{self.path}/libpod-{PODMAN}.scope")
        assert "not readable as Podman's database (interrupted)" in details.reason

    @pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
    def test_what_is_no_database(self, root, content):
        storage = root / "home/ann/.local/share/containers/storage"
        storage.mkdir(parents=True)
        (storage / "db.sql").write_bytes(content)
        details = describe(root, f"{self.path}/libpod-{PODMAN}.scope")
        assert details.name == PODMAN
        assert f"{storage}/db.sql: " in details.reason
        assert "\n" not in details.reason

    def test_containerd_and_crio_have_none(self, root):
        assert "rootless" in describe(root, f"{self.path}/nerdctl-{NERDCTL}.scope").reason
        assert "rootless" in describe(root, f"{self.path}/crio-{CRIO}.scope").reason


class TestLxc:
    root = FIXTURES / "lxc"

    @pytest.mark.parametrize(
        ("path", "name", "namespace"),
        [
            ("/lxc.payload.web", "web.example.com", ""),
            ("/lxc.payload.web-1", "web.example.com", ""),
            ("/lxc.payload.my_app", "my_app", ""),
            ("/lxc/100", "mail", ""),
        ],
    )
    def test_names(self, path, name, namespace):
        details = describe(self.root, path)
        assert (details.name, details.namespace, details.reason) == (name, namespace, "")

    @pytest.mark.parametrize(
        ("path", "name", "namespace"),
        [("/lxc.payload.shop_blog", "blog", "shop"), ("/lxc.payload...", "..", ""), ("/lxc.payload/.", ".", "")],
    )
    def test_without_a_configuration(self, path, name, namespace):
        details = describe(self.root, path)
        assert (details.name, details.namespace) == (name, namespace)
        assert "not there; those of LXD and Incus are not read" in details.reason

    @pytest.mark.parametrize("name", ["x" * 4096, "a\0b"])
    def test_names_that_are_no_files(self, name):
        assert describe(self.root, f"/lxc.payload.{name}").name == name

    def test_bytes_that_are_no_text(self, tree):
        root = tree("lxc")
        (root / "var/lib/lxc/web/config").write_bytes(b"lxc.uts.name = a\xffb\n")
        assert describe(root, "/lxc.payload.web").name == "a\ufffdb"


class TestMachines:
    root = FIXTURES / "machined"

    def test_a_machine_in_another_unit(self, tree):
        root = tree("machined")
        path = "/system.slice/web.service/payload"
        assert (describe(root, path).name, describe(root, path).reason) == ("web", "")
        before = settled(Runtimes(root), recognise(path))
        link = root / "run/systemd/machines/unit:web.service"
        link.symlink_to("trixie")
        details = describe(root, path)
        assert (details.name, details.started_at, details.reason) == ("trixie", 1793000123.456789, "")
        assert settled(Runtimes(root), recognise(path)) != before
        link.unlink()
        link.symlink_to("../../../etc/passwd")
        assert describe(root, path).started_at is None

    @pytest.mark.parametrize(
        ("path", "name", "started"),
        [
            ("/machine.slice/machine-trixie.scope", "trixie", 1793000123.456789),
            ("/machine.slice/systemd-nspawn@trixie.service", "trixie", 1793000123.456789),
            (r"/machine.slice/machine-qemu\x2d3\x2dweb.scope", "web", 1793000222.0),
            (r"/machine.slice/machine-..\x2fmachines\x2ftrixie.scope", "../machines/trixie", None),
        ],
    )
    def test_starts(self, path, name, started):
        details = describe(self.root, path)
        assert (details.name, details.started_at, details.reason) == (name, started, "")

    def test_missing_and_malformed(self, tree):
        root = tree("machined")
        path = root / "run/systemd/machines/trixie"
        path.write_text("REALTIME=soon\n")
        assert describe(root, "/machine.slice/machine-trixie.scope").started_at is None
        path.unlink()
        details = describe(root, "/machine.slice/machine-trixie.scope")
        assert (details.name, details.reason) == ("trixie", f"{path}: no such file or directory")


class TestNamedDirectories:
    """What `--runtime.path` names comes before the usual places, and is for the system's containers alone."""

    @pytest.mark.parametrize(
        ("name", "usual", "named", "path", "expected"),
        [
            ("docker", "var/lib/docker", "docker=/srv/a", f"/docker/{DOCKER}", "shop-web-1"),
            ("podman", "var/lib/containers/storage", "podman=/srv/a", f"/machine.slice/libpod-{PODMAN}.scope", "db"),
            ("podman-boltdb", "var/lib/containers/storage", "podman=/srv/a", f"/x/libpod-{BOLTDB}.scope", "cache"),
            ("containerd", "run/containerd", "containerd=/srv/a", f"/kubepods/pod{POD}/{CRI}", "nginx"),
            ("containerd", "run/containerd", "containerd=/srv/a", f"/kubepods/pod{POD}/kata_{SANDBOX}", "POD"),
            ("crio", "run/containers/storage", "crio=/srv/a", f"/kubepods/pod{POD}/crio-{CRIO}", "api"),
            ("lxc", "var/lib/lxc", "lxc=/srv/a", "/lxc.payload.100", "mail"),
        ],
    )
    def test_all_kinds(self, tree, name, usual, named, path, expected):
        root = tree(name)
        if name == "podman":
            load(root / "var/lib/containers/storage/db.sql")
            (root / "var/lib/containers/storage/overlay-containers" / PODMAN / "userdata").mkdir(parents=True)
        match = recognise(path)
        usually = Runtimes(root).describe(match)
        (root / "srv").mkdir()
        (root / usual).rename(root / "srv/a")
        assert Runtimes(root).describe(match).name != usually.name
        runtimes = Runtimes(root, [parse_path(named)])
        assert runtimes.describe(match).name == usually.name == expected
        assert settled(runtimes, match) != settled(Runtimes(root), match)

    def test_a_leftover_in_the_usual_place_says_nothing(self, tree):
        root = tree("docker")
        shutil.copytree(root / "var/lib/docker", root / "srv/docker")
        edit(root / "srv/docker" / DOCKER_CONFIG.removeprefix("var/lib/docker/"), lambda it: it.update(Name="/moved"))
        runtimes = Runtimes(root, [parse_path("docker=/srv/docker")])
        assert runtimes.describe(recognise(f"/docker/{DOCKER}")).name == "moved"

    def test_a_user_s_containers_are_not_described_there(self, tree):
        root = tree("docker")
        (root / "etc/passwd").write_text(f"eve:x:{os.getuid()}:100:Eve:/home/eve:/bin/sh\n")
        runtimes = Runtimes(root, [parse_path("docker=/var/lib/docker")])
        path = f"/user.slice/user-{os.getuid()}.slice/docker-{DOCKER}.scope"
        assert runtimes.describe(recognise(path)).name == DOCKER

    @pytest.mark.parametrize("text", ["", "docker", "docker=", "docker=srv", "=/srv", "systemd=/srv", "Docker=/srv"])
    def test_what_is_no_such_path(self, text):
        with pytest.raises(ValueError, match="KIND=/DIR, with KIND containerd, crio, docker, lxc, podman"):
            parse_path(text)

    @pytest.mark.parametrize(
        "place", ["run/k0s/containerd", "var/lib/k0s/run/containerd", "run/k3s/containerd", MICROK8S]
    )
    def test_the_usual_places_of_containerd(self, tree, place):
        root = tree("containerd")
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "run/containerd").rename(root / place)
        assert describe(root, f"/kubepods/pod{POD}/{CRI}").name == "nginx"


@pytest.mark.parametrize("runtime", ["systemd", "pattern", "cgroup"])
def test_what_has_no_files(runtime):
    details = Runtimes("/nowhere").describe(Match("/x", runtime, "", "x"))
    assert (details.name, details.reason, details.started_at) == ("x", "", None)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-10-30T13:27:28.918018959Z", 1793366848.918018),
        ("2026-10-26T11:33:21.25+02:00", 1793007201.25),
        ("2026-10-28T07:00:02Z", 1793170802.0),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("", None),
        ("soon", None),
        ("9999-99-99T00:00:00Z", None),
        (1793170802, None),
        (None, None),
    ],
)
def test_times(written, seconds):
    assert epoch(written) == seconds


def test_reading_is_bounded_also_when_a_file_hides_its_size(tmp_path):
    assert read_bytes(Path("/proc/self/stat"))
    with pytest.raises(UnreadableError, match="larger than 3 bytes"):
        read_bytes(Path("/proc/self/stat"), limit=3)
    path = tmp_path / "three"
    path.write_bytes(b"abc")
    assert read_bytes(path, limit=3) == b"abc"


def test_texts_of_a_container_that_are_too_long_are_left_out(tmp_path):
    identifier = "ab" * 32
    file = tmp_path / "var/lib/docker/containers" / identifier / "config.v2.json"
    file.parent.mkdir(parents=True)
    many = {f"k{number}": "x" * 4000 for number in range(100)}
    labels = {"a": "b", "triton.cns.services": "web:80", "long": "x" * 4097, **many}
    file.write_text(json.dumps({"Name": "/web", "Config": {"Image": "x" * 3_000_000, "Labels": labels}}))
    found = Runtimes(tmp_path).describe(recognise(f"/docker/{identifier}"))
    assert (found.name, found.image) == ("web", "")
    assert found.labels["a"] == "b"
    assert found.labels["triton.cns.services"] == "web:80"
    assert "long" not in found.labels
    assert 60_000 < sum(len(key) + len(value) for key, value in found.labels.items()) <= 65536
    assert found.reason == f"too long, left out: image of 3000000 characters, {103 - len(found.labels)} labels"


def test_text_can_always_be_written():
    assert text(parse_json(r'"a\ud800b"', "x")).encode() == b"a?b"


KEYS = st.sampled_from(["Name", "Config", "State", "Labels", "Image", "StartedAt", "Running", "Health", "Status"])
CRI_KEYS = st.sampled_from(["annotations", "id", "names", "metadata", "started", "io.kubernetes.cri-o.Labels"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([PODMAN, "{", "[]"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | CRI_KEYS | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
FILES = (
    (f"/docker/{DOCKER}", DOCKER_CONFIG),
    (f"/libpod-{PODMAN}", "var/lib/containers/storage/overlay-containers/containers.json"),
    (f"/libpod-{PODMAN}", f"var/lib/containers/storage/overlay-containers/{PODMAN}/userdata/config.json"),
    (f"/cri-containerd-{CRI}", f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}/config.json"),
    (f"/crio-{CRIO}", f"run/containers/storage/overlay-containers/{CRIO}/userdata/config.json"),
    (f"/crio-{CRIO}", f"var/lib/containers/storage/overlay-containers/{CRIO}/userdata/state.json"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("any")


@given(st.sampled_from(FILES), VALUES)
def test_any_document_has_an_answer(root, file, value):
    path, name = file
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(value))
    details = describe(root, path)
    assert details.name
    assert all(isinstance(part, str) for pair in details.labels.items() for part in pair)
    assert "\n" not in details.reason


def test_descriptors_are_given_back(podman):
    paths = (f"/libpod-{PODMAN}", f"/libpod-{NOBODY}", f"/docker/{NOBODY}", f"/crio-{NOBODY}", "/lxc/x")
    (podman / "var/lib/lxc/x/config").mkdir(parents=True)
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for path in paths:
        describe(podman, path)
    assert len(list(descriptors.iterdir())) == before


def test_a_file_of_the_kernel_is_read_in_small_pieces():
    """A read of 4 MiB of a sysctl file is ENOMEM."""
    assert len(read_bytes(Path("/proc/sys/kernel/random/boot_id")).strip()) == 36
