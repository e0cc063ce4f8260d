import errno
import os
import threading
from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.filesystem import Filesystem, Mount, parse_mountinfo
from pymon.sources.node.statfs import StatfsProbe
from tests.sources.node.rows import by_label, collected, rows

LINE = "36 35 8:%d / %s %s shared:1 master:2 - %s %s %s\n"


def mountinfo(*mounts):
    return "".join(LINE % mount for mount in mounts).encode()


def answer(**fields):
    """A statvfs of other numbers for each field."""
    names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "flag", "namemax")
    numbers = {"bsize": 65536, "frsize": 4096, "blocks": 100, "bfree": 50, "bavail": 40, "files": 30, "ffree": 20}
    return os.statvfs_result([{**dict.fromkeys(names, 0), **numbers, **fields}[name] for name in names])


@pytest.fixture
def node(tmp_path):
    """Makes a source over this mountinfo; answers are by path under rootfs."""

    def make(data, statvfs, rootfs="/host", process="1"):
        directory = tmp_path / process
        directory.mkdir(exist_ok=True)
        (directory / "mountinfo").write_bytes(data)
        return Filesystem(tmp_path, Path(rootfs), StatfsProbe(statvfs, timeout_seconds=1))

    return make


def test_parse():
    data = mountinfo(
        (1, "/", "rw,relatime", "ext4", "/dev/vda", "rw,discard"),
        (2, "/a\\040b\\011\\134", "ro", "xfs", "s:\\043", "rw"),
    )
    assert parse_mountinfo(data) == [
        Mount("8:1", "/", "ext4", "/dev/vda", readonly=False),
        Mount("8:2", "/a b\t\\", "xfs", "s:#", readonly=True),
    ]
    (mount,) = parse_mountinfo(b"36 35 8:1 / /mnt rw - ext4 /dev/vda ro,discard\n")
    assert mount.readonly, "the file system is read-only, whatever the mount says"


def test_what_is_hidden_or_not_the_nodes_is_left_out():
    data = mountinfo(
        (1, "/mnt", "rw", "autofs", "systemd-1", "rw"),
        (2, "/mnt", "rw", "nfs4", "server:/x", "rw"),
        (3, "/srv", "rw", "ext4", "/dev/vdb", "rw"),
        (4, "/srv", "rw", "overlay", "overlay", "rw"),
        (5, "/dev/shm", "rw", "tmpfs", "tmpfs", "rw"),
        (6, "/run/credentials/x", "rw", "ramfs", "none", "rw"),
        (7, "/run/credentials", "rw", "ramfs", "none", "rw"),
        (8, "/var/lib/docker/btrfs", "rw", "btrfs", "/dev/vdc", "rw"),
        (9, "/device", "rw", "tmpfs", "tmpfs", "rw"),
        (10, "/x", "rw", "cgroup2", "cgroup2", "rw"),
    )
    assert [mount.mount_point for mount in parse_mountinfo(data)] == ["/mnt", "/run/credentials", "/device"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"36 35 8:1 / /mnt rw - ext4 /dev/vda rw", b"36 35 8:1 / /mnt rw ext4\n", b"1 - a b c\n", b"\xff\n"],
)
def test_no_mount(data, node):
    assert parse_mountinfo(data) is None
    source = node(data, lambda path: answer())
    for _ in range(2):
        with pytest.raises(SourceError, match="1/mountinfo: expected lines such as") as caught:
            collected(source)
        assert caught.value.reason == "parse"


def test_sizes_errors_and_what_hangs(node, request):
    def statvfs(path):
        if path == "/host/gone":
            raise OSError(errno.EACCES, "")
        if path == "/host/huge":
            return answer(blocks=2**64 - 1, bfree=2**52, bavail=2**52 - 1, frsize=4096)
        assert path == "/host/"
        return answer()

    source = node(
        mountinfo(
            (1, "/", "ro", "ext4", "/dev/vda", "rw"),
            (2, "/gone", "rw", "ext4", "/dev/vdb", "rw"),
            (3, "/huge", "rw", "fuse", "f", "rw"),
        ),
        statvfs,
    )
    tables = collected(source)
    found = by_label(tables["node_filesystem"], "mountpoint")
    assert found == {
        "/": {
            "size": 409600,
            "free": 204800,
            "avail": 163840,
            "files": 30,
            "files_free": 20,
            "readonly": 1,
            "device_error": 0,
        },
        "/gone": {"device_error": 1},
        "/huge": {"avail": 2**64 - 4096, "files": 30, "files_free": 20, "readonly": 0, "device_error": 0},
    }
    errors = {labels["mountpoint"]: labels["device_error"] for labels, _ in rows(tables["node_filesystem"])}
    assert errors == {"/": "", "/gone": "permission denied", "/huge": ""}
    assert [problem.reason for problem in source.problems] == ["eacces"]
    assert rows(tables["node_filesystem_mount"])[0] == (
        {"device": "/dev/vda", "major": "8", "minor": "1", "mountpoint": "/"},
        {"info": 1},
    )


