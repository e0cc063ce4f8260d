"""A Linux guest for tests: Debian's cloud kernel under QEMU's software emulation, in a few seconds.

The guest sees the host's root file system read-only, under an overlay that is forgotten with it, so the repository and
its virtual environment are at their own paths. It has no network but `lo`. Its cgroup world is chosen by the caller:

- `v2`: the unified hierarchy at /sys/fs/cgroup, every controller enabled for the children of the root
- `v1`: one hierarchy for each controller, `cpu,cpuacct` together as Debian had them, and `name=systemd`
- `hybrid`: the same, and a v2 tree without controllers at /sys/fs/cgroup/unified

    result = Guest(cgroup="v2", cmdline="psi=0").run(["cat", "/proc/self/cgroup"])
    assert result.status == 0, result.output
"""

from __future__ import annotations

import lzma
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CgroupLayout = Literal["v2", "v1", "hybrid"]

REPOSITORY = Path(__file__).resolve().parents[2]
KERNEL_DIRECTORY = REPOSITORY / "build" / "vm" / "kernel"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
NEWER_KERNEL_PACKAGE = "linux-image-6.12-cloud-amd64"
QEMU = "qemu-system-x86_64"
VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
BUSYBOX = Path("/bin/busybox")
SHARE = "/run/guest"
"""Where the guest has the directory that it shares, writable, with the caller."""

_BASE_MODULES = ("virtio_pci", "virtiofs", "overlay")
_DISK_MODULES = ("virtio_blk",)

_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module" || echo "guest: insmod $module failed"; done < /modules/order
mount -t virtiofs -o ro root /lower
mount -t tmpfs tmpfs /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /root
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
mkdir -p /root/run/guest
mount -t virtiofs share /root/run/guest
ip link set lo up
echo guest > /proc/sys/kernel/hostname
cgroups=/root/sys/fs/cgroup
controllers() {
    mount -t tmpfs -o mode=755 tmpfs $cgroups
    for names in cpu,cpuacct cpuset memory devices freezer blkio pids perf_event hugetlb net_cls,net_prio rdma misc; do
        mkdir $cgroups/$names
        mount -t cgroup -o $names cgroup $cgroups/$names 2> /dev/null || rmdir $cgroups/$names
    done
    ln -s cpu,cpuacct $cgroups/cpu
    ln -s cpu,cpuacct $cgroups/cpuacct
    mkdir $cgroups/systemd
    mount -t cgroup -o none,name=systemd cgroup $cgroups/systemd
}
case "$guest_cgroup" in
v2)
    mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 $cgroups
    for name in $(cat $cgroups/cgroup.controllers); do echo +$name > $cgroups/cgroup.subtree_control; done
    ;;
v1)
    controllers
    ;;
hybrid)
    controllers
    mkdir $cgroups/unified
    mount -t cgroup2 -o nsdelegate cgroup2 $cgroups/unified
    ;;
esac
umount /proc /sys /dev
exec switch_root /root /bin/busybox sh /run/guest/.session
"""

_SESSION = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
: > {share}/.started
/bin/busybox sh {share}/.command > {share}/.output 2>&1 < /dev/null
echo $? > {share}/.status
/bin/busybox sync
/bin/busybox poweroff -f
"""


class GuestError(RuntimeError):
    """The guest did not boot, or did not end in time; the message has the end of its console."""


class GuestUnavailableError(GuestError):
    """This machine cannot run a guest; the message says what is missing."""


@dataclass(frozen=True)
class Kernel:
    """A kernel image and its modules, unpacked but not installed."""

    image: Path
    modules: Path

    @property
    def release(self) -> str:
        """The kernel's release, as `uname -r` will say it."""
        return self.modules.name


@dataclass(frozen=True)
class GuestResult:
    """What became of the command: its exit status, its output (both streams), and how long things took in seconds."""

    status: int
    output: str
    boot_seconds: float
    seconds: float


