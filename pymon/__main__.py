"""``python -m pymon``."""

import sys

from pymon.cli import main

if __name__ == "__main__":
    sys.exit(main())