def test_a_mount_that_hangs(node):
    gate = threading.Event()
    source = node(
        mountinfo((1, "/", "rw", "ext4", "/dev/vda", "rw"), (2, "/nfs", "rw", "nfs4", "dead:/", "rw")),
        lambda path: answer() if path == "/host/" or gate.wait(30) else None,
    )
    for _ in range(2):
        tables = collected(source)
        found = rows(tables["node_filesystem"])
        assert [(labels["mountpoint"], labels["device_error"]) for labels, _ in found] == [
            ("/", ""),
            ("/nfs", "mountpoint timeout"),
        ]
        assert found[1][1] == {"device_error": 1}
        assert [problem.reason for problem in source.problems] == ["timeout"]
    gate.set()


def test_a_mount_that_hangs_costs_itself_when_time_is_short(tmp_path):
    gate = threading.Event()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "mountinfo").write_bytes(
        mountinfo((1, "/", "rw", "ext4", "/dev/vda", "rw"), (2, "/nfs", "rw", "nfs4", "dead:/", "rw"))
    )
    probe = StatfsProbe(lambda path: answer() if path == "/" or gate.wait(600) else None, timeout_seconds=600)
    source = Filesystem(tmp_path, Path("/"), probe)
    source.seconds = 0.2
    found = by_label(collected(source)["node_filesystem"], "mountpoint")
    gate.set()
    assert found["/nfs"] == {"device_error": 1}
    assert found["/"]["size"] == 409600
    assert source.is_whole()


def test_mount_points_of_a_process_that_sees_the_node_under_rootfs(node):
    source = node(
        mountinfo((1, "/host", "rw", "ext4", "/dev/vda", "rw"), (2, "/host/srv", "rw", "ext4", "/dev/vdb", "rw")),
        {"/host/": answer(), "/host/srv": answer()}.__getitem__,
        process="self",
    )
    assert list(by_label(collected(source)["node_filesystem"], "mountpoint")) == ["/", "/srv"]


def test_mounts_below_rootfs_are_excluded_by_their_name_on_the_node(node):
    source = node(
        mountinfo(
            (1, "/R", "rw", "ext4", "/dev/sda2", "rw"),
            (2, "/R/dev/shm", "rw", "tmpfs", "tmpfs", "rw"),
            (3, "/R/var/lib/docker/containers/aaaa/mounts/shm", "rw", "tmpfs", "shm", "rw"),
        ),
        {"/R/": answer()}.__getitem__,
        rootfs="/R",
    )
    assert list(by_label(collected(source)["node_filesystem"], "mountpoint")) == ["/"]


@pytest.mark.parametrize("own", [(1, "/", "rw", "ext4", "/dev/sda2", "rw"), (3, "/", "rw", "xfs", "/dev/sdb", "rw")])
def test_the_root_of_the_process_is_not_the_nodes_where_rootfs_is(node, own):
    source = node(
        mountinfo(own, (1, "/etc/hosts", "rw", "ext4", "/dev/sda2", "rw"), (1, "/R", "ro", "ext4", "/dev/sda2", "rw")),
        {"/R/": answer()}.__getitem__,
        rootfs="/R",
    )
    tables = collected(source)
    ((labels, cells),) = rows(tables["node_filesystem"])
    assert labels == {"device": "/dev/sda2", "mountpoint": "/", "fstype": "ext4", "device_error": ""}
    assert cells["readonly"] == 1
    assert len(rows(tables["node_filesystem_mount"])) == 1


def test_a_mount_point_that_is_no_utf_8(node):
    source = node(
        mountinfo((1, "/a@", "rw", "ext4", "/dev/vda", "rw")).replace(b"@", b"\xff"),
        {"/host/a\udcff": answer()}.__getitem__,
    )
    table = collected(source)["node_filesystem"]
    assert table.labels(0).decode().startswith('device="/dev/vda",mountpoint="/a\\\\xff",')
    assert table.get(0, "size") == 409600


def test_mounts_come_and_go(node):
    statvfs = {"/a": answer(), "/b": answer()}.__getitem__
    source = node(mountinfo((1, "/a", "rw", "ext4", "/dev/vda", "rw")), statvfs, rootfs="/")
    source.collect()
    node(mountinfo((2, "/b", "rw", "ext4", "/dev/vdb", "rw")), statvfs)
    assert list(by_label(collected(source)["node_filesystem"], "mountpoint")) == ["/b"]


def test_live():
    tables = collected(Filesystem(Path("/proc"), Path("/"), StatfsProbe()))
    direct = os.statvfs("/")
    root = by_label(tables["node_filesystem"], "mountpoint")["/"]
    assert root["size"] == direct.f_blocks * direct.f_frsize
    assert root["files"] == direct.f_files
    assert root["device_error"] == 0
    assert 0 <= root["avail"] <= root["free"] <= root["size"]
