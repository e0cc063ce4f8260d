"""Debian packages that are unpacked for the suite and not installed: pcp wants systemd when it is installed."""

from __future__ import annotations

from pathlib import Path

from bench.world import ROOT

TREE = ROOT / "build/bench/debian"
"""Where `make packages-bench` puts the packages of apt-packages-bench-unpacked.txt, and what is in them."""


def version(package: str, tree: Path = TREE) -> str:
    """The version of an unpacked package, or ""."""
    found = sorted(tree.glob(f"{package}_*.deb"))
    return found[-1].name.split("_")[1].replace("%3a", ":") if found else ""


def libraries(tree: Path = TREE) -> str:
    """The folders in which unpacked programs find their libraries, as in LD_LIBRARY_PATH."""
    return ":".join(map(str, (tree / "usr/lib", *sorted((tree / "usr/lib").glob("*-linux-gnu*")))))