def missing() -> str | None:
    """The reason why this machine cannot run a guest, but for the kernel; None when it can."""
    if os.geteuid() != 0:
        return "virtiofsd needs root"
    for program in (QEMU, "cpio", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    for path in (VIRTIOFSD, BUSYBOX):
        if not path.exists():
            return f"{path} is not installed"
    return None


def find_kernel(package: str = KERNEL_PACKAGE) -> Kernel:
    """The kernel of a package unpacked below `build`, fetched from the Debian archive when it is not there.

    Raises GuestUnavailableError when the archive cannot be asked.
    """
    directory = KERNEL_DIRECTORY if package == KERNEL_PACKAGE else KERNEL_DIRECTORY.with_name(package)
    kernel = _unpacked_kernel(directory)
    if kernel is None:
        _fetch_kernel(directory, package)
        kernel = _unpacked_kernel(directory)
    if kernel is None:
        raise GuestUnavailableError(f"{directory}: no kernel image in the package behind {package}")
    return kernel


def _unpacked_kernel(directory: Path) -> Kernel | None:
    for image in sorted(directory.glob("boot/vmlinuz-*"), reverse=True):
        modules = directory / "lib/modules" / image.name.removeprefix("vmlinuz-")
        if modules.is_dir():
            return Kernel(image, modules)
    return None


def _fetch_kernel(directory: Path, package: str) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        depends = _apt(["apt-cache", "depends", package], scratch)
        image = re.search(r"Depends: (linux-image-\S+)", depends)
        if image is None:
            raise GuestUnavailableError(f"{package} is not in the package lists (apt-get update)")
        _apt(["apt-get", "-o", "APT::Sandbox::User=root", "download", image[1]], scratch)
        unpacked = Path(scratch, "kernel")
        for archive in Path(scratch).glob("*.deb"):
            _apt(["dpkg", "-x", str(archive), str(unpacked)], scratch)
        shutil.rmtree(directory, ignore_errors=True)
        unpacked.rename(directory)


def _apt(command: Sequence[str], cwd: str) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise GuestUnavailableError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise GuestUnavailableError(f"{shlex.join(command)}: no answer in 120 s") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or error.stdout.strip() or f"exit status {error.returncode}").splitlines()[-1]
        raise GuestUnavailableError(f"{shlex.join(command)}: {reason}") from None
    return done.stdout


