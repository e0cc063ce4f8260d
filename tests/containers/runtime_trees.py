"""Trees of files as runtimes write them, and what is read of one. Names are ids of containers in them."""

import json
import os
import sqlite3
from pathlib import Path

from pymon.containers.recognise import recognise
from pymon.containers.runtimes import Runtimes

FIXTURES = Path(__file__).parent.parent / "fixtures" / "runtimes"
DOCKER = "d0c5e1a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f50"
PODMAN = "9d1e0f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6"
PODMAN_RM = "5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978879655"
BOLTDB = "b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d0b01d"
CRI = "c0a7a1e4d1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c"
SANDBOX = "5a4db0c5e1a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e"
NERDCTL = "4e4dc71e1a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4"
CRIO = "c410c410a27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"
CRIO_SANDBOX = "c4105a4da27b9f4c3e8d6a0b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f"
NOBODY = "f" * 64
POD = "0a1b2c3d-1111-2222-3333-444455556666"
MICROK8S = "var/snap/microk8s/common/run/containerd"
DOCKER_CONFIG = f"var/lib/docker/containers/{DOCKER}/config.v2.json"
EVIL = '"} evil 1\n\u00e9\U0001f4a5'


def load(path):
    database = sqlite3.connect(path)
    database.executescript((FIXTURES / "podman/db.sql.txt").read_text())
    database.close()


def describe(root, path):
    match = recognise(path)
    assert match is not None
    return Runtimes(root).describe(match)


def settled(runtimes, match):
    """The stamps, once all changes are old enough to have stamps."""
    while (stamps := runtimes.stamps(match)) is None:
        os.sched_yield()
    return stamps


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
