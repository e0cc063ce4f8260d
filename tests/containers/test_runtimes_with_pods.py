"""What the files of Podman, containerd and CRI-O tell, of the trees in tests/fixtures/runtimes."""

import json
import os
import sqlite3

import pytest

from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes
from tests.containers.runtime_trees import (
    BOLTDB,
    CRI,
    CRIO,
    CRIO_SANDBOX,
    DOCKER,
    FIXTURES,
    NERDCTL,
    NOBODY,
    PODMAN,
    PODMAN_RM,
    SANDBOX,
    describe,
    edit,
    settled,
)

pytestmark = pytest.mark.filterwarnings("error")


class TestPodman:
    def test_details(self, podman):
        details = describe(podman, f"/machine.slice/libpod-{PODMAN}.scope")
        assert (details.name, details.image) == ("db", "docker.io/library/postgres:17")
        assert details.labels == {"PODMAN_SYSTEMD_UNIT": "db.service", "tier": "storage"}
        assert (details.pod, details.state, details.reason) == ("backend", "running", "")
        assert details.started_at == 1793007201.25

    def test_a_start_of_the_run_before_does_not_count(self, podman):
        details = describe(podman, f"/machine.slice/libpod-{PODMAN_RM}.scope")
        assert (details.name, details.image) == ("job", "quay.io/acme/job:2")
        assert (details.state, details.started_at, details.labels, details.pod) == ("", None, {}, "")

    @pytest.mark.parametrize(("number", "state"), [(3, "running"), (5, "paused"), (8, "stopping"), (6, ""), (99, "")])
    def test_states(self, podman, number, state):
        database = sqlite3.connect(podman / "var/lib/containers/storage/db.sql")
        with database:
            database.execute("UPDATE ContainerState SET JSON = ?", (json.dumps({"state": number}),))
        database.close()
        assert describe(podman, f"/machine.slice/libpod-{PODMAN}.scope").state == state

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            ({"state": 3, "oomKilled": True}, (None, None, "", 0, False)),
            ({"state": 6, "exitCode": 3, "restartCount": 2}, (3, 1793366900.5, "exited", 2, False)),
            ({"state": 6, "exitCode": 137, "oomKilled": True}, (137, 1793366900.5, "exited", 0, True)),
            ({"state": 4}, (0, 1793366900.5, "exited", 0, False)),
            ({"state": 6, "finishedTime": "0001-01-01T00:00:00Z"}, (None, None, "", 0, False)),
            ({"state": 6, "exitCode": "3", "restartCount": "2"}, (None, 1793366900.5, "", None, False)),
        ],
    )
    def test_end(self, podman, state, expected):
        database = sqlite3.connect(podman / "var/lib/containers/storage/db.sql")
        text = json.dumps({"finishedTime": "2026-10-30T13:28:20.5Z"} | state)
        with database:
            database.execute("UPDATE ContainerState SET JSON = ?", (text,))
        database.close()
        details = describe(podman, f"/machine.slice/libpod-{PODMAN}.scope")
        end = (details.exit_code, details.finished_at, details.end_state)
        assert (*end, details.restarts, details.oom_killed) == expected

    @pytest.mark.parametrize(
        ("content", "health"),
        [
            ('{"Status":"healthy","FailingStreak":0,"Log":[{"ExitCode":0,"Output":""}]}', "healthy"),
            ('{"Status":"unhealthy","FailingStreak":3,"Log":[]}', "unhealthy"),
            ("{}", ""),
            ("[", ""),
        ],
    )
    @pytest.mark.parametrize(("name", "container"), [("podman", PODMAN), ("podman-boltdb", BOLTDB)])
    def test_health(self, tree, name, container, content, health):
        """The file of Podman 4.3 and later."""
        root = tree(name)
        run = root / f"run/containers/storage/overlay-containers/{container}"
        run.mkdir(parents=True, exist_ok=True)
        (run / "healthcheck.log").write_text(content)
        match = recognise(f"/machine.slice/libpod-{container}.scope")
        before = settled(Runtimes(root), match)
        assert describe(root, match.path).health == health
        (run / "healthcheck.log").unlink()
        assert settled(Runtimes(root), match) != before
        assert describe(root, match.path).health == ""

    def test_the_index_of_volatile_containers(self):
        details = describe(FIXTURES / "podman", f"/machine.slice/libpod-{PODMAN_RM}.scope")
        assert (details.name, details.image, details.labels) == ("job", "quay.io/acme/job:2", {})
        assert "not there, as before Podman 4.8 (BoltDB is not read)" in details.reason

    def test_without_sqlite_the_annotations_are_labels(self, tree):
        root = tree("podman-boltdb")
        pidfile = root / f"run/containers/storage/overlay-containers/{BOLTDB}/userdata/pidfile"
        os.utime(pidfile, (1793088000.5, 1793088000.5))
        details = describe(root, f"/machine.slice/libpod-{BOLTDB}.scope")
        assert (details.name, details.image) == ("cache", "docker.io/library/valkey:8")
        assert details.labels["io.container.manager"] == "libpod"
        assert details.started_at == 1793088000.5
        assert details.reason.endswith("labels are OCI annotations")

    def test_missing(self, podman):
        details = describe(podman, f"/machine.slice/libpod-{NOBODY}.scope")
        assert details.name == NOBODY
        assert details.reason == f"{podman}/var/lib/containers/storage/db.sql: has no container {NOBODY}"

    def test_a_bad_index(self, tree):
        root = tree("podman")
        index = root / "var/lib/containers/storage/overlay-containers/containers.json"
        index.write_text("[{")
        details = describe(root, f"/machine.slice/libpod-{PODMAN}.scope")
        assert details.name == PODMAN
        assert details.reason.startswith(f"{index}: not valid JSON; ")

    @pytest.mark.parametrize("content", ["{}", "null", "[3, null, {}]", f'[{{"id": "{PODMAN}", "metadata": "{{"}}]'])
    def test_an_index_of_another_shape(self, tree, content):
        root = tree("podman")
        (root / "var/lib/containers/storage/overlay-containers/containers.json").write_text(content)
        assert describe(root, f"/machine.slice/libpod-{PODMAN}.scope").name == PODMAN

    def test_the_database_is_neither_changed_nor_locked(self, podman):
        path = podman / "var/lib/containers/storage/db.sql"
        before = path.read_bytes()
        describe(podman, f"/machine.slice/libpod-{PODMAN}.scope")
        assert path.read_bytes() == before
        assert not path.with_name("db.sql-journal").exists()

    def test_a_database_locked_by_podman(self, podman):
        path = podman / "var/lib/containers/storage/db.sql"
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        details = describe(podman, f"/machine.slice/libpod-{PODMAN}.scope")
        holder.close()
        assert (details.name, details.labels) == ("db", {})
        assert details.reason == f"{path}: not readable as Podman's database (database is locked)"


