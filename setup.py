"""The compiled modules. Everything else about the package is in pyproject.toml."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

os.chdir(Path(__file__).parent)
CORE = sorted(str(path) for path in Path("native/core").glob("*.c"))
LINUX = sorted(str(path) for path in Path("native/linux").glob("*.c"))
DNS = sorted(str(path) for path in Path("native/dns").glob("*.c"))
HEADERS = sorted(str(path) for path in Path("native").glob("*/*.h"))
BUILD = Path("build/cython")

CFLAGS = [
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O3",
    "-fno-semantic-interposition",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
]
if os.environ.get("WERROR") == "1":
    CFLAGS.append("-Werror")


def extension(name: str, sources: list[str]) -> Extension:
    """The module `pymon._native.<name>` from its binding and the C files it calls."""
    return Extension(
        f"pymon._native.{name}",
        [f"native/cython/{name}.pyx", *sources],
        include_dirs=["native/core", "native/linux", "native/dns"],
        depends=HEADERS,
        extra_compile_args=CFLAGS,
    )


def package_view() -> str:
    """A folder where Cython finds `pymon._native.table` by its import name though the .pxd lies in native/cython."""
    view = BUILD / "include" / "pymon" / "_native"
    view.parent.mkdir(parents=True, exist_ok=True)
    if not view.is_symlink():
        view.symlink_to(os.path.relpath("native/cython", view.parent))
    return str(BUILD / "include")


EXTENSIONS = [
    extension("table", CORE),
    extension("renderer", CORE),
    extension("readers", CORE + LINUX),
    extension("tls", []),
    extension("responder", CORE + DNS),
]

setup(
    cffi_modules=["native/cffi/kstat_build.py:ffibuilder"],
    ext_modules=cythonize(
        EXTENSIONS,
        build_dir=str(BUILD),
        include_path=["native/cython", package_view()],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
    ),
)
