"""The compiled modules. Everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

os.chdir(Path(__file__).parent)
CORE = sorted(str(path) for path in Path("native/core").glob("*.c"))
LINUX = sorted(str(path) for path in Path("native/linux").glob("*.c"))
DNS = sorted(str(path) for path in Path("native/dns").glob("*.c"))
BPF = Path("native/bpf")
BPF_CFLAGS = ["-target", "bpf", "-g", "-O2", "-Wall", "-Wextra"]  # -g: libbpf relocates by it
BPF_OBJECTS = {
    "cgroup.bpf.o": ["cgroup.bpf.c"],
    "cputime.bpf.o": ["cputime.bpf.c"],
    "cputime_before_6_16.bpf.o": ["cputime.bpf.c", "-DPYMON_BEFORE_6_16"],
    "processes.bpf.o": ["processes.bpf.c"],
    "latency.bpf.o": ["latency.bpf.c"],
}
# An object that is older than one of these is made again.
SHARED = ["setup.py", *sorted(str(path) for path in Path("native").glob("*/*.[hp]*"))]
BUILD = Path("build/cython")
OBJECTS = Path("build", f"objects-{sysconfig.get_platform()}-{sys.implementation.cache_tag}")

# __EXTENSIONS__ is to illumos what _GNU_SOURCE is to Linux.
CFLAGS = [
    *("-std=c11", "-D_GNU_SOURCE", "-D__EXTENSIONS__"),
    *("-fno-semantic-interposition", "-fvisibility=hidden", "-Wall", "-Wextra"),
]
if os.environ.get("WERROR") == "1":
    CFLAGS.append("-Werror")
# The work is done in native/; what binds it to Python is ten times as long and calls it.
OPTIMISED = [*CFLAGS, "-O3"]
BINDING = [*CFLAGS, "-O2", "-g0"]


def extension(name: str, sources: list[str]) -> Extension:
    """The module `pymon._native.<name>` from its binding and the C files it calls."""
    folders = sorted({str(Path(source).parent) for source in [*CORE, *sources]})
    return Extension(f"pymon._native.{name}", [f"native/cython/{name}.pyx", *sources], include_dirs=folders)


def package_view() -> str:
    """A folder where Cython finds `pymon._native.table` by its import name though the .pxd lies in native/cython."""
    view = BUILD / "include" / "pymon" / "_native"
    view.parent.mkdir(parents=True, exist_ok=True)
    if not view.is_symlink():
        view.symlink_to(os.path.relpath("native/cython", view.parent))
    return str(BUILD / "include")


def translated(module: Extension) -> list[str]:
    """The sources of a module with the C file that Cython makes of its binding."""
    made = cythonize(
        [Extension(module.name, module.sources, include_dirs=module.include_dirs)],
        build_dir=str(BUILD),
        include_path=["native/cython", package_view()],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False},
        quiet=True,
    )
    sources: list[str] = made[0].sources
    return sources


class BuildExt(build_ext):
    """Compiles each C file once, as many at a time as there are CPUs, and links each module from its objects.

    Objects stay in `OBJECTS`, so that a second build, of `pip install -e .` as well, compiles what has changed.
    """

    def run(self) -> None:
        """Make the modules, then what the kernel runs."""
        super().run()
        if sys.platform == "linux":
            self._bpf_objects()

    def build_extensions(self) -> None:
        """Compile, then link."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects: dict[str, Future[str]] = {}

            def compile_all(module: Extension) -> None:
                for source in module.sources:
                    if source.endswith(".c") and source not in objects:
                        objects[source] = pool.submit(self._object, source, module)

            # What needs no Cython comes first: it keeps the CPUs busy while Cython, which uses one, translates.
            for module in self.extensions:
                compile_all(module)
            for module in self.extensions:
                module.sources = translated(module)
                compile_all(module)
            for module in self.extensions:
                module.depends = module.extra_objects = [objects[source].result() for source in module.sources]
                module.sources = []
        super().build_extensions()

    def _bpf_objects(self) -> None:
        """Compile the programs that the kernel runs. Without clang there are none, and files are read instead."""
        folder = Path(self.get_ext_fullpath("pymon._native.bpf")).parent
        newest = max(path.stat().st_mtime for path in (Path("setup.py"), *BPF.glob("*.h"), *BPF.glob("*.bpf.c")))
        targets = {folder / name: source for name, source in BPF_OBJECTS.items()}
        if all(target.exists() and target.stat().st_mtime > newest for target in targets):
            return
        clang = shutil.which("clang")
        if clang is None:
            sys.stderr.write(f"{BPF}: not compiled, no clang: containers are read from files alone\n")
        for target, (source, *flags) in targets.items():
            target.unlink(missing_ok=True)
            if clang is None:
                continue
            headers = f"-I/usr/include/{sysconfig.get_config_var('MULTIARCH')}"  # clang for BPF does not look there
            command = [clang, *BPF_CFLAGS, headers, *flags, "-c", str(BPF / source), "-o", str(target)]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603 - the compiler
            if done.returncode:
                said = done.stderr.strip().splitlines() or [f"clang has ended with {done.returncode}"]
                sys.stderr.write(f"{BPF}: not compiled, {said[0]}: containers are read from files alone\n")
                clang = None

    def _object(self, source: str, module: Extension) -> str:
        # What cffi makes is made anew for each build, in the folder of that build.
        folder = str(OBJECTS) if source.startswith(("native", str(BUILD))) else self.build_temp
        made: str = self.compiler.object_filenames([source], output_dir=folder)[0]
        if not Path(made).exists() or Path(made).stat().st_mtime <= max(
            Path(needed).stat().st_mtime for needed in (source, *SHARED)
        ):
            self.compiler.compile(
                [source],
                output_dir=folder,
                macros=module.define_macros,
                include_dirs=module.include_dirs,
                extra_postargs=OPTIMISED if source.startswith("native") else BINDING,
            )
        return made


EXTENSIONS = [
    extension("table", CORE),
    extension("renderer", CORE),
    extension("peaks", CORE),
    extension("loads", CORE),
    extension("exposition", CORE),
    extension("tls", []),
    extension("documents", []),
]
if sys.platform == "linux":
    EXTENSIONS += [extension("readers", CORE + LINUX), extension("responder", CORE + DNS)]

CFFI = ["native/cffi/kstat_build.py:ffibuilder"]
if sys.platform == "linux":
    CFFI.append("native/cffi/bpf_build.py:ffibuilder")

setup(
    cffi_modules=CFFI,
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildExt},
)
