"""The clients of all agents, with their TLS.

A node whose URL changes is reached by its old client until the new one has answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from pymon.proxy.node_changes import reached
from pymon.proxy.relay import Node as RelayNode
from pymon.proxy.upstream import Upstream
from pymon.proxy.upstream_tls import UpstreamTLS
from pymon.service.reload import FileThread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from pymon.directory.model import Node
    from pymon.proxy.fair import FairGate
    from pymon.proxy.options import ProxyOptions

_log = logging.getLogger(__name__)

_LOGGED = ("uuid", "url", "tls_server_name", "tls_fingerprint", "accounts")


class Nodes:
    """Clients of the agents of all nodes in the directory, each with its gate.

    gate: makes the gate of a node by its name. follows: whether the inventories of the nodes are followed here, so that
    `answered` is called; else a new client takes the place of the old one at once, and nothing is logged.
    reloads: what became of reading the files for TLS again. version: increases when `moving` may have changed.

    The constructor raises ConfigError for bad files in the options.
    """

    def __init__(self, options: ProxyOptions, gate: Callable[[str], FairGate], *, follows: bool = True) -> None:
        self._tls = UpstreamTLS(options, time.time())
        self._gate = gate
        self._follows = follows
        self._files: FileThread | None = None
        self._known: Mapping[str, Node] | None = None
        self._nodes: dict[str, tuple[Node, RelayNode]] = {}
        self._next: dict[str, tuple[Node, Upstream]] = {}
        self.reloads = self._tls.reloads
        self.version = 0
        self.renewed: Callable[[], None] = lambda: None
        """Called when there are new TLS contexts."""

    @property
    def pinned(self) -> ssl.SSLContext:
        """The context for agents and proxies whose certificate is checked by its fingerprint."""
        return self._tls.pinned

    @property
    def certificate_ends_at(self) -> float:
        """Expiry of the client certificate, in seconds since the epoch; infinite without one."""
        return self._tls.ends_at

    def ends(self) -> dict[str, float]:
        """Return when what is used here expires, by use, in seconds since the epoch; infinite where it does not."""
        return self._tls.ends()

    def start(self) -> None:
        """Keep certificates and authorities up to date from now on. Must be called on the event loop."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            if self._tls.refresh(time.time()):
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(self._use)

        self._files = FileThread("certificates", look)
        self._files.start()

    def moving(self) -> dict[str, Node]:
        """Return the nodes whose new URL has not answered yet, by name, with their old one."""
        return {name: self._nodes[name][0] for name in self._next}

    def find(self, name: str) -> RelayNode:
        """Return a node by its name. Raises KeyError when it is not in the directory."""
        return self._nodes[name][1]

    def newest(self, name: str) -> Upstream:
        """Return the client for the present URL of a node, which may not have answered yet. Raises KeyError."""
        return self._next[name][1] if name in self._next else self._nodes[name][1].upstream

    def set(self, nodes: Mapping[str, Node]) -> None:
        """Replace the set of nodes, and log how it differs from the last one.

        A node whose URL or server name changed gets a new client, which `answered` puts in the place of the old one.
        If its pinned certificate changed, the old client is not used any more.
        """
        if self._follows:
            self._tell(nodes)
        self.version += 1
        for name, (node, known) in tuple(self._nodes.items()):
            if name not in nodes or nodes[name].tls_fingerprint != node.tls_fingerprint:
                del self._nodes[name]
                self._drop_next(name)
                known.upstream.close()
        for name, node in nodes.items():
            if name not in self._nodes:
                self._nodes[name] = (node, RelayNode(self._upstream(node), self._gate(name)))
                continue
            following = self._next.get(name)
            if reached(node) == reached(following[0] if following else self._nodes[name][0]):
                continue
            self._drop_next(name)
            if reached(node) != reached(self._nodes[name][0]):
                self._next[name] = (node, self._upstream(node))
                if not self._follows:
                    self.answered(name)

    def answered(self, name: str) -> bool:
        """Use the newest client of a node from now on: it has answered as that node. Return whether it is another."""
        following = self._next.pop(name, None)
        if following is None:
            return False
        node, upstream = following
        _, known = self._nodes[name]
        self._nodes[name] = (node, known)
        before, known.upstream = known.upstream, upstream
        before.retire()
        self.version += 1
        if self._follows:
            _log.info("node answers at its new address", extra={"fields": {"node": name, "url": node.url}})
        return True

    def _use(self) -> None:
        """Use the contexts of now for new connections. Existing connections are closed when idle."""
        clients = [(node, known.upstream) for node, known in self._nodes.values()]
        for node, upstream in (*clients, *self._next.values()):
            upstream.use(self._context(node))
        self.renewed()

    def close(self) -> None:
        """Close all connections."""
        if self._files is not None:
            self._files.stop()
        for name in tuple(self._next):
            self._drop_next(name)
        for _, known in self._nodes.values():
            known.upstream.close()
        self._nodes.clear()

    def connections(self) -> int:
        """Return the number of open connections."""
        following = sum(upstream.connections for _, upstream in self._next.values())
        return following + sum(known.upstream.connections for _, known in self._nodes.values())

    def waiting(self) -> int:
        """Return the number of scrapes that wait for a slot."""
        return sum(known.gate.waiting for _, known in self._nodes.values())

    def _drop_next(self, name: str) -> None:
        following = self._next.pop(name, None)
        if following is not None:
            following[1].close()

    def _upstream(self, node: Node) -> Upstream:
        return Upstream(
            node.url, self._context(node), server_name=node.tls_server_name, fingerprint=node.tls_fingerprint
        )

    def _context(self, node: Node) -> ssl.SSLContext:
        return self._tls.pinned if node.tls_fingerprint else self._tls.context

    def _tell(self, nodes: Mapping[str, Node]) -> None:
        """Log the nodes that come, go and change. At the start, only their number."""
        before, self._known = self._known, nodes
        if before is None:
            _log.info("nodes of the directory", extra={"fields": {"nodes": len(nodes)}})
            return
        for name in before.keys() - nodes.keys():
            _log.info("node gone", extra={"fields": {"node": name, "url": before[name].url}})
        for name, node in nodes.items():
            old = before.get(name)
            if old is None:
                _log.info("node added", extra={"fields": {"node": name, "url": node.url}})
            elif old != node:
                changes = {key: getattr(node, key) for key in _LOGGED if getattr(node, key) != getattr(old, key)}
                shown = {key: _words(value) for key, value in changes.items()}
                _log.info("node changed", extra={"fields": {"node": name, **shown}})


def _words(value: object) -> str:
    """Return a field of a node as text."""
    return f"{len(value)} of them" if isinstance(value, frozenset) else "all" if value is None else str(value)
