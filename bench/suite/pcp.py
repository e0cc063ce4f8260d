"""`python -m bench.suite.pcp PORT PLACE`: unpacked daemons of Performance Co-Pilot that export control groups.

pmcd runs pmdaproc, which reads the files, and is asked over a socket in PLACE: it tells of control groups to those
alone whose user it knows. pmproxy answers with its numbers at PORT. This process becomes pmproxy; the others end with
it. Where there are hierarchies of both versions, pmdaproc forgets all groups of version 1 but the root when it comes to
version 2, so it sees a file system without that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from bench.suite.unpacked import TREE, libraries
from bench.world import CGROUPFS
from pymon.sources.cgroup import find_hierarchies

_OF_PLACE = ("PCP_RUN_DIR", "PCP_LOG_DIR", "PCP_TMP_DIR", "PCP_TMPFILE_DIR")
_PREFIXES = ("/etc", "/usr/lib/pcp", "/usr/share/pcp", "/var")
_SECONDS = 20

METRICS = {
    False: "cgroup.memory.usage,cgroup.memory.stat.rss,cgroup.cpuacct.usage",
    True: "cgroup.memory.current,cgroup.memory.stat.anon,cgroup.cpu.stat.usage",
}
"""What it is asked for with the memory in version 1 and in version 2: few, as it lists the groups anew for each."""

_PROXY = """\
[pmproxy]
http.enabled = true
redis.enabled = false
[discover]
enabled = false
[pmseries]
enabled = false
"""


def configuration(text: str, tree: Path, place: Path) -> str:
    """A pcp.conf with the folders of the tree, and those of `place` where the daemons write."""
    lines = []
    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name in _OF_PLACE:
            value = str(place)
        elif value.startswith(_PREFIXES):
            value = f"{tree}{value}"
        lines.append(f"{name}=root" if name in ("PCP_USER", "PCP_GROUP") else f"{name}={value}" if value else line)
    return "\n".join(lines) + "\n"


def names(pmcd: str, proc: str) -> str:
    """A name space of pmcd's own metrics, without which it is not asked for others, and those of control groups."""
    found = ["root {\n    pmcd\n    cgroup\n}\n"]
    for text, domain, tops in ((pmcd, "PMCD:2", "pmcd"), (proc, "PROC:3", "cgroup")):
        macro, number = domain.split(":")
        found += [
            node.replace(f"{macro}:", f"{number}:")
            for node in re.findall(rf"^{tops}[\w.]* \{{.*?^\}}\n", text, re.MULTILINE | re.DOTALL)
        ]
    return "".join(re.sub(r"/\*.*?\*/", "", node, flags=re.DOTALL) for node in found)


def main(port: str, place: Path) -> None:
    """Start the daemons; become the one that answers."""
    lib = TREE / "usr/lib/pcp"
    (place / "pcp.conf").write_text(configuration((TREE / "etc/pcp.conf").read_text(), TREE, place))
    spaces = ((lib / "pmns" / name).read_text() for name in ("root_pmcd", "root_proc"))
    (place / "names").write_text(names(*spaces))
    (place / "pmcd.conf").write_text(
        f"pmcd 2 dso pmcd_init {lib}/pmdas/pmcd/pmda_pmcd.so\n"
        f"proc 3 pipe binary {lib}/pmdas/proc/pmdaproc -d 3 -l {place}/proc.log\n"
    )
    (place / "pmproxy.conf").write_text(_PROXY)
    os.environ |= {"PCP_CONF": str(place / "pcp.conf"), "LD_LIBRARY_PATH": libraries()}
    socket = place / "pmcd.socket"
    words = [
        *("setpriv", "--pdeathsig", "TERM", f"{lib}/bin/pmcd", "-f", "-A", "-t", "60", "-s", str(socket), "-p", port),
        *("-i", "127.0.0.2", "-c", f"{place}/pmcd.conf", "-n", f"{place}/names", "-l", f"{place}/pmcd.log"),
    ]
    roots = find_hierarchies(CGROUPFS)
    if roots.v1 and roots.v2:
        words = ["unshare", "-m", "sh", "-c", f"umount {shlex.quote(str(roots.v2))} && exec {shlex.join(words)}"]
    daemon = subprocess.Popen(words)
    until = time.monotonic() + _SECONDS
    while not socket.exists():
        if daemon.poll() is not None or time.monotonic() > until:
            sys.exit("pmcd did not start")
        time.sleep(0.05)
    proxy = f"{lib}/bin/pmproxy"
    os.execv(  # noqa: S606 - it is the program
        proxy,
        [
            *(proxy, "-f", "-A", "-i", "127.0.0.1", "-p", port, "-s", str(place / "pmproxy.socket")),
            *("-c", f"{place}/pmproxy.conf", "-l", f"{place}/pmproxy.log"),
        ],
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
