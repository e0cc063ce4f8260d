"""cffi bindings of native/bpf. native/cffi/bpf_build.py declares them, pymon/sources/bpf.py wraps them."""

from typing import Any

ffi: Any
lib: Any
