"""``python without_linux.py ARGUMENT ...``: pymon in a process where what Linux alone has cannot be imported."""

import sys
from importlib.abc import MetaPathFinder

ABSENT = {
    "pymon._native.readers",
    "pymon._native.responder",
    "backports",
    "inotify_simple",
    "isal",
    "jeepney",
    "psycopg",
    "uvloop",
}


class Absent(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ABSENT or name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    from pymon.cli import main

    sys.exit(main(sys.argv[1:]))