class TestContainerd:
    root = FIXTURES / "containerd"
    pod = "/kubepods/burstable/pod0a1b2c3d-1111-2222-3333-444455556666"

    def test_a_container_of_a_pod(self, tree):
        root = tree("containerd")
        bundle = root / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}"
        os.utime(bundle / "init.pid", (1793100000.25, 1793100000.25))
        details = describe(root, f"{self.pod}/{CRI}")
        assert (details.name, details.image) == ("nginx", "docker.io/library/nginx:1.28")
        assert (details.namespace, details.pod) == ("shop", "web-0")
        assert details.started_at == 1793100000.25
        assert details.labels["io.kubernetes.container.name"] == "nginx"
        assert details.labels["io.kubernetes.pod.name"] == "web-0"
        assert details.labels["io.kubernetes.pod.namespace"] == "shop"
        assert details.labels["io.kubernetes.pod.uid"] == "0a1b2c3d-1111-2222-3333-444455556666"
        assert details.reason == ""

    def test_a_copied_annotation_of_a_pod_names_no_other_pod(self, tree):
        root = tree("containerd")
        path = root / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}/config.json"
        chosen = {"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.name": "dns"}
        edit(path, lambda document: document["annotations"].update(chosen))
        details = describe(root, f"{self.pod}/{CRI}")
        assert (details.namespace, details.pod, details.labels["io.kubernetes.pod.name"]) == ("shop", "web-0", "web-0")

    def test_a_sandbox(self):
        details = describe(self.root, f"/system.slice/cri-containerd-{SANDBOX}.scope")
        assert (details.name, details.pod, details.started_at) == ("POD", "web-0", None)

    def test_nerdctl(self):
        details = describe(self.root, f"/system.slice/nerdctl-{NERDCTL}.scope")
        assert (details.name, details.namespace) == ("registry", "default")

    def test_ctr(self):
        details = describe(self.root, "/default/batch-7")
        assert (details.name, details.namespace, details.labels, details.reason) == ("batch-7", "default", {}, "")

    def test_k3s(self, tree):
        root = tree("containerd")
        (root / "run/k3s").mkdir()
        (root / "run/containerd").rename(root / "run/k3s/containerd")
        assert describe(root, f"{self.pod}/{CRI}").name == "nginx"

    def test_dockers_bundles_say_nothing(self, tree):
        root = tree("containerd")
        tasks = root / "run/containerd/io.containerd.runtime.v2.task"
        (tasks / "k8s.io").rename(tasks / "moby")
        assert describe(root, f"{self.pod}/{CRI}").reason.endswith("no such file or directory")

    def test_cri_dockerd_has_the_same_paths(self):
        assert describe(FIXTURES / "docker", f"{self.pod}/{DOCKER}").name == "shop-web-1"

    def test_nerdctl_in_another_namespace_has_dockers_paths(self):
        assert describe(self.root, f"/mine/{NERDCTL}").name == "registry"

    def test_missing(self):
        assert describe(self.root, f"{self.pod}/{NOBODY}").reason.endswith(f"*/{NOBODY}: no such file or directory")

    def test_malformed(self, tree):
        root = tree("containerd")
        path = root / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}/config.json"
        path.write_text("{")
        details = describe(root, f"{self.pod}/{CRI}")
        assert (details.name, details.reason) == (CRI, f"{path}: not valid JSON")


