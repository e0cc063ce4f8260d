"""A Knot that serves one zone on loopback, as the one to agree with."""

import shutil
import socket
import subprocess
import time
from contextlib import contextmanager

import dns.exception
import dns.message
import dns.query
import pytest

CONFIGURATION = """
server:
    rundir: {directory}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {directory}
log:
  - target: stderr
    any: warning
zone:
  - domain: {origin}
    file: {directory}/zone
"""


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def knot(directory, origin, text):
    """Serve a zone; the port, once it answers."""
    program = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin")
    if program is None:
        pytest.skip("knotd: not found")
    port = free_port()
    directory.mkdir(exist_ok=True)
    (directory / "zone").write_text(text)
    configuration = directory / "knot.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory, port=port, origin=origin))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(configuration)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 30
        probe = dns.message.make_query(origin, "SOA")
        while True:
            assert process.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, "Knot does not answer"
            try:
                if dns.query.udp(probe, "127.0.0.1", port=port, timeout=0.2).answer:
                    break
            except (dns.exception.Timeout, OSError):
                continue
        yield port
    finally:
        process.terminate()
        process.wait(30)
