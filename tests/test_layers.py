"""Who may import whom. Any edge that the tables below do not name is a failure."""

import ast
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    # part            parts of pymon                                             packages from outside
    "_native":       ("",                                                        "typing_extensions"),  # its stubs only
    "config":        ("yaml_document",                                           ""),
    "yaml_document": ("",                                                        "yaml"),
    "log":           ("config",                                                  ""),
    "peer":          ("",                                                        ""),
    "token_bucket":  ("",                                                        ""),
    "uuid_name":     ("",                                                        ""),
    "whole_file":    ("",                                                        ""),
    "host_address":  ("",                                                        ""),
    "data_dir":      ("config",                                                  ""),
    "data_lock":     ("",                                                        ""),
    "service_labels": ("config",                                                 ""),
    "inventory_document": ("app_labels",                                        "msgspec"),
    "app_labels":    ("",                                                        ""),
    "account_name":  ("",                                                        ""),
    "dns_label":     ("config",                                                  ""),
    "catalogue":     ("",                                                        ""),
    "sources":       (("_native catalogue.model catalogue.zfs_fields catalogue.cgroup_fields catalogue.program_fields"
                       " catalogue.kstat_fields catalogue.latency"), "inotify_simple jeepney"),
    "exposition":    ("_native catalogue",                  "backports compression isal prometheus_client"),
    "containers":    ("account_name app_labels uuid_name",                       "h2 httptools jeepney msgspec"),
    "apps":          ("app_labels service.http1 sources.addresses",              "msgspec"),
    "plugins":       ("config exposition sources",                               ""),
    "directory":     ("account_name config dns_label whole_file",                "bcrypt cryptography psycopg"),
    "service":       ("config exposition.negotiation peer",                     "bcrypt cryptography httptools uvloop"),
    "summary_document": ("",                                                    ""),
    "web":           ("exposition service",                                      ""),
    "top":           ("",                                                "aiohttp cryptography msgspec rich textual"),
    "agent":         (("_native apps catalogue config containers data_dir exposition inventory_document plugins service"
                       " sources summary_document token_bucket web whole_file"),
                      "cryptography msgspec"),
    "proxy":         (("_native config data_dir directory exposition host_address inventory_document log peer"
                       " service service_labels summary_document token_bucket uuid_name web whole_file"),
                      "aiohttp cryptography msgspec"),
    "dns":           (("_native config directory dns_label host_address inventory_document peer service_labels"
                       " token_bucket"),
                      "dns msgspec"),
    "front":         ("config directory dns dns_label exposition log proxy service",     ""),
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


def of_part(path: str) -> str:
    package = Path(path).parent.parts
    return package[1] if len(package) > 1 else Path(path).stem


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_no_permission_is_without_use(part):
    found = {
        module
        for path in python_files()
        if of_part(path) == part
        for module in imports((ROOT / path).read_text(), ".".join(Path(path).parent.parts))
    }
    inside, outside = (set(names.split()) - {"*"} for names in MAY_IMPORT[part])
    used = {name for name in inside if any(f"{module}.".startswith(f"pymon.{name}.") for module in found)}
    assert inside - used == set()
    assert outside - {module.partition(".")[0] for module in found} == set()


def test_the_map_names_every_part():
    text = (ROOT / "docs/development.md").read_text()
    parts = {f"pymon/{part}" for part in MAY_IMPORT if (ROOT / "pymon" / part).is_dir()} - {"pymon/_native"}
    parts |= {str(path.relative_to(ROOT)) for path in ROOT.glob("native/*/") if path.name != "tests"}
    assert [part for part in sorted(parts) if f"`{part}`" not in text] == []


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
        ("front", "from pymon.cli import up", "pymon.cli"),
        ("proxy", "from pymon.front.names import Names", "pymon.front"),
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


# --- what illumos has not is imported where it is used ---

