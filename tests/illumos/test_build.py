"""What is built and installed on another platform."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_layers import RUN_ON_ILLUMOS, needs

ROOT = Path(__file__).parents[2]
LIST = """
import json, runpy, sys, sysconfig
import Cython.Build, setuptools, setuptools.command.build_ext
sys.platform = sys.argv[1]
setuptools.setup = lambda **given: print(json.dumps({
    "modules": [module.name for module in given["ext_modules"]],
    "folders": {module.name: module.include_dirs for module in given["ext_modules"]},
    "cffi": given["cffi_modules"],
}))
runpy.run_path("setup.py")
"""
LINUX_ALONE = re.compile(r"readers|responder|bpf")


def listed(platform):
    done = subprocess.run(
        [sys.executable, "-c", LIST, platform], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def compiled_modules(starts):
    """The modules of pymon._native that these import when they are imported, and what those they import do."""
    seen, waiting = set(), list(starts)
    while waiting:
        module = waiting.pop()
        if module not in seen and module.startswith("pymon"):
            seen.add(module)
            waiting.extend(needs(module))
    return {module for module in seen if module.startswith("pymon._native.")}


def test_on_illumos_nothing_of_linux_is_built_and_all_that_is_imported_there():
    found = listed("sunos5")
    assert found["cffi"] == ["native/cffi/kstat_build.py:ffibuilder"]
    built = {*found["modules"], "pymon._native.kstat"}
    assert not [name for name in built if LINUX_ALONE.search(name)]
    wanted = compiled_modules(RUN_ON_ILLUMOS.split())
    assert {"pymon._native.kstat", "pymon._native.renderer", "pymon._native.table"} <= wanted <= built
    assert {folder for folders in found["folders"].values() for folder in folders} == {"native/core"}


def test_on_linux_all_is_built():
    assert {"pymon._native.readers", "pymon._native.responder"} <= set(listed("linux")["modules"])


def requirements(kind):
    """Requirements of the package, or of one of its extras, from the files that pyproject.toml names."""
    dynamic = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
    files = dynamic["optional-dependencies"][kind]["file"] if kind else dynamic["dependencies"]["file"]
    return [Requirement(line) for file in files for line in (ROOT / file).read_text().splitlines()]


@pytest.mark.parametrize(
    ("extra", "platform", "expected"),
    [
        ("", "linux", {"backports-zstd", "inotify-simple", "isal", "jeepney", "psycopg", "uvloop"}),
        ("agent", "linux", {"backports-zstd", "inotify-simple", "isal", "jeepney", "uvloop"}),
        ("proxy", "linux", {"psycopg", "uvloop"}),
        ("", "sunos5", set()),
        ("agent", "sunos5", set()),
        ("proxy", "sunos5", set()),
    ],
)
def test_what_linux_alone_has_is_asked_for_there_and_by_who_needs_it(extra, platform, expected):
    asked = {
        item.name
        for item in requirements(extra)
        if item.marker is None or item.marker.evaluate({"sys_platform": platform})
    }
    assert asked & {"backports-zstd", "inotify-simple", "isal", "jeepney", "psycopg", "uvloop"} == expected
    assert extra or {"cffi", "PyYAML", "prometheus-client", "httptools"} <= asked


def test_every_file_of_requirements_is_locked_and_comes_with_the_source():
    files = {f"requirements/{name}.in" for name in ("runtime", "agent", "proxy")}
    manifest = (ROOT / "MANIFEST.in").read_text()
    for file in files:
        assert file in manifest or "recursive-include requirements *.in" in manifest
        names = [Requirement(line).name for line in (ROOT / file).read_text().splitlines()]
        for lock in ("runtime.txt", "dev.txt"):
            locked = (ROOT / "requirements" / lock).read_text().lower()
            assert [name for name in names if f"\n{name.lower()}==" not in f"\n{locked}"] == []
