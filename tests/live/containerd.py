"""A real containerd below a directory, which an agent takes for the root of the node, and pods made as kubelets do."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.containers.cri_double import SERVICE, schema
from tests.live.world import run, until

BUSYBOX = "/bin/busybox"
SHIMS = Path("/run/containerd/s")
"""Where the sockets of shims are, whatever the state directory is."""

IMAGE = "localhost/busybox:1"
_NODE = 2
"""NamespaceMode: that of the node, so that no network has to be set up."""

_CONFIG = """
version = 2
root = "{root}/var/lib/containerd"
state = "{root}/run/containerd"
oom_score = 0
[grpc]
  address = "{root}/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{root}/opt/cni"
    conf_dir = "{root}/etc/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{root}/run/runc"
"""


def image() -> bytes:
    """An archive of an image with busybox alone. It sleeps, as what holds the namespaces of a pod does."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        tar.add(BUSYBOX, "bin/busybox")
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    layers = blob(layer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": run("dpkg", "--print-architecture").stdout.decode().strip(),
        "os": "linux",
        "config": {"Entrypoint": [BUSYBOX], "Cmd": ["sleep", "1000"]},
        "rootfs": {"type": "layers", "diff_ids": [layers["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [layers],
    }
    top = blob(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": {"io.containerd.image.name": IMAGE}}
    files = {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive.getvalue()


class Containerd:
    """containerd with runc. parent: the control group of its pods."""

    def __init__(self, root: Path, parent: str) -> None:
        for program in ("containerd", "ctr", "runc", BUSYBOX):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program}")
        self.root = root
        self.parent = parent
        self.socket = root / "run/containerd/containerd.sock"
        self.pods: dict[str, Any] = {}
        (root / "etc/cni").mkdir(parents=True)
        (root / "log").mkdir()
        (root / "config.toml").write_text(_CONFIG.format(root=root, image=IMAGE))
        self._process: subprocess.Popen[bytes] | None = None

    def set_up(self) -> None:
        """Start the daemon for the first time, with an image."""
        self.start()
        archive = self.root / "image.tar"
        archive.write_bytes(image())
        self.ctr("-n", "k8s.io", "images", "import", "--snapshotter=native", str(archive))

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        with (self.root / "log/daemon").open("ab") as log:
            argv = ["containerd", "--config", str(self.root / "config.toml")]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")
        until("containerd answers", self._answers)

    def stop(self) -> None:
        """Stop the daemon. Its containers go on."""
        if self._process is not None:
            self._channel.close()
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """The daemon does nothing, as in a hang."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def ctr(self, *words: str) -> None:
        """Run a command of ctr."""
        run("ctr", f"--address={self.socket}", *words)

    def call(self, method: str, request: Any, answer: str) -> Any:
        """Call a method of CRI."""
        call = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(schema(), answer).FromString,
        )
        return call(request, timeout=60)

    def pod(self, name: str, uid: str, labels: dict[str, str]) -> str:
        """Start a pod. Return its id; skip the test where that cannot be."""
        pb = schema()
        network = pb.NamespaceOption(network=_NODE)
        config = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name=name, uid=uid, namespace="alice"),
            log_directory=str(self.root / "log"),
            labels=labels,
            linux=pb.LinuxPodSandboxConfig(
                cgroup_parent=f"{self.parent}/pod{uid}",
                security_context=pb.LinuxSandboxSecurityContext(namespace_options=network),
            ),
        )
        try:
            done = self.call("RunPodSandbox", pb.RunPodSandboxRequest(config=config), "RunPodSandboxResponse")
        except grpc.RpcError as error:
            pytest.skip(f"no pod of containerd's runs here: {' '.join(str(error.details()).split())}")
        self.pods[done.pod_sandbox_id] = config
        return done.pod_sandbox_id

    def container(self, pod: str, name: str, attempt: int, labels: dict[str, str], *command: str) -> str:
        """Start a container in a pod. Return its id."""
        pb = schema()
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name, attempt=attempt),
            image=pb.ImageSpec(image=IMAGE),
            command=[BUSYBOX, *command],
            labels=labels,
            annotations={"io.kubernetes.container.hash": "7"},
            linux=pb.LinuxContainerConfig(
                security_context=pb.LinuxContainerSecurityContext(namespace_options=pb.NamespaceOption(network=_NODE))
            ),
        )
        request = pb.CreateContainerRequest(pod_sandbox_id=pod, config=config, sandbox_config=self.pods[pod])
        identifier = self.call("CreateContainer", request, "CreateContainerResponse").container_id
        self.call("StartContainer", pb.ContainerRequest(container_id=identifier), "Nothing")
        return identifier

    def close(self) -> None:
        """Take away the pods, the daemon, what it has mounted, and the parent of their groups."""
        for pod in self.pods:
            for method in ("StopPodSandbox", "RemovePodSandbox"):
                self.call(method, schema().PodSandboxRequest(pod_sandbox_id=pod), "Nothing")
        self.stop()
        for folder in (SHIMS, SHIMS.parent):
            with contextlib.suppress(OSError):  # it may be another's too
                folder.rmdir()
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        for _, where, *_ in reversed(mounts):
            if where.startswith(f"{self.root}/"):
                run("umount", where)
        for _, where, kind, *_ in mounts:
            parent = Path(where + self.parent)
            if kind in ("cgroup", "cgroup2") and parent.is_dir():
                for pod in parent.glob("pod*"):
                    pod.rmdir()
                parent.rmdir()
                with contextlib.suppress(OSError):  # it may be another's too
                    parent.parent.rmdir()

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.root / "log/daemon").read_text()[-2000:]
        try:
            self.call("Version", schema().VersionRequest(), "VersionResponse")
        except grpc.RpcError:
            return False
        return True
