"""native/illumos as cffi shows it; native/cffi/kstat_build.py declares it, pymon/sources/kstat.py wraps it."""

from typing import Any

ffi: Any
lib: Any
