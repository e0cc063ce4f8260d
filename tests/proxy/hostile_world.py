"""A whole proxy with one node and two tenants, and its log, for tests of what it should not be given."""

from contextlib import asynccontextmanager

from pymon.log import LogfmtFormatter
from tests.proxy.running import (
    A,
    B,
    FakeNode,
    Site,
    container,
    running,
)


@asynccontextmanager
async def world(tmp_path, *containers, **changes):
    """A node with a container of alice's (A) and one of bob's (B)."""
    site = Site(tmp_path)
    alice, bob = site.account("alice"), site.account("bob")
    async with FakeNode(container(A, "alice"), container(B, "bob"), *containers) as node:
        site.node("n1", node)
        async with running(site, **changes) as proxy:
            yield proxy, node, alice, bob


def lines(caplog, logger="pymon"):
    """The log as it would be written."""
    found = [LogfmtFormatter().format(record) for record in caplog.records if record.name.startswith(logger)]
    assert all(len(line.splitlines()) == 1 and line.isascii() for line in found), found
    assert not [line for line in found if "raceback" in line or "internal error" in line], found
    return found
