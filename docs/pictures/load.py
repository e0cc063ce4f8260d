"""What a container of the pictures does until it is killed: CPU time, memory, direct I/O to a file, datagrams.

``python load.py --cpu 0.2 --memory-mib 64 --file FILE --write-kib 400 --read-kib 100 --send-kib 50 --echo HOST:PORT``
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import socket
import time
from pathlib import Path

TURN_SECONDS = 0.02
LOW, HIGH = 0.3, 1.7
STEP = 0.04
BLOCK_BYTES = 16 << 10
FILE_BLOCKS = 256
DATAGRAM_BYTES = 1200


def main() -> None:
    """Do as the arguments say. Rates are averages: the real ones wander between `LOW` and `HIGH` times that."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", type=float, default=0.0)
    parser.add_argument("--memory-mib", type=int, default=1)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--write-kib", type=float, default=0.0)
    parser.add_argument("--read-kib", type=float, default=0.0)
    parser.add_argument("--send-kib", type=float, default=0.0)
    parser.add_argument("--echo", default="")
    asked = parser.parse_args()
    kept = [os.urandom(1 << 20) for _ in range(asked.memory_mib)]
    block = mmap.mmap(-1, BLOCK_BYTES)
    file = os.open(asked.file, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600) if asked.file else -1
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    host, _, port = asked.echo.rpartition(":")
    owed = dict.fromkeys(("write", "read", "send"), 0.0)
    level = random.uniform(LOW, HIGH)
    for place in range(FILE_BLOCKS if file >= 0 else 0):
        os.pwritev(file, [block], place * BLOCK_BYTES)
    while kept:
        began = time.monotonic()
        level = min(HIGH, max(LOW, level + random.uniform(-STEP, STEP)))
        wave = level * random.uniform(0.5, 1.5)
        for kind, kib in (("write", asked.write_kib), ("read", asked.read_kib), ("send", asked.send_kib)):
            owed[kind] += kib * 1024 * TURN_SECONDS * wave
        spent = time.process_time() + asked.cpu * TURN_SECONDS * wave
        while time.process_time() < spent:
            pass
        for kind, move in (("write", os.pwritev), ("read", os.preadv)):
            while owed[kind] >= BLOCK_BYTES:
                move(file, [block], random.randrange(FILE_BLOCKS) * BLOCK_BYTES)
                owed[kind] -= BLOCK_BYTES
        while port and owed["send"] >= DATAGRAM_BYTES:
            wire.sendto(bytes(DATAGRAM_BYTES), (host, int(port)))
            owed["send"] -= DATAGRAM_BYTES
        time.sleep(max(0.0, began + TURN_SECONDS - time.monotonic()))


if __name__ == "__main__":
    main()
