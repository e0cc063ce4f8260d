from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.sources.addresses import AddressReader, Look, ipv4_addresses, ipv6_addresses

# What Linux 6.18 had for two addresses, a point-to-point one, one of the link and loopback. As long as there are no
# rules, both tables are one.
TRIE = """
  +-- 0.0.0.0/0 3 0 5
     +-- 10.0.0.0/11 2 0 2
        +-- 10.1.2.0/24 2 0 2
           +-- 10.1.2.0/29 2 0 1
              |-- 10.1.2.0
                 /24 link UNICAST
              |-- 10.1.2.3
                 /32 host LOCAL
              |-- 10.1.2.4
                 /32 host LOCAL
           |-- 10.1.2.255
              /32 link BROADCAST
        +-- 10.20.0.0/30 2 0 2
           |-- 10.20.0.1
              /32 host LOCAL
           |-- 10.20.0.2
              /32 link UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 169.254.0.0/16 2 0 2
        +-- 169.254.0.0/20 2 0 2
           |-- 169.254.0.0
              /16 link UNICAST
           |-- 169.254.9.9
              /32 host LOCAL
        |-- 169.254.255.255
           /32 link BROADCAST
"""
MERGED = f"Main:{TRIE}Local:{TRIE}"

# The same kernel after `ip rule add from 1.1.1.1 table 77` and `ip route add local 0.0.0.0/0 dev lo table 77`, as
# transparent proxies have it, `… local 10.9.9.9/32 dev lo table 77` and `ip route add local 10.8.0.0/24 dev lo`.
SEPARATE = """\
Id 77:
  +-- 0.0.0.0/4 2 0 2
     |-- 0.0.0.0
        /0 host LOCAL
     |-- 10.9.9.9
        /32 host LOCAL
Main:
  +-- 0.0.0.0/0 3 0 6
     +-- 10.0.0.0/11 2 0 2
        |-- 10.1.2.0
           /24 link UNICAST
        |-- 10.20.0.2
           /32 link UNICAST
     |-- 169.254.0.0
        /16 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.0.0.0/11 2 0 1
        +-- 10.1.2.0/24 2 0 2
           |-- 10.1.2.3
              /32 host LOCAL
           |-- 10.1.2.255
              /32 link BROADCAST
        |-- 10.8.0.0
           /24 host LOCAL
        |-- 10.20.0.1
           /32 host LOCAL
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
"""

LOOPBACK = """\
Main:
  +-- 127.0.0.0/8 2 0 2
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 127.255.255.255
        /32 link BROADCAST
Local:
  +-- 127.0.0.0/8 2 0 2
     +-- 127.0.0.0/31 1 0 0
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 127.255.255.255
        /32 link BROADCAST
"""

