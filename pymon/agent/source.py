"""Which source of containers' statistics an agent has: that of its options, or of this system."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymon.agent.options import AgentOptions


def source_of(options: AgentOptions) -> str:
    """Return "cgroupfs" or "kstat": the configured source, or for "auto" that of this platform.

    BPF is a way to fill columns of the cgroups, so with it the source is "cgroupfs", too.
    """
    if options.source == "auto":
        return "kstat" if sys.platform.startswith("sunos") else "cgroupfs"
    return "cgroupfs" if options.source == "bpf" else options.source
