"""What a cgroup's path tells: one line a case."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.containers.recognise import Patterns, Recogniser, recognise

A = "0123456789abcdef" * 4
B = "fedcba9876543210" * 4
U = "0a1b2c3d-1111-2222-3333-444455556666"
V = U.replace("-", "_")
STATIC = "d4c3b2a1" * 4
USER = "/user.slice/user-1000.slice/user@1000.service"
KUBE = "/kubepods.slice/kubepods-burstable.slice"
KIND = "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"

# path, runtime, what is captured: the id, or the name of those that have no id
CONTAINERS = [
    # Docker
    (f"/docker/{A}", "docker", A),
    (f"/system.slice/docker-{A}.scope", "docker", A),
    (f"/my.slice/my-own.slice/docker-{A}.scope", "docker", A),
    (f"/docker-{A}.scope", "docker", A),
    (f"/system.slice:docker:{A}", "docker", A),
    (f"/mygroup/{A}", "docker", A),
    (f"/{A}", "docker", A),
    (f"/ecs/0f1e2d3c4b5a69788796a5b4c3d2e1f0/{A}", "docker", A),
    (f"{USER}/user.slice/docker-{A}.scope", "docker", A),
    (f"{KUBE}/kubepods-burstable-pod{V}.slice/docker-{A}.scope", "docker", A),
    (f"/x/default/{A}", "docker", A),
    # Podman
    (f"/machine.slice/libpod-{A}.scope", "podman", A),
    (f"{USER}/user.slice/libpod-{A}.scope", "podman", A),
    (f"{USER}/app.slice/redis.service/libpod-payload-{A}", "podman", A),
    (f"/system.slice/nginx.service/libpod-payload-{A}", "podman", A),
    (f"/libpod_parent/libpod-{A}", "podman", A),
    (f"/libpod_parent/{B}/libpod-{A}", "podman", A),
    (f"/machine.slice:libpod:{A}", "podman", A),
    (f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", "podman", A),
    # containerd
    (f"{KUBE}/kubepods-burstable-pod{V}.slice/cri-containerd-{A}.scope", "containerd", A),
    (f"/kubepods.slice/kubepods-pod{V}.slice/cri-containerd-{A}.scope", "containerd", A),
    (f"{KIND}/kubelet-kubepods-besteffort-pod{V}.slice/cri-containerd-{A}.scope", "containerd", A),
    (f"{KUBE}/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{A}.scope", "containerd", A),
    (f"/system.slice/containerd.service/kubepods-besteffort-pod{V}.slice:cri-containerd:{A}", "containerd", A),
    (f"/kubepods-besteffort-pod{V}.slice:cri-containerd:{A}", "containerd", A),
    (f"/kubepods/burstable/pod{U}/{A}", "containerd", A),
    (f"/kubepods/besteffort/pod{U}/{A}", "containerd", A),
    (f"/kubepods/pod{U}/{A}", "containerd", A),
    (f"/kubepods/burstable/pod{STATIC}/{A}", "containerd", A),
    (f"/system.slice/nerdctl-{A}.scope", "containerd", A),
    (f"/system.slice:nerdctl:{A}", "containerd", A),
    (f"/default/{A}", "containerd", A),
    (f"/k8s.io/{A}", "containerd", A),
    ("/default/redis", "containerd", "redis"),
    ("/default/batch-7.blue_2", "containerd", "batch-7.blue_2"),
    # CRI-O
    (f"{KUBE}/kubepods-burstable-pod{V}.slice/crio-{A}.scope", "crio", A),
    (f"/kubepods/burstable/pod{U}/crio-{A}", "crio", A),
    (f"/kubepods-pod{V}.slice:crio:{A}", "crio", A),
    (f"/system.slice/crio-{A}.scope", "crio", A),
    # Kata Containers
    (f"/kubepods/burstable/pod{U}/kata_{A}", "containerd", A),
    (f"/kubepods/pod{U}/kata_crio-{A}", "crio", A),
    (f"/kata_{A}", "containerd", A),
    (f"/k8s.io/kata_{A}", "containerd", A),
    # LXC, LXD, Incus
    ("/lxc.payload.web", "lxc", "web"),
    ("/lxc.payload/web", "lxc", "web"),
    ("/lxc/web", "lxc", "web"),
    ("/lxc/100", "lxc", "100"),
    ("/lxc.payload.web-1", "lxc", "web-1"),
    ("/lxc.payload.shop_web", "lxc", "shop_web"),
    (f"{USER}/user.slice/lxc.payload.mine", "lxc", "mine"),
    (f"/lxc/{A}", "lxc", A),
    ("/lxc.payload.b\u00fccher", "lxc", "b\u00fccher"),
    ('/lxc.payload."} evil 1\n', "lxc", '"} evil 1\n'),
    ("/lxc.payload." + "x" * 4096, "lxc", "x" * 4096),
    # machines
    ("/machine.slice/machine-trixie.scope", "nspawn", "trixie"),
    (r"/machine.slice/machine-my\x2dbox.scope", "nspawn", "my-box"),
    (r"/machine.slice/machine-b\xc3\xbccher.scope", "nspawn", "b\u00fccher"),
    (r"/machine.slice/machine-a\xffb.scope", "nspawn", "a\ufffdb"),
    ("/machine.slice/systemd-nspawn@trixie.service", "nspawn", "trixie"),
    (r"/machine.slice/systemd-nspawn@my\x2dbox.service", "nspawn", "my-box"),
    (r"/machine.slice/machine-qemu\x2d1\x2ddebian12.scope", "libvirt", "debian12"),
    (r"/machine.slice/machine-qemu\x2d6\x2dinstance\x2d0000001d.scope", "libvirt", "instance-0000001d"),
    (r"/machine.slice/machine-lxc\x2d5122\x2dbox.scope", "libvirt", "box"),
    ("/system.slice/web.service/payload", "nspawn", "web"),
    (r"/system.slice/my\x2dbox.service/payload", "nspawn", "my-box"),
    # services
    ("/system.slice/nginx.service", "systemd", "nginx.service"),
    ("/system.slice/system-getty.slice/getty@tty1.service", "systemd", "getty@tty1.service"),
    (USER, "systemd", "user@1000.service"),
    (f"{USER}/app.slice/redis.service", "systemd", "redis.service"),
    ("/system.slice/_memory.service", "systemd", "memory.service"),
    ("/system.slice/docker.service", "systemd", "docker.service"),
    ("/system.slice/foo.service/bar.service", "systemd", "bar.service"),
    ("/init.service", "systemd", "init.service"),
    (f"/system.slice/docker-{A}.service", "systemd", f"docker-{A}.service"),
]

NO_CONTAINERS = [
    "/",
    "",
    "docker",
    "/docker",
    "/docker/",
    "/docker/buildkit",
    "/docker/buildkit/q0nql2ghr1kq2mjt0fbfr1d4s",
    f"/docker/{A[:63]}",
    f"/docker/{A}0",
    f"/docker/{A.upper()}",
    f"/docker/{A}/",
    f"/system.slice/docker-{A[:12]}.scope",
    f"/system.slice/var-lib-docker-containers-{A}-mounts-shm.mount",
    "/system.slice/docker.socket",
    "/system.slice",
    "/user.slice",
    "/user.slice/user-1000.slice",
    "/user.slice/user-1000.slice/session-3.scope",
    "/init.scope",
    "/system.slice/dev-hugepages.mount",
    "/system.slice/.service/x",
    f"{USER}/app.slice/app-org.gnome.Terminal.slice/vte-spawn-{U}.scope",
    # Podman
    f"/machine.slice/libpod-conmon-{A}.scope",
    f"/machine.slice/libpod-{A}.scope/container",
    f"{USER}/user.slice/libpod-{A}.scope/container",
    f"/machine.slice/machine-libpod_pod_{B}.slice",
    f"/libpod_parent/{B}",
    "/libpod_parent",
    "/libpod_parent/conmon",
    f"{USER}/app.slice/redis.service/runtime",
    # Kubernetes
    "/kubepods.slice",
    KUBE,
    f"{KUBE}/kubepods-burstable-pod{V}.slice",
    f"/kubepods/burstable/pod{U}",
    f"{KUBE}/kubepods-burstable-pod{V}.slice/crio-conmon-{A}.scope",
    f"/kubepods/burstable/pod{U}/crio-conmon-{A}",
    # LXC
    "/lxc",
    "/lxc.payload",
    "/lxc.payload.",
    "/lxc.monitor.web",
    "/lxc.monitor/web",
    "/lxc.pivot",
    "/a/lxc/web",
    # machines
    "/machine.slice",
    "/machine.slice/machine-.scope",
    "/machine.slice/systemd-nspawn@trixie.service/payload",
    "/system.slice/web.service/payload/system.slice/cron.service",
    "/system.slice/web.service/supervisor",
    "/system.slice/web.slice/payload",
    # Kata Containers
    f"/kata_overhead/{A}",
    "/kata_overhead",
    f"/kubepods/pod{U}/kata_{A}/inner.service",
    # containerd
    "/default",
    "/a/default/redis",
    "/default/-redis",
    # inside a container
    f"/docker/{A}/kubelet/kubepods/besteffort/pod{U}/{B}",
    f"/docker/{A}/docker/{B}",
    f"/docker/{A}/system.slice/nginx.service",
    f"/system.slice/docker-{A}.scope{KIND}/kubelet-kubepods-besteffort-pod{V}.slice/cri-containerd-{B}.scope",
    f"/lxc.payload.web/system.slice/docker-{A}.scope",
    "/lxc.payload.web/init.scope",
    "/lxc.payload.web/ns",
    "/lxc/100/ns/system.slice/cron.service",
    "/machine.slice/machine-trixie.scope/payload/system.slice/cron.service",
    "/machine.slice/systemd-nspawn@trixie.service/supervisor",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/vcpu0",
    f"/default/redis/{A}",
]


@pytest.mark.parametrize(("path", "runtime", "captured"), CONTAINERS)
def test_containers(path, runtime, captured):
    match = recognise(path)
    assert match is not None
    assert (match.path, match.runtime, match.account) == (path, runtime, None)
    assert captured in (match.runtime_id, match.name)
    assert match.name
    assert match.descend is (runtime == "systemd")


@pytest.mark.parametrize("path", NO_CONTAINERS)
def test_no_containers(path):
    assert recognise(path) is None


@pytest.mark.parametrize(
    ("path", "pod"),
    [
        (f"{KUBE}/kubepods-burstable-pod{V}.slice/cri-containerd-{A}.scope", U),
        (f"{KUBE}/kubepods-burstable-pod{V}.slice/crio-{A}.scope", U),
        (f"/kubepods/burstable/pod{U}/{A}", U),
        (f"/kubepods-besteffort-pod{V}.slice:cri-containerd:{A}", U),
        (f"/kubepods/burstable/pod{STATIC}/{A}", STATIC),
        (f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", B),
        (f"{USER}/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope", B),
        (f"/libpod_parent/{B}/libpod-{A}", B),
        (f"/docker/{A}", ""),
        (f"/tripod{STATIC}x/{A}", ""),
    ],
)
def test_pods(path, pod):
    assert recognise(path).pod_id == pod


@pytest.mark.parametrize(
    ("path", "namespace", "name"),
    [
        ("/default/redis", "default", "redis"),
        (f"/k8s.io/{A}", "k8s.io", A),
        ("/lxc.payload.shop_web", "shop", "web"),
        ("/lxc.payload.web", "", "web"),
        ("/lxc.payload.a_b_c", "", "a_b_c"),
        (r"/system.slice/backup@srv\x2ddata.service", "", "backup@srv-data.service"),
    ],
)
def test_namespaces_and_names(path, namespace, name):
    match = recognise(path)
    assert (match.namespace, match.name) == (namespace, name)


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"{USER}/user.slice/libpod-{A}.scope", 1000),
        (f"{USER}/app.slice/redis.service", 1000),
        (f"/machine.slice/libpod-{A}.scope", None),
        (f"/x/user.slice/user-1000.slice/docker-{A}.scope", None),
    ],
)
def test_the_user_whose_slice_it_is(path, uid):
    assert recognise(path).uid == uid


def test_services_may_have_containers_inside_and_containers_may_not():
    assert recognise("/system.slice/a.service").descend
    assert recognise(f"/system.slice/a.service/docker/{A}").runtime == "docker"
    assert not recognise(f"/docker/{A}").descend


def test_the_order_of_questions_does_not_matter():
    outer, inner = f"/docker/{A}", f"/docker/{A}/x/{B}"
    forwards, backwards = Recogniser(), Recogniser()
    assert [forwards.recognise(path) is None for path in (outer, inner)] == [False, True]
    assert [backwards.recognise(path) is None for path in (inner, outer)] == [True, False]


def test_more_parents_than_are_remembered():
    recogniser = Recogniser()
    for number in range(10_000):
        assert recogniser.recognise(f"/g{number}/docker/{A}") is not None
        assert recogniser.recognise(f"/docker/{A}/g{number}/x.service") is None


class TestPatterns:
    def test_the_groups_name_and_account(self):
        recogniser = Recogniser(Patterns([r"/jobs/(?P<account>[^/]+)/(?P<name>[^/]+)"]))
        match = recogniser.recognise("/jobs/alice/train-9")
        assert (match.runtime, match.runtime_id, match.name, match.account, match.descend) == (
            "pattern",
            "",
            "train-9",
            "alice",
            False,
        )

    def test_without_groups_the_name_is_the_last_component(self):
        match = Recogniser(Patterns(["/jobs/a/.*"])).recognise("/jobs/a/b")
        assert (match.name, match.account) == ("b", None)

    @pytest.mark.parametrize("path", ["/jobs", "/x/jobs/a", "/jobs/a/b"])
    def test_the_whole_path_must_match(self, path):
        assert Recogniser(Patterns(["/jobs/[^/]+"])).recognise(path) is None

    def test_groups_that_took_no_part(self):
        match = Recogniser(Patterns(["/jobs(?:/(?P<name>x))?(?P<account>y)?"])).recognise("/jobs")
        assert (match.name, match.account) == ("jobs", None)

    def test_they_add_to_the_runtimes_and_win_over_them(self):
        recogniser = Recogniser(Patterns([f"/docker/{A}", "/system.slice/(?P<name>a).service"]))
        assert recogniser.recognise(f"/docker/{A}").runtime == "pattern"
        assert recogniser.recognise(f"/docker/{B}").runtime == "docker"
        service = recogniser.recognise("/system.slice/a.service")
        assert (service.runtime, service.name, service.descend) == ("pattern", "a", False)

    def test_what_is_inside_is_not_reported(self):
        recogniser = Recogniser(Patterns(["/jobs/.*"]))
        assert recogniser.recognise("/jobs/a").runtime == "pattern"
        assert recogniser.recognise("/jobs/a/b") is None
        assert recogniser.recognise(f"/jobs/a/docker/{A}") is None

    def test_the_first_wins(self):
        match = Recogniser(Patterns(["/(?P<name>a).*", "/a(?P<name>.*)"])).recognise("/abc")
        assert match.name == "a"

    def test_a_newline_in_a_name_hides_nothing(self):
        assert Recogniser(Patterns(["/jobs/.+"])).recognise("/jobs/a\nb").name == "a\nb"

    def test_a_compiled_one_keeps_its_flags(self):
        recogniser = Recogniser(Patterns([re.compile("/JOBS/.+", re.IGNORECASE)]))
        assert recogniser.recognise("/jobs/a\nb").runtime == "pattern"

    @pytest.mark.parametrize("expression", ["(", "(?P<name>a)(?P<name>b)", "*", "a{99999999999999999999}"])
    def test_a_bad_one_is_named_in_one_line(self, expression):
        with pytest.raises(ValueError, match=r"^container\.pattern ") as error:
            Patterns(["/ok", expression])
        assert repr(expression) in str(error.value)
        assert "\n" not in str(error.value)


class TestEvery:
    recogniser = Recogniser(every=True)

    @pytest.mark.parametrize("path", ["/", "/docker", "/init.scope", f"/docker/{A}/x", "/system.slice"])
    def test_plain_cgroups(self, path):
        match = self.recogniser.recognise(path)
        assert (match.path, match.runtime, match.name, match.descend) == (path, "cgroup", "", True)

    @pytest.mark.parametrize(
        ("path", "runtime"),
        [
            (f"/docker/{A}", "docker"),
            (f"/docker/{A}/docker/{B}", "docker"),
            (f"/docker/{A}/system.slice/nginx.service", "systemd"),
        ],
    )
    def test_runtimes_still_name_theirs_and_are_descended_into(self, path, runtime):
        match = self.recogniser.recognise(path)
        assert (match.runtime, match.descend) == (runtime, True)

    def test_patterns_too(self):
        match = Recogniser(Patterns(["/jobs/.*"]), every=True).recognise("/jobs/a")
        assert (match.runtime, match.descend) == ("pattern", True)


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_any_text_has_an_answer(text):
    for path in (text, "/" + text, f"/docker/{A}/{text}", f"/machine.slice/machine-{text}.scope"):
        recognise(path)


NAMES = (A, "docker", "libpod_parent", "lxc", "lxc.payload", "default", "user.slice", "a.service", "kubepods.slice", "")
SCOPES = (f"docker-{A}.scope", f"libpod-{A}", f"crio-{A}.scope", f"cri-containerd-{A}.scope", "machine-x.scope")
PARTS = st.sampled_from((*NAMES, *SCOPES, f"pod{U}"))


@given(st.lists(PARTS, max_size=8))
def test_nothing_is_inside_a_container(parts):
    recogniser = Recogniser()
    path = ""
    closed = False
    for part in parts:
        path += "/" + part
        match = recogniser.recognise(path)
        assert match is None or not closed
        closed = closed or (match is not None and not match.descend)


class TestMeasuredOnly:
    """Groups that are no containers and are measured."""

    @pytest.mark.parametrize("path", ["/system.slice", "/a.slice/a-b.slice", "/kubepods/burstable/pod1", "/docker"])
    def test_slices(self, path: str) -> None:
        found = Recogniser(slices=True).recognise(path)
        assert found is not None
        assert (found.measured_only, found.descend) == (True, True)
        assert Recogniser(root=True).recognise(path) is None

    @pytest.mark.parametrize("path", [f"/docker/{A}/x.slice", "/docker/inner", "/system.slice/x.slice.d", "/job"])
    def test_no_slices(self, path: str) -> None:
        """What is inside a container belongs to it, whatever it is called."""
        assert Recogniser(slices=True, root=True).recognise(path) is None

    def test_root(self) -> None:
        found = Recogniser(root=True).recognise("/")
        assert found is not None
        assert found.measured_only
        assert Recogniser(slices=True).recognise("/") is None

    def test_every_group_is_a_container_with_container_all(self) -> None:
        recogniser = Recogniser(every=True, root=True, slices=True)
        assert [recogniser.recognise(path).measured_only for path in ("/", "/system.slice")] == [False, False]

    def test_a_pattern_makes_containers_of_them(self) -> None:
        recogniser = Recogniser(Patterns(["/system.slice"]), slices=True)
        found = recogniser.recognise("/system.slice")
        assert found is not None
        assert (found.runtime, found.measured_only) == ("pattern", False)
