"""docs/configuration.md is what the tables of options say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_the_page_is_current() -> None:
    made = subprocess.run(
        [sys.executable, "docs/configuration.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    page = REPOSITORY / "docs" / "configuration.md"
    assert page.read_text() == made.stdout, "not current: make docs"
