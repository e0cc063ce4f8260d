"""Boots systemd in ROOT, a Debian with pymon's packages, and says what their units do: ``units.py ROOT``.

systemd is process 1 of a container, in a guest of `tests/vm` with version 2 cgroups. `units.sh` runs there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.vm.guest import Guest, GuestError

_HERE = Path(__file__).parent
_TIMEOUT = 900.0

_BOOT = """
root=$1
mkdir /sys/fs/cgroup/machine
echo $$ >/sys/fs/cgroup/machine/cgroup.procs
mount --bind "$root" "$root"
mkdir "$root/share"
mount --bind /run/guest "$root/share"
cat >"$root/etc/systemd/system/units.service" <<END
[Unit]
After=pymon-agent.service
[Service]
Type=oneshot
ExecStart=-/bin/bash /share/units.sh
StandardOutput=file:/share/said
StandardError=inherit
ExecStopPost=systemctl exit
END
ln -s ../units.service "$root/etc/systemd/system/multi-user.target.wants/units.service"
unshare --cgroup --mount --pid --uts --ipc --fork bash -c '
    for place in proc sys dev; do mount --rbind /$place "$1/$place"; done
    mount -t proc proc "$1/proc"
    umount -R "$1/sys/fs/cgroup"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    mount -t tmpfs tmpfs "$1/run"
    exec env -i container=guest "PATH=$PATH" chroot "$1" \\
        /lib/systemd/systemd --unit=multi-user.target --log-target=journal' - "$root"
"""


def main(root: Path) -> int:
    """Return 0 if all that `units.sh` looks at is right."""
    with tempfile.TemporaryDirectory() as folder:
        share = Path(folder)
        (share / "units.sh").write_bytes((_HERE / "units.sh").read_bytes())
        console = share / "console"
        try:
            done = Guest(share=share, log=console, memory_mib=2048).run(
                ["bash", "-c", _BOOT, "-", root], cwd=Path("/"), timeout=_TIMEOUT
            )
        except GuestError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        said = share / "said"
        text = said.read_text(errors="replace") if said.exists() else done.output
        sys.stdout.write(text)
        return 0 if "units: passed" in text else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