class TestCrio:
    root = FIXTURES / "crio"

    def test_details(self):
        details = describe(self.root, f"/kubepods.slice/crio-{CRIO}.scope")
        assert (details.name, details.image) == ("api", "registry.example.com/acme/api:9")
        assert (details.namespace, details.pod) == ("blog", "api-7d9f")
        assert details.labels["restartcount"] == "2"
        assert details.started_at == 1793170802.75

    def test_a_sandbox_and_a_start_that_is_not_written(self):
        details = describe(self.root, f"/kubepods.slice/crio-{CRIO_SANDBOX}.scope")
        assert (details.name, details.image) == ("POD", "registry.k8s.io/pause:3.10")
        assert details.labels["app"] == "api"
        assert details.started_at == 1793170799.0

    def test_bad_labels_cost_the_labels(self, tree):
        root = tree("crio")
        path = root / f"run/containers/storage/overlay-containers/{CRIO}/userdata/config.json"
        edit(path, lambda document: document["annotations"].update({"io.kubernetes.cri-o.Labels": "{"}))
        details = describe(root, f"/kubepods.slice/crio-{CRIO}.scope")
        assert (details.name, details.pod) == ("api", "api-7d9f")
        assert details.reason == f"io.kubernetes.cri-o.Labels of {CRIO}: not valid JSON"

    def test_a_copied_annotation_of_a_pod_names_no_other_pod(self, tree):
        root = tree("crio")
        path = root / f"var/lib/containers/storage/overlay-containers/{CRIO_SANDBOX}/userdata/config.json"
        labels = '{"io.kubernetes.pod.namespace":"kube-system","io.kubernetes.pod.name":"dns","app":"api"}'
        edit(path, lambda document: document["annotations"].update({"io.kubernetes.cri-o.Labels": labels}))
        details = describe(root, f"/kubepods.slice/crio-{CRIO_SANDBOX}.scope")
        assert (details.namespace, details.pod, details.labels["app"]) == ("blog", "api-7d9f", "api")

    def test_malformed_and_missing(self, tree):
        root = tree("crio")
        path = root / f"run/containers/storage/overlay-containers/{CRIO}/userdata/config.json"
        path.write_text("]")
        assert describe(root, f"/x/crio-{CRIO}.scope").reason == f"{path}: not valid JSON"
        assert describe(root, f"/x/crio-{NOBODY}.scope").reason.endswith("no such file or directory")
