"""Interfaces inside containers that are left out: what a container runs of its own runtime, unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.fixture_host import copy_host

NUMBERS = " ".join(str(number) for number in range(11, 27))


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ((), {"eth0", "br-1", "my-veth"}),
        (("--container.interface-exclude=/",), {"eth0", "br-1", "my-veth", "veth12@if3", "docker0", "nerdctl0"}),
        (("--container.interface-exclude=br-?",), {"eth0", "my-veth", "veth12@if3", "docker0", "nerdctl0"}),
        (
            ("--container.interface-exclude=*veth*", "--container.interface-exclude=eth[1-9]"),
            {"eth0", "br-1", "docker0", "nerdctl0"},
        ),
    ],
    ids=["default", "none", "one", "several"],
)
def test_interfaces_that_are_left_out(tmp_path: Path, flags: tuple[str, ...], wanted: set[str]) -> None:
    host = copy_host("v2", tmp_path)
    for file in host.root.glob("proc/[0-9]*/net/dev"):
        more = "".join(f"{name}: {NUMBERS}\n" for name in ("veth12@if3", "docker0", "nerdctl0", "br-1", "my-veth"))
        file.write_text(file.read_text() + more)
    series = host.collect(*flags)
    found = {dict(labels)["interface"] for name, labels in series if name == "container_network_receive_bytes_total"}
    assert found == wanted
