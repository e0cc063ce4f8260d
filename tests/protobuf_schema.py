"""Schemas of protocol buffers, compiled when a test needs them."""

from __future__ import annotations

import importlib.util
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

from grpc_tools import protoc

_GOOGLE = Path(protoc.__file__).parent / "_proto"


@cache
def compiled(schema: Path) -> ModuleType:
    """The module that is made of a .proto file."""
    name = f"{schema.stem}_pb2"
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["protoc", f"-I{schema.parent}", f"-I{_GOOGLE}", f"--python_out={folder}", schema.name]
        assert protoc.main(arguments) == 0
        spec = importlib.util.spec_from_file_location(name, Path(folder) / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module
