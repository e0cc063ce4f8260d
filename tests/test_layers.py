"""Who may import whom. Any edge that the tables below do not name is a failure."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    # part            parts of pymon                                             packages from outside
    "_native":       ("",                                                        "typing_extensions"),  # its stubs only
    "config":        ("",                                                        "yaml"),
    "log":           ("",                                                        ""),
    "peer":          ("",                                                        ""),
    "token_bucket":  ("",                                                        ""),
    "services":      ("config",                                                  ""),
    "catalogue":     ("",                                                        ""),
    "sources":       (("_native catalogue.model catalogue.node_fields catalogue.cgroup_fields catalogue.program_fields"
                       " catalogue.kstat_fields"), "inotify_simple"),
    "exposition":    ("_native catalogue",                                       "isal"),
    "containers":    ("",                                                        "yaml"),
    "plugins":       ("config exposition sources",                               ""),
    "directory":     ("config",                                                  "bcrypt cryptography psycopg"),
    "web":           ("",                                                        ""),
    "service":       ("config peer",                                             "aiohttp bcrypt multidict uvloop"),
    "agent":         ("_native catalogue config containers exposition plugins service sources token_bucket web",
                      "aiohttp bcrypt cryptography prometheus_client uvloop yaml"),
    "proxy":         ("_native config directory exposition peer service services token_bucket web",
                      "aiohttp cryptography httptools msgspec multidict prometheus_client uvloop"),
    "dns":           ("_native config directory peer services token_bucket",     "cryptography dns msgspec uvloop"),
    "cli":           ("*",                                                       "*"),
    "__main__":      ("cli",                                                     ""),
}  # fmt: skip

KNOW_NOTHING_OF_HTTP = {"_native", "catalogue", "exposition", "sources"}
HTTP = {"asyncio", "http", "socketserver", "ssl", "urllib", "wsgiref"}

C11_HEADERS = """
assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic stdbool
stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype
"""


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return (
        name.removeprefix("pymon.") in MAY_IMPORT
        or path.is_dir()
        or any(path.with_suffix(suffix).exists() for suffix in (".py", ".pyi"))
    )


def imports(source: str, package: str) -> Iterator[str]:
    """The modules that the source of a module in `package` imports, by full name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield name if module.startswith("pymon") and is_module(name) else module


def forbidden(part: str, module: str) -> bool:
    """Whether a module of this part of pymon may not import that module."""
    inside, outside = (set(names.split()) for names in MAY_IMPORT[part])
    top, _, rest = module.partition(".")
    if top == "pymon":
        allowed = inside | {part}
        return rest != "" and "*" not in allowed and not any(f"{rest}.".startswith(f"{name}.") for name in allowed)
    if top in sys.stdlib_module_names:
        return part in KNOW_NOTHING_OF_HTTP and top in HTTP
    return "*" not in outside and top not in outside


def python_files() -> list[str]:
    paths = [*ROOT.glob("pymon/**/*.py"), *ROOT.glob("pymon/**/*.pyi")]
    return sorted(str(path.relative_to(ROOT)) for path in paths)


@pytest.mark.parametrize("path", python_files())
def test_imports(path):
    package = Path(path).parent.parts
    part = package[1] if len(package) > 1 else Path(path).stem
    found = set(imports((ROOT / path).read_text(), ".".join(package)))
    if part == "__init__":
        assert not found, "pymon itself imports nothing"
        return
    assert part in MAY_IMPORT, f"{part} is not in the table of allowed imports"
    wrong = sorted(module for module in found if forbidden(part, module))
    assert not wrong, f"{path} may not import {', '.join(wrong)}"


@pytest.mark.parametrize(
    ("part", "source", "edge"),
    [
        ("agent", "from pymon.proxy.routing import Route", "pymon.proxy.routing"),
        ("agent", "from ..proxy import routing", "pymon.proxy"),
        ("proxy", "from pymon import dns", "pymon.dns"),
        ("dns", "def late():\n    import pymon.agent", "pymon.agent"),
        ("sources", "from pymon.catalogue import cadvisor", "pymon.catalogue"),
        ("sources", "import aiohttp.web", "aiohttp.web"),
        ("exposition", "import http.client", "http.client"),
        ("containers", "from pymon.config import load", "pymon.config"),
        ("_native", "from pymon.catalogue.model import Unit", "pymon.catalogue.model"),
    ],
)
def test_a_wrong_edge_is_seen(part, source, edge):
    wrong = [module for module in imports(source, f"pymon.{part}") if forbidden(part, module)]
    assert [module for module in wrong if f"{module}.".startswith(f"{edge}.")]


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("agent", "from pymon.sources.cgroup import CgroupSource"),
        ("agent", "from . import web"),
        ("sources", "from pymon.catalogue.model import Column"),
        ("sources", "from pymon import __version__"),
        ("cli", "import aiohttp, pymon.agent, pymon.proxy"),
    ],
)
def test_an_allowed_edge_passes(part, source):
    assert not [module for module in imports(source, f"pymon.{part}") if forbidden(part, module)]


@pytest.mark.parametrize("path", sorted(ROOT.glob("native/core/*.[ch]")), ids=lambda path: path.name)
def test_native_core_depends_on_nothing(path):
    for bracket, header in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.MULTILINE):
        if bracket == "<":
            assert header.removesuffix(".h") in C11_HEADERS.split()
        else:
            assert (path.parent / header).is_file(), f'"{header}" is not in native/core'