LINUX_ALONE = {"backports", *"h2 inotify_simple isal jeepney psycopg uvloop".split()} | {
    f"pymon._native.{name}" for name in "bpf readers responder".split()
}
RUN_ON_ILLUMOS = """
pymon.cli pymon.cli.agent pymon.cli.check_config pymon.cli.collect pymon.cli.containers pymon.cli.doctor
pymon.cli.doctor_zones pymon.agent.build_zones
"""


def at_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The imports that happen when a module is, but those that it can do without."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            yield from at_import([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            caught = {ast.unparse(handler.type) for handler in node.handlers if handler.type}
            yield from at_import([*([] if "ImportError" in caught else node.body), *node.orelse, *node.finalbody])


def needs(module: str) -> set[str]:
    """What a module of pymon's imports when it is imported, with the packages above."""
    path = ROOT.joinpath(*module.split("."))
    is_package = path.is_dir()
    file = path / "__init__.py" if is_package else path.with_suffix(".py")
    above = {module.rpartition(".")[0]} - {""}
    if not file.exists():  # compiled
        return above
    package = module if is_package else module.rpartition(".")[0]
    nodes = at_import(ast.parse(file.read_text()).body)
    return above | {name for node in nodes for name in imports(ast.unparse(node), package)}


def way_to_linux(start: str) -> list[str] | None:
    """Modules from this one to one that Linux alone has, by imports that happen when each is imported."""
    ways = {start: [start]}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for name in needs(module):
            if name in LINUX_ALONE or name.partition(".")[0] in LINUX_ALONE:
                return [*ways[module], name]
            if name.startswith("pymon") and name not in ways:
                ways[name] = [*ways[module], name]
                waiting.append(name)
    return None


# pymon.sources.node imports the modules of its package by name.
NODE_COLLECTORS = sorted(f"pymon.sources.node.{path.stem}" for path in ROOT.glob("pymon/sources/node/[a-z]*.py"))


@pytest.mark.parametrize("module", [*RUN_ON_ILLUMOS.split(), *NODE_COLLECTORS])
def test_what_runs_on_illumos_needs_nothing_that_linux_alone_has(module):
    assert way_to_linux(module) is None


@pytest.mark.parametrize(
    ("module", "last"),
    [
        ("pymon.sources.tree", "inotify_simple"),
        ("pymon.agent.build_cgroups", ""),
        ("pymon.dns.server", "pymon._native.responder"),
        ("pymon.directory.postgres", "psycopg"),
    ],
)
def test_a_way_to_what_linux_alone_has_is_seen(module, last):
    assert way_to_linux(module)[-1].startswith(last)


# --- only the public interface of what is not ours ---

MAY_SUBCLASS = set(
    """
abc.ABC argparse.ArgumentParser argparse.HelpFormatter asyncio.BufferedProtocol asyncio.DatagramProtocol
asyncio.Protocol collections.abc.ItemsView dns.exception.DNSException enum.Enum enum.IntEnum enum.StrEnum
logging.Formatter msgspec.Struct prometheus_client.registry.Collector ssl.SSLObject textual.app.App
textual.widget.Widget typing.Generic typing.NamedTuple
typing.Protocol
yaml.SafeLoader
""".split()
)
"""Classes from outside whose documents offer them as bases."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def names_of_ours(trees: Iterable[ast.Module]) -> set[str]:
    """Names that something in pymon defines or assigns, the fields of its classes among them."""
    found: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def from_outside(tree: ast.Module) -> dict[str, str]:
    """What the names that a module imports from other packages than pymon stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:  # without `as`, the name is that of the package
                top = one.name.partition(".")[0]
                found |= {one.asname: one.name} if one.asname else {top: top, one.name: one.name}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    return {name: module for name, module in found.items() if module.partition(".")[0] != "pymon"}


