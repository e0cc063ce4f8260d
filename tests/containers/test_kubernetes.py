"""What of a container Kubernetes says, and what others only say that it does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from pymon.containers.model import Details, PodNames
from pymon.containers.recognise import Recogniser, recognise
from pymon.containers.runtimes import MAX_TEXT, Runtimes
from pymon.containers.runtimes.kubernetes import is_pod, pod_group

FIXTURES = Path(__file__).parent.parent / "fixtures" / "runtimes"
ID = "ab" * 32
UID = "0a1b2c3d-1111-2222-3333-444455556666"
OTHER = "1b2c3d4e-1111-2222-3333-444455556666"
STATIC = "d4c3b2a1" * 4
CRI = "c0a7a1e4d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c"
SANDBOX = "5a4db0c5e1a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e"
CRIO = "c410c410a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"
CRIO_SANDBOX = "c4105a4da27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"
POD = f"/kubepods/burstable/pod{UID}"
CRIO_POD = f"/kubepods.slice/kubepods-pod{OTHER.replace('-', '_')}.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"

PODS = [
    POD,
    f"/kubepods/pod{UID}",
    f"/kubepods/besteffort/pod{STATIC}",
    f"/kubelet/kubepods/burstable/pod{UID}",
    CRIO_POD,
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice",
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID.replace('-', '_')}.slice",
    f"/kubepods.slice/kubepods-pod{STATIC}.slice",
]
NO_PODS = [
    "/",
    "",
    "/kubepods",
    "/kubepods/burstable",
    "/kubepods.slice/kubepods-burstable.slice",
    f"{POD}/{ID}",
    f"/docker/pod{UID}",
    f"/pod{UID}",
    f"/mykubepods/pod{UID}",
    f"/kubepods/pod{UID}x",
    f"/kubepods/pod{UID.upper()}",
    f"/kubepods/pod{UID}\n",
    f"/x.slice/x-pod{STATIC}.slice",
    f"/kubepods.slice/mykubepods-pod{STATIC}.slice",
    f"/kubepods-pod{STATIC}",
    f"/machine.slice/machine-libpod_pod_{ID}.slice",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of Docker, containerd and CRI-O on one node."""
    for name in ("docker", "containerd", "crio"):
        shutil.copytree(FIXTURES / name, tmp_path, dirs_exist_ok=True)
    return tmp_path


def describe(root: Path, path: str) -> Details:
    match = recognise(path)
    assert match is not None
    return Runtimes(root).describe(match)


def docker(root: Path, labels: Mapping[str, str]) -> None:
    folder = root / "var/lib/docker/containers" / ID
    folder.mkdir(parents=True)
    (folder / "config.v2.json").write_text(json.dumps({"Name": "/k8s_web", "Config": {"Labels": labels}}))


def annotate(path: Path, annotations: Mapping[str, str | None]) -> None:
    document = json.loads(path.read_text())
    document["annotations"].update(annotations)
    document["annotations"] = {key: value for key, value in document["annotations"].items() if value is not None}
    path.write_text(json.dumps(document))


def kubelet(uid: str | None = UID, **more: str) -> dict[str, str]:
    found = {"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web-0"} | more
    return found | {"io.kubernetes.container.name": "nginx"} | ({"io.kubernetes.pod.uid": uid} if uid else {})