def _module_closure(kernel: Kernel, names: Iterable[str]) -> list[Path]:
    """The module files for `names` and what they depend on, in an order in which they can be inserted.

    A name without a file is built into the kernel. Dependencies are the string `depends=a,b` of ELF section .modinfo.
    """
    files = {path.name.split(".", 1)[0].replace("-", "_"): path for path in kernel.modules.rglob("*.ko*")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        depends = re.search(rb"\0depends=([^\0]*)\0", _module_content(path))
        for dependency in depends[1].decode().split(",") if depends else []:
            add(dependency)
        order.append(path)

    for name in names:
        add(name)
    return order


def _module_content(path: Path) -> bytes:
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


class Guest:
    """A guest to be booted, once for each `run`.

    `cmdline` is added to the kernel's command line, `modules` are inserted beside the ones needed, `disk_mib` gives it
    an empty disk /dev/vda, `share` is a directory of the host that the guest has, writable, as /run/guest, `log` a file
    that receives its console while it runs, `package` that of its kernel.
    """

    def __init__(
        self,
        *,
        cgroup: CgroupLayout = "v2",
        cmdline: str = "",
        modules: Sequence[str] = (),
        disk_mib: int = 0,
        memory_mib: int = 1024,
        cpus: int = 2,
        share: Path | None = None,
        log: Path | None = None,
        package: str = KERNEL_PACKAGE,
    ) -> None:
        self.package = package
        self.cgroup = cgroup
        self.cmdline = cmdline
        self.modules = tuple(modules)
        self.disk_mib = disk_mib
        self.memory_mib = memory_mib
        self.cpus = cpus
        self.share = share
        self.log = log

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path = REPOSITORY,
        env: Mapping[str, str] | None = None,
        timeout: float = 120.0,
    ) -> GuestResult:
        """Boot, run `command` as root in `cwd`, power off.

        Raises GuestUnavailableError when this machine cannot, GuestError when the guest ends without a status or is not
        done after `timeout` seconds of the host. Whatever was started is gone when this returns.
        """
        reason = missing()
        if reason is not None:
            raise GuestUnavailableError(reason)
        kernel = find_kernel(self.package)
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="guest-")))
            share = self.share or work / "share"
            share.mkdir(parents=True, exist_ok=True)
            started, status, output = share / ".started", share / ".status", share / ".output"
            for leftover in (started, status, output):
                leftover.unlink(missing_ok=True)
            _write_command(share, command, cwd, env or {})
            console = self.log or work / "console.log"
            initramfs = self._write_initramfs(work, kernel)
            sockets = {
                "root": _start_virtiofsd(stack, work, "root", Path("/")),
                "share": _start_virtiofsd(stack, work, "share", share),
            }
            begin = time.monotonic()
            begin_wall = time.time()
            qemu_log = work / "qemu.log"
            arguments = self._qemu_arguments(work, kernel, initramfs, console, sockets)
            qemu = _start(stack, arguments, qemu_log)
            try:
                qemu.wait(timeout)
            except subprocess.TimeoutExpired:
                raise GuestError(f"the guest was not done after {timeout:g} s\n{_ends(console, output)}") from None
            seconds = time.monotonic() - begin
            if not started.exists() or not status.exists():
                raise GuestError(f"the guest ended without a status\n{_ends(qemu_log, console, output)}")
            result = GuestResult(
                status=int(status.read_text()),
                output=output.read_text(errors="replace"),
                boot_seconds=started.stat().st_mtime - begin_wall,
                seconds=seconds,
            )
            for private in (started, status, output, share / ".command", share / ".session"):
                private.unlink()
            return result

    def _write_initramfs(self, work: Path, kernel: Kernel) -> Path:
        tree = work / "initramfs"
        for directory in ("bin", "dev", "lower", "modules", "proc", "root", "sys", "upper"):
            (tree / directory).mkdir(parents=True)
        shutil.copy(BUSYBOX, tree / "bin/busybox")
        (tree / "init").write_text(_INIT)
        (tree / "init").chmod(0o755)
        wanted = _BASE_MODULES + (_DISK_MODULES if self.disk_mib else ()) + self.modules
        order = _module_closure(kernel, wanted)
        for path in order:
            (tree / "modules" / path.name.removesuffix(".xz")).write_bytes(_module_content(path))
        (tree / "modules/order").write_text("".join(f"{path.name.removesuffix('.xz')}\n" for path in order))
        archive = work / "initramfs.cpio"
        names = b"\0".join(os.fsencode(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        with archive.open("wb") as target:
            command = ["cpio", "--null", "--create", "--format=newc", "--quiet"]
            subprocess.run(command, cwd=tree, input=names, stdout=target, check=True)
        return archive

    def _qemu_arguments(
        self, work: Path, kernel: Kernel, initramfs: Path, console: Path, sockets: Mapping[str, Path]
    ) -> list[str]:
        no_v1 = "cgroup_no_v1=all" if self.cgroup == "v2" else ""
        append = f"console=ttyS0 quiet panic=-1 guest_cgroup={self.cgroup} {no_v1} {self.cmdline}"
        size = f"{self.memory_mib}M"
        arguments = [
            *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-accel", "tcg", "-cpu", "max", "-smp", str(self.cpus), "-m", size),
            *("-object", f"memory-backend-memfd,id=memory,size={size},share=on", "-numa", "node,memdev=memory"),
            *("-serial", f"file:{console}"),
            *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", append),
        ]
        for tag, path in sockets.items():
            arguments += ["-chardev", f"socket,id={tag},path={path}"]
            arguments += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        if self.disk_mib:
            disk = work / "disk.img"
            with disk.open("wb") as image:
                image.truncate(self.disk_mib << 20)
            arguments += ["-drive", f"if=none,id=disk,file={disk},format=raw,cache=unsafe"]
            arguments += ["-device", "virtio-blk-pci,drive=disk"]
        return arguments


def _write_command(share: Path, command: Sequence[str | os.PathLike[str]], cwd: Path, env: Mapping[str, str]) -> None:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    words = shlex.join(os.fspath(word) for word in command)
    (share / ".command").write_text(f"cd {shlex.quote(str(cwd))} || exit 127\n{exports}exec {words}\n")
    (share / ".session").write_text(_SESSION.format(share=SHARE))


def _start_virtiofsd(stack: ExitStack, work: Path, tag: str, source: Path) -> Path:
    """Serve `source`; the socket listens before the daemon runs, so there is nothing to wait for."""
    path = work / f"{tag}.socket"
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    listener.bind(str(path))
    listener.listen(1)
    cache = "always" if tag == "root" else "none"
    options = f"source={source},cache={cache},sandbox=chroot,log_level=err"
    arguments = [str(VIRTIOFSD), "-f", f"--fd={listener.fileno()}", "--rlimit-nofile=0", "-o", options]
    _start(stack, arguments, work / f"{tag}.log", listener.fileno())
    return path


def _start(stack: ExitStack, arguments: Sequence[str], log: Path, *descriptors: int) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one, and at the latest when `stack` is closed."""
    with log.open("wb") as target:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ends(*logs: Path) -> str:
    """The last lines of each log that has any, under its name."""
    ends = {log.name: log.read_text(errors="replace").splitlines()[-20:] for log in logs if log.exists()}
    return "\n".join("\n".join([f"--- {name}", *lines]) for name, lines in ends.items() if lines)