# `ip address add 10.5.5.0/31 dev lo` and Docker's resolver: a leaf with two prefixes, addresses that others share.
SEVERAL_PREFIXES = """\
Local:
  +-- 0.0.0.0/0 4 1 11
     |-- 10.5.5.0
        /32 host LOCAL
        /31 host LOCAL
     |-- 127.0.0.11
        /32 host LOCAL
     |-- 192.0.2.1
        /24 link UNICAST tos=16
        /32 host LOCAL
     |-- 224.0.0.5
        /32 host LOCAL
Id 77:
     |-- 10.9.9.9
        /32 host LOCAL
Main:
     |-- 10.9.9.10
        /32 host LOCAL
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MERGED, ["10.1.2.3", "10.1.2.4", "10.20.0.1"]),
        (SEPARATE, ["10.1.2.3", "10.20.0.1"]),
        (LOOPBACK, []),
        (SEVERAL_PREFIXES, ["10.5.5.0", "192.0.2.1"]),
        ("", []),
        (f"Main:{TRIE}", []),
        ("Local:\n  |-- 10.1.2.3", []),
        ("Local:\n  |-- 10.1.2.300\n  /32 host LOCAL\n  |-- \xe9\n  /32 host LOCAL\n  |-- 1.2.3.4\n  /32 host LOCAL\n",
         ["1.2.3.4"]),
        ("Local:\n  |-- 10.0.0.9\n  /32 host LOCAL\n  |-- 9.0.0.10\n  /32 host LOCAL\n", ["9.0.0.10", "10.0.0.9"]),
    ],
    ids=["merged", "separate", "loopback", "prefixes", "empty", "cut", "half", "malformed", "order"],
)  # fmt: skip
def test_ipv4_addresses_are_the_local_tables(text: str, expected: list[str]) -> None:
    assert [str(address) for address in ipv4_addresses(text.encode())] == expected


INET6 = """\
fd000000000000000000000000000006 02 40 00 82       d0
20010db8000000000000000000000005 02 40 00 80 we}ird,0
fe80000000000000a8bbccfffedd0011 02 40 20 80       d0
fec00000000000000000000000000001 02 40 40 80       d0
20010db8000000000000000000000007 01 80 00 80       lo
00000000000000000000000000000001 01 80 10 80       lo
"""


def test_ipv6_addresses_are_those_beyond_the_link() -> None:
    expected = ["2001:db8::5", "2001:db8::7", "fd00::6", "fec0::1"]
    assert [str(address) for address in ipv6_addresses(INET6.encode())] == expected


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("80", True),
        ("00", True),
        ("20", True),
        ("c0", False),
        ("40", False),
        ("44", True),
        ("c8", False),
        ("01", False),
    ],
    ids=["permanent", "dynamic", "deprecated", "tentative", "tentative too", "optimistic", "duplicate", "temporary"],
)
def test_an_ipv6_address_that_nobody_is_to_use_is_not_told(flags: str, *, told: bool) -> None:
    line = f"20010db8000000000000000000000005 02 40 00 {flags}     eth0\n"
    assert ipv6_addresses(line.encode()) == ([ip_address("2001:db8::5")] if told else [])


@pytest.mark.parametrize("line", ["", "\n", "zz 02 40 00 80 d0", "20010db8 02 40 00 80 d0", "fd00 02", "\xff" * 40])
def test_malformed_ipv6_lines_are_passed_over(line: str) -> None:
    assert ipv6_addresses(f"{line}\n{INET6}".encode("latin-1")) == ipv6_addresses(INET6.encode())


@given(st.binary(), st.integers(0, 200), st.sampled_from([MERGED, SEPARATE, INET6]))
def test_no_text_is_an_error(junk: bytes, at: int, text: str) -> None:
    spoilt = text.encode()[:at] + junk + text.encode()[at:]
    ipv4_addresses(spoilt)
    ipv6_addresses(spoilt)


# --- a host of files ---


class Host:
    """procfs and a hierarchy in a directory."""

    def __init__(self, directory: Path) -> None:
        self.procfs, self.cgroups = directory / "proc", directory / "cgroup"
        self.cgroups.mkdir()
        self.process(1, "net:[1]")

    def process(
        self, pid: int, namespace: str | None, fib_trie: str | None = MERGED, if_inet6: str | None = None
    ) -> None:
        (self.procfs / f"{pid}/ns").mkdir(parents=True)
        (self.procfs / f"{pid}/net").mkdir()
        if namespace is not None:
            (self.procfs / f"{pid}/ns/net").symlink_to(namespace)
        for name, text in (("fib_trie", fib_trie), ("if_inet6", if_inet6)):
            if text is not None:
                (self.procfs / f"{pid}/net/{name}").write_text(text)

    def group(self, path: str, *pids: int) -> None:
        (self.cgroups / path[1:]).mkdir(parents=True, exist_ok=True)
        (self.cgroups / path[1:] / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def look(self, path: str) -> Look:
        return AddressReader(self.procfs, self.cgroups).look(path, {})


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


FOUND = ("10.1.2.3", "10.1.2.4", "10.20.0.1")


def test_addresses_are_those_of_the_first_process_that_is_there(host: Host) -> None:
    host.process(7, "net:[7]", if_inet6=INET6)
    host.process(8, None)  # a zombie has none
    host.process(9, "net:[9]")
    host.group("/c", 0, 5, 8, 7, 9)
    assert host.look("/c") == Look("net:[7]", (*FOUND, "2001:db8::5", "2001:db8::7", "fd00::6", "fec0::1"))


def test_a_process_that_ends_meanwhile_is_passed_over(host: Host) -> None:
    host.process(7, "net:[7]", fib_trie=None, if_inet6=INET6)
    host.process(9, "net:[9]")
    host.group("/c", 7, 9)
    assert host.look("/c") == Look("net:[9]", FOUND)
    host.group("/c", 7)
    assert host.look("/c") == Look(None)


def test_processes_of_an_init_are_in_groups_below(host: Host) -> None:
    host.process(7, "net:[7]")
    host.group("/c")
    host.group("/c/system.slice")
    host.group("/c/system.slice/web.service", 7)
    assert host.look("/c") == Look("net:[7]", FOUND)


def test_the_hosts_network_is_nobodys(host: Host) -> None:
    host.group("/c", 1)
    assert host.look("/c") == Look("")


def test_a_namespace_is_read_once_in_a_go(host: Host) -> None:
    host.process(7, "net:[7]")
    host.process(8, "net:[7]", fib_trie=None)
    host.group("/a", 7)
    host.group("/b", 8)
    reader = AddressReader(host.procfs, host.cgroups)
    known: dict[str, Look] = {}
    assert reader.look("/a", known) == reader.look("/b", known) == Look("net:[7]", FOUND)


def test_no_group_no_process_and_no_hierarchy_are_nobody(host: Host) -> None:
    host.group("/empty")
    assert host.look("/empty") == host.look("/gone") == Look(None)
    assert AddressReader(host.procfs, None).look("/empty", {}) == Look(None)


def test_only_the_first_addresses_are_told(host: Host) -> None:
    leaves = "".join(f"  |-- 10.0.{number // 256}.{number % 256}\n     /32 host LOCAL\n" for number in range(1000))
    host.process(7, "net:[7]", f"Local:\n{leaves}", INET6)
    host.group("/c", 7)
    assert host.look("/c").addresses == tuple(f"10.0.0.{number}" for number in range(64))


def test_a_table_without_end_is_not_read_to_its_end(host: Host) -> None:
    host.process(7, "net:[7]", MERGED + " " * (5 << 20), INET6)
    host.group("/c", 7)
    assert host.look("/c").addresses == ("2001:db8::5", "2001:db8::7", "fd00::6", "fec0::1")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_look_leaves_no_descriptor_open(host: Host) -> None:
    host.process(7, "net:[7]", if_inet6=INET6)
    host.process(8, "net:[8]", fib_trie=None)
    (host.procfs / "8/net/fib_trie").mkdir()  # opens, and cannot be read
    host.process(9, "net:[9]", MERGED + " " * (5 << 20))
    host.group("/c", 8, 7)
    host.group("/d", 9)
    before = open_descriptors()
    assert host.look("/c").namespace == "net:[7]"
    host.look("/d")
    assert open_descriptors() == before


def test_a_path_that_is_not_utf8(host: Host) -> None:
    host.process(7, "net:[7]")
    name = os.fsdecode(b"/\xff\xfe")
    host.group(name, 7)
    assert host.look(name) == Look("net:[7]", FOUND)


def test_a_listing_of_many_processes(host: Host) -> None:
    host.group("/c", *range(100_000, 110_000))
    assert host.look("/c") == Look(None)
    host.process(100_003, "net:[7]")
    assert host.look("/c") == Look("net:[7]", FOUND)