class TestGroups:
    @pytest.mark.parametrize("path", PODS)
    def test_pods(self, path: str) -> None:
        assert is_pod(path)
        assert pod_group(f"{path}/{ID}") == pod_group(f"{path}/cri-containerd-{ID}.scope") == path
        found = Recogniser(pods=True).recognise(path)
        assert found is not None
        assert (found.measured_only, found.descend) == (True, True)
        assert recognise(path) is None

    @pytest.mark.parametrize("path", NO_PODS)
    def test_no_pods(self, path: str) -> None:
        assert not is_pod(path)
        assert Recogniser(pods=True).recognise(path) is None or recognise(path) is not None

    @pytest.mark.parametrize("path", NO_PODS)
    def test_containers_of_no_pod(self, path: str) -> None:
        assert pod_group(f"{path}/{CRI}") in ("", *PODS)

    def test_containers_beside_their_pod(self) -> None:
        """runc with the driver cgroupfs, told a name of systemd's driver, makes no group for the pod."""
        assert pod_group(f"/kubepods-besteffort-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}") == ""

    def test_what_users_call_a_pod(self) -> None:
        assert Recogniser(pods=True).recognise(f"{USER}/kubepods/pod{UID}") is None

    def test_what_containers_call_a_pod(self) -> None:
        assert Recogniser(pods=True).recognise(f"/docker/{ID}{POD}") is None

    def test_time(self) -> None:
        """The longest paths that the kernel lets anybody make, and that are pods in no way."""
        recogniser = Recogniser(pods=True)
        for part in ("/kubepods", "/kubepods-", "/kubepods-x-pod", f"/pod{STATIC}"):
            path = part * (4096 // len(part))
            assert recogniser.recognise(f"{path}/pod{STATIC}x") is None
        assert not is_pod("/" + "kubepods-" * 455)


class TestNames:
    def test_containerd(self, tree: Path) -> None:
        assert describe(tree, f"{POD}/{CRI}").kubernetes == PodNames("shop", "web-0", "nginx")

    def test_the_sandbox_of_containerd_has_no_name(self, tree: Path) -> None:
        """The kubelet gives pods none, and containerd adds none."""
        assert describe(tree, f"{POD}/{SANDBOX}").kubernetes == PodNames("shop", "web-0", "")

    def test_crio(self, tree: Path) -> None:
        assert describe(tree, f"{CRIO_POD}/crio-{CRIO}.scope").kubernetes == PodNames("blog", "api-7d9f", "api")
        sandbox = describe(tree, f"{CRIO_POD}/crio-{CRIO_SANDBOX}.scope")
        assert sandbox.kubernetes == PodNames("blog", "api-7d9f", "POD")

    def test_without_groups_for_pods(self, tree: Path) -> None:
        """The kubelet's --cgroups-per-qos=false."""
        assert describe(tree, f"/system.slice/crio-{CRIO}.scope").kubernetes == PodNames("blog", "api-7d9f", "api")
        assert describe(tree, f"/k8s.io/{CRI}").kubernetes == PodNames("shop", "web-0", "nginx")

    def test_in_the_group_of_another_pod(self, tree: Path) -> None:
        assert describe(tree, f"/kubepods/pod{OTHER}/{CRI}").kubernetes is None
        assert describe(tree, f"/kubepods/pod{UID}/crio-{CRIO}").kubernetes is None

    def test_docker(self, tree: Path) -> None:
        docker(tree, kubelet())
        assert describe(tree, f"{POD}/{ID}").kubernetes == PodNames("shop", "web-0", "nginx")
        assert describe(tree, f"{CRIO_POD}/docker-{ID}.scope").kubernetes is None

    @pytest.mark.parametrize(
        "path",
        [
            f"/docker/{ID}",
            f"/system.slice/docker-{ID}.scope",
            f"/default/{ID}",
            f"/k8s.io/{ID}",
            f"/x-pod{UID.replace('-', '_')}.slice/docker-{ID}.scope",
            f"/kubepods/pod{OTHER}/{ID}",
        ],
    )
    @pytest.mark.parametrize("uid", [UID, None])
    def test_labels_that_whoever_started_a_container_of_docker_chose(
        self, tree: Path, path: str, uid: str | None
    ) -> None:
        docker(tree, kubelet(uid) | {"io.kubernetes.cri.sandbox-name": "web-0"})
        assert describe(tree, path).kubernetes is None

    def test_labels_of_docker_without_a_uid(self, tree: Path) -> None:
        docker(tree, kubelet(None))
        assert describe(tree, f"{POD}/{ID}").kubernetes is None

    def test_rootless(self, tree: Path) -> None:
        (tree / "etc/passwd").write_text("ann:x:1000:100:Ann:/home/ann:/bin/sh\n")
        docker(tree / "home/ann/.local/share/docker/..", kubelet())
        assert describe(tree, f"{USER}{POD}/docker-{ID}.scope").kubernetes is None

    @pytest.mark.parametrize("missing", ["io.kubernetes.pod.namespace", "io.kubernetes.pod.name"])
    def test_half_a_name_is_none(self, tree: Path, missing: str) -> None:
        docker(tree, {key: value for key, value in kubelet().items() if key != missing})
        assert describe(tree, f"{POD}/{ID}").kubernetes is None

    def test_a_name_that_is_too_long(self, tree: Path) -> None:
        docker(tree, kubelet() | {"io.kubernetes.container.name": "n" * (MAX_TEXT + 1)})
        details = describe(tree, f"{POD}/{ID}")
        assert (details.kubernetes, details.pod) == (None, "web-0")
        assert details.reason == "too long, left out: names in Kubernetes"

    def test_no_others(self, tree: Path) -> None:
        nerdctl = next(iter((tree / "run/containerd/io.containerd.runtime.v2.task/default").iterdir())).name
        for path in (f"/default/{nerdctl}", "/system.slice/nginx.service", f"/docker/{ID}", "/lxc.payload.web"):
            assert describe(tree, path).kubernetes is None


class TestTenantsAnnotations:
    """A tenant writes the annotations of his pods. Runtimes copy them to where they write their own."""

    VICTIM: ClassVar = {"io.kubernetes.pod.namespace": "kube-system", "io.kubernetes.pod.name": "dns"}

    def test_copied_by_containerd(self, tree: Path) -> None:
        path = tree / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}/config.json"
        annotate(path, self.VICTIM)
        details = describe(tree, f"{POD}/{CRI}")
        assert details.kubernetes == PodNames("shop", "web-0", "nginx")
        assert (details.namespace, details.pod) == ("shop", "web-0")

    def test_copied_by_a_containerd_that_has_not_its_own(self, tree: Path) -> None:
        path = tree / f"run/containerd/io.containerd.runtime.v2.task/k8s.io/{CRI}/config.json"
        annotate(path, self.VICTIM | {"io.kubernetes.cri.sandbox-namespace": None})
        assert describe(tree, f"{POD}/{CRI}").kubernetes is None

    def test_copied_by_crio_over_its_own(self, tree: Path) -> None:
        path = tree / f"var/lib/containers/storage/overlay-containers/{CRIO_SANDBOX}/userdata/config.json"
        annotate(path, {"io.kubernetes.cri-o.Labels": json.dumps(self.VICTIM | {"app": "api"})})
        details = describe(tree, f"{CRIO_POD}/crio-{CRIO_SANDBOX}.scope")
        assert details.kubernetes is not None
        assert details.kubernetes[:2] == ("blog", "api-7d9f")
        assert (details.namespace, details.pod, details.labels["app"]) == ("blog", "api-7d9f", "api")

    def test_of_an_application_are_labels_and_never_replace_one(self, tree: Path) -> None:
        path = tree / f"run/containers/storage/overlay-containers/{CRIO}/userdata/config.json"
        annotate(path, {"prometheus.io/scrape": "true", "prometheus.io/port": "9100", "other": "x"})
        details = describe(tree, f"{CRIO_POD}/crio-{CRIO}.scope")
        found = {key: value for key, value in details.labels.items() if key.startswith("prometheus.io/")}
        assert found == {"prometheus.io/scrape": "true", "prometheus.io/port": "9100"}
        assert "other" not in details.labels
        annotate(path, {"io.kubernetes.cri-o.Labels": json.dumps({"prometheus.io/port": "80"})})
        assert describe(tree, f"{CRIO_POD}/crio-{CRIO}.scope").labels["prometheus.io/port"] == "80"
