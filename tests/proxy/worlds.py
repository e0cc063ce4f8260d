"""A proxy, over TLS, with a node and three tenants."""

from contextlib import asynccontextmanager

from tests.proxy.running import (
    A,
    B,
    C,
    FakeNode,
    Site,
    container,
    running,
)


@asynccontextmanager
async def world(tmp_path, **changes):
    """A node with a container of alice's (A), one of bob's (B) and one of nobody's (C), and op, who is an operator."""
    site = Site(tmp_path)
    tenants = site.account("alice"), site.account("bob"), site.account("op", operator=True)
    node = FakeNode(container(A, "alice"), container(B, "bob"), container(C))
    async with node:
        site.node("n1", node)
        async with running(site, **changes) as proxy:
            yield proxy, node, *tenants
