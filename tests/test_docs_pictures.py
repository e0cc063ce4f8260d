"""docs/pictures: every picture is shown in a document and small, and every one that is shown is there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs/pictures"
MOST_BYTES = 150_000
SHOWN = re.compile(r"""(?:\]\(|src=|srcset=)"?((?:docs/)?pictures/[^)"]+)""")


def shown() -> set[Path]:
    documents = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    return {document.parent / name for document in documents for name in SHOWN.findall(document.read_text())}


def test_what_is_shown_is_there_and_what_is_there_is_shown() -> None:
    there = set(PICTURES.glob("*.png"))
    assert there
    assert shown() == there


def test_pictures_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in PICTURES.glob("*.png")}
    assert {name for name, size in sizes.items() if size > MOST_BYTES} == set()
