"""Devices and mounts that collectors leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NONE = re.compile("^$")


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Patterns, which are searched in a name, with the defaults of node_exporter."""

    arp_devices: re.Pattern[str] = _NONE
    disk_devices: re.Pattern[str] = re.compile(r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")
    file_system_types: re.Pattern[str] = re.compile(
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs"
        "|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$"
    )
    mount_points: re.Pattern[str] = re.compile(
        "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)"
    )
    net_devices: re.Pattern[str] = _NONE
    netclass_devices: re.Pattern[str] = _NONE


DEFAULT_EXCLUSIONS = Exclusions()
