"""A registrar as a process of its own: DIRECTORY PORT SECRET_OF NAME COUNT. Ends with its standard input."""

from __future__ import annotations

import asyncio
import sys

from pymon.config import Address
from pymon.dns.records import Records
from pymon.dns.registrar import Registrar, Server
from tests.e2e import primaries, registered


async def main(directory: str, port: str, name: str, count: str) -> None:
    records = Records(registered.view(int(count)))
    server = Server(Address("127.0.0.1", int(port)), primaries.PYMON, records.origins)
    registrar = Registrar([server], owner=registered.OWNER, holder=name, directory=directory, content=records.content)
    registrar.start()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        number, address = line.split()
        registrar.changed(records.update([registered.instance(int(number), addresses=(address,))]))
    await registrar.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