def private_uses(tree: ast.Module, ours: set[str]) -> Iterator[str]:
    """Uses of a private name of a library, and subclasses of a class that is not for that."""
    outside = from_outside(tree)
    yield from (f"import of {module}" for module in outside.values() if any(map(is_private, module.split(".")[1:])))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours:
            yield f"line {node.lineno}: {node.attr}"
        if not isinstance(node, ast.ClassDef):
            continue
        for base in node.bases:
            top, *rest = ast.unparse(base.value if isinstance(base, ast.Subscript) else base).split(".")
            if top not in outside:
                continue
            name = ".".join([outside[top], *rest])
            if name not in MAY_SUBCLASS:
                yield f"line {node.lineno}: {node.name} is a subclass of {name}"
                continue
            known = pkgutil.resolve_name(name)
            yield from (
                f"line {node.lineno}: {node.name} overrides {member} of {name}"
                for member in names_of_ours([ast.Module(node.body, [])])
                if is_private(member) and hasattr(known, member)
            )


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    return {path: ast.parse((ROOT / path).read_text()) for path in python_files() if path.endswith(".py")}


def test_only_the_public_interface_of_libraries_is_used(trees):
    documented = {"_asdict", "_fields", "_make", "_replace", "_exit"}  # of a NamedTuple, and of os
    ours = names_of_ours(trees.values()) | documented
    wrong = [f"{path}: {use}" for path, tree in trees.items() for use in private_uses(tree, ours)]
    assert wrong == []


@pytest.mark.parametrize(
    "source",
    [
        "import aiohttp\nconnection._resume_reading_for_buffer()",
        "from aiohttp import web\nclass Connection(web.RequestHandler): pass",
        "import aiohttp.web as web\nclass Server(web.Server): pass",
        "from asyncio import _set_running_loop",
        "import uvloop._noop",
        "import argparse\nclass Formatter(argparse.HelpFormatter):\n    def _split_lines(self): pass",
    ],
)
def test_a_private_use_is_seen(source):
    assert list(private_uses(ast.parse(source), set()))


@pytest.mark.parametrize("path", sorted(ROOT.glob("native/core/*.[ch]")), ids=lambda path: path.name)
def test_native_core_depends_on_nothing(path):
    for bracket, header in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(), re.MULTILINE):
        if bracket == "<":
            assert header.removesuffix(".h") in C11_HEADERS.split()
        else:
            assert (path.parent / header).is_file(), f'"{header}" is not in native/core'


def included(path: Path) -> Iterator[str]:
    """The files of native that a C file includes, less their suffix."""
    yield from re.findall(r'^\s*#\s*include\s*"([^"]+)\.h"', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("part", ["bpf", "core", "dns", "illumos", "linux"])
def test_native_files_call_one_way(part):
    """Each C file has its own header, and no circle of them include one another: so none call one another either.

    But what the kernel runs, which nobody calls.
    """
    files = [path for path in ROOT.glob(f"native/{part}/*.[ch]") if not path.name.endswith(".bpf.c")]
    names = {path.stem for path in files}
    assert sorted(path.stem for path in files if path.suffix == ".c" and not path.with_suffix(".h").exists()) == []
    edges = {name: set[str]() for name in names}
    for path in files:
        edges[path.stem] |= {name for name in included(path) if name in names and name != path.stem}
    while free := [name for name, others in edges.items() if not others & edges.keys()]:
        for name in free:
            del edges[name]
    assert edges == {}, "these include one another"


def declared(path: Path) -> set[str]:
    return set(re.findall(r"^[a-z][\w *]*\b(pm_\w+)\([^;{]*\);", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize(
    "path",
    sorted(path for part in ("bpf", "core", "illumos", "linux") for path in ROOT.glob(f"native/{part}/*.h")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_a_native_header_declares_what_its_file_defines(path):
    source = path.with_suffix(".c")
    text = source.read_text() if source.exists() else ""
    defined = set(re.findall(r"^[a-z][\w *]*\b(pm_\w+)\([^;{]*\)\n\{", text, re.MULTILINE))
    assert sorted(declared(path) - defined) == []
