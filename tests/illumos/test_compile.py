"""The C of the agent as a compiler on illumos sees it, as far as one on Linux can tell: with headers like its own."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from cffi import FFI

ROOT = Path(__file__).parents[2]
INCLUDE = Path(__file__).parent / "include"
SOURCES = sorted(path for folder in ("core", "illumos") for path in (ROOT / "native" / folder).glob("*.c"))
BINDINGS = ("table", "renderer", "exposition", "documents", "tls")


def makefile_flags():
    """Flags that every C file is compiled with, without the folders of Linux' own parts."""
    text = (ROOT / "Makefile").read_text()
    flags = re.search(r"^CFLAGS := (.*)$", text, re.MULTILINE).group(1).split()
    return [flag for flag in flags if flag != "-g"]


def check(source, *flags):
    """What the compiler says of a C file, as one on illumos would."""
    command = ["cc", "-nostdinc", "-U__linux__", "-D__sun", "-D__SVR4", "-fsyntax-only", "-isystem", INCLUDE, *flags]
    found = subprocess.run([*command, source], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return found.stderr or ("" if found.returncode == 0 else f"exit code {found.returncode}")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_c_of_the_agent_compiles_with_headers_of_illumos(source):
    assert check(source, *makefile_flags()) == ""


def test_the_headers_are_strict_enough_to_find_what_was_wrong(tmp_path):
    flags = [flag for flag in makefile_flags() if flag != "-D__EXTENSIONS__"]
    assert "strdup" in check(ROOT / "native/core/keys.c", *flags)
    source = tmp_path / "wrong.c"
    for text, word in (
        ('#include "kstat_abi.h"\ntypedef long hrtime_t;\n', "hrtime_t"),
        ("#include <fcntl.h>\n", "fcntl.h"),
        ("#include <sys/inotify.h>\n", "inotify.h"),
    ):
        source.write_text(text)
        assert word in check(source, *makefile_flags())


@pytest.mark.parametrize("name", ["kstat", "zone"])
def test_a_header_of_the_system_is_not_hidden_by_one_of_ours(name, tmp_path):
    source = tmp_path / "asks.c"
    source.write_text(f"#include <{name}.h>\n#ifndef SYSTEM_{name.upper()}_H\n#error hidden\n#endif\nint x;\n")
    assert check(source, *makefile_flags()) == ""


def python_headers(folder):
    """Python's headers but for pyconfig.h, which is that of the platform."""
    for path in Path(sysconfig.get_path("include")).iterdir():
        if path.name != "pyconfig.h":
            (folder / path.name).symlink_to(path)
    return folder


def test_the_c_that_cffi_writes_compiles(tmp_path):
    namespace = {"__file__": str(ROOT / "native/cffi/kstat_build.py"), "__name__": "kstat_build"}
    exec(Path(namespace["__file__"]).read_text(), namespace)  # noqa: S102 - as setuptools does
    builder = namespace["ffibuilder"]
    assert isinstance(builder, FFI)
    source = tmp_path / "kstat.c"
    builder.emit_c_code(str(source))
    _, _, _, options = builder._assigned_source
    folders = [f"-I{folder}" for folder in options["include_dirs"]]
    headers = tmp_path / "python"
    headers.mkdir()
    python = ["-fno-canonical-system-headers", "-isystem", str(python_headers(headers))]
    flags = [flag for flag in makefile_flags() if not flag.startswith("-I")]
    assert check(source, *flags, *folders, *python) == ""


@pytest.mark.parametrize("name", BINDINGS)
def test_the_bindings_name_nothing_that_only_linux_has(name):
    """Cython's own C is Cython's; what ours brings in is the headers that it names."""
    text = "".join(path.read_text() for path in (ROOT / "native/cython").glob(f"{name}.p*"))
    named = set(re.findall(r'cdef extern from "([^"]+)"', text))
    ours = {path.name for path in (ROOT / "native/core").glob("*.h")}
    system = {str(path.relative_to(INCLUDE)) for path in INCLUDE.rglob("*.h")}
    assert {header.strip("<>") for header in named} <= ours | system | {"Python.h"}
    assert not re.search(r"cimport (linux|readers|responder)|from (posix|linux|dns)", text)


def test_no_header_here_came_from_somewhere_else():
    for path in INCLUDE.rglob("*.h"):
        assert not re.search(r"CDDL|Copyright|SPDX|licen[cs]e", path.read_text(), re.IGNORECASE), path
