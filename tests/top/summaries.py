"""A server of summaries that the tests decide, and summaries of containers that the tests name."""

from __future__ import annotations

import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from pymon.summary_document import COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS


def row(name: str, /, **items: Any) -> list[Any]:
    """A container, whose UUID is its name if none is given."""
    known = {"uuid": name, "name": name, "state": "running", "start_seconds": 1.7e9, **items}
    return [known.get(column, "" if column in TEXT_COLUMNS else None) for column in COLUMNS]


def document(*rows: list[Any], columns: Sequence[str] = COLUMNS, account: str | None = None, **node: Any) -> bytes:
    """A summary of one node."""
    node = {"uuid": "n", "hostname": "node", "time": 100.0, "containers": rows, **node}
    whole = {"columns": columns, "nodes": [node]} | ({} if account is None else {"account": account})
    return json.dumps(whole).encode()


class Summaries:
    """What the server answers. names: of containers; the CPU time of number N grows by N + 1 seconds a second.

    Either all of a document of `names`, or `body` if it is not None. seen: the headers of the requests.
    """

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.body: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.node: dict[str, Any] = {}
        self.url = ""
        self.seen: list[dict[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def document(self) -> bytes:
        if self.body is not None:
            return self.body
        now = time.time()
        counters = [
            name
            for name in NUMBER_COLUMNS
            if name.endswith("_seconds") and name not in ("start_seconds", "end_seconds")
        ]
        rows = [
            row(name, uuid=f"{at:032x}", memory_bytes=(at + 1) << 20, **dict.fromkeys(counters, (at + 1) * now))
            for at, name in enumerate(self.names)
        ]
        machine = {"cpus": 2, "memory_bytes": 1 << 34, "load": [0.5, 1, 2]}
        return document(*rows, **{"time": now, "machine": machine, **self.node})


@contextlib.contextmanager
def served(summaries: Summaries, context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Summaries]:
    """Serve them, at their `url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            summaries.seen.append(dict(self.headers))
            summaries.gate.wait(30)
            body = summaries.document() if self.path == "/v1/summary" else b"not found\n"
            self.send_response(summaries.status)
            for name, value in {"Content-Length": str(len(body)), **summaries.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may leave in the middle
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            pass  # a client that does not trust the certificate

    server = Server(("127.0.0.1", port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    summaries.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
    try:
        yield summaries
    finally:
        summaries.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()
