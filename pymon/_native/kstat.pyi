"""cffi bindings of native/illumos. native/cffi/kstat_build.py declares them, pymon/sources/kstat.py wraps them."""

from typing import Any

ffi: Any
lib: Any
