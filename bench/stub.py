"""`python -m bench.stub PORT INVENTORY NODES CONTAINERS OWNER`: answers for /v1/containers and nothing else.

On 127.0.0.1:PORT the document in the file INVENTORY. On 127.0.1.1:PORT, 127.0.1.2:PORT and so on, NODES of them, a
node each with CONTAINERS containers of OWNER. Who has the document already waits as long as he asks, for a 304.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import uuid
from pathlib import Path

_WAIT = re.compile(rb"[?&]wait=(\d+)")


def address_of(number: int) -> str:
    """Where the extra node of that number is, from 1."""
    return f"127.0.1.{number}"


def document_of(number: int, containers: int, owner: str) -> bytes:
    """The inventory of an extra node."""
    names = [f"n{number}c{i}" for i in range(containers)]
    rest = {"runtime": "docker", "image": "shop/basket:4.2", "start": 1.7e9, "owner": owner, "state": "running"}
    empty = {"health": "", "groups": [], "services": "", "namespace": "", "pod": "", "pod_id": ""}
    return json.dumps(
        {
            "version": f"bench-{number}",
            "node": {"uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"n{number}")), "hostname": f"n{number}"},
            "containers": [
                {
                    "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
                    "id": f"/docker/{name}",
                    "name": name,
                    "runtime_id": name,
                    **rest,
                    **empty,
                }
                for name in names
            ],
        }
    ).encode()


async def serve(port: int, documents: dict[str, bytes]) -> None:
    """Answer for ever with the documents by address."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        document = documents[writer.get_extra_info("sockname")[0]]
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            if b'"bench"' not in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b'ETag: "bench"\r\nContent-Length: %d\r\n\r\n' % len(document) + document)
                continue
            wait = _WAIT.search(head)
            await asyncio.sleep(int(wait[1]) if wait else 0)
            writer.write(b'HTTP/1.1 304 Not Modified\r\nETag: "bench"\r\n\r\n')

    server = await asyncio.start_server(answer, list(documents), port)
    await server.serve_forever()


def main() -> None:
    """Serve for ever. Arguments: port, file of an inventory, nodes, containers of each, their owner."""
    port, inventory, nodes, containers, owner = sys.argv[1:]
    documents = {"127.0.0.1": Path(inventory).read_bytes()}
    for number in range(1, int(nodes) + 1):
        documents[address_of(number)] = document_of(number, int(containers), owner)
    asyncio.run(serve(int(port), documents))


if __name__ == "__main__":
    main()
