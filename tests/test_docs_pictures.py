"""docs/pictures: every picture is shown in a document and small, and every one that is shown is there."""

from __future__ import annotations

import re
from itertools import combinations
from math import dist
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PICTURES = REPOSITORY / "docs/pictures"
MOST_BYTES = 150_000
LEAST_DISTANCE = 60.0
"""Between two colours, in the cube of red, green and blue from 0 to 255."""
SHOWN = re.compile(r"""(?:\]\(|src=|srcset=)"?((?:docs/)?pictures/[^)"]+)""")


def shown() -> set[Path]:
    documents = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    return {document.parent / name for document in documents for name in SHOWN.findall(document.read_text())}


def test_what_is_shown_is_there_and_what_is_there_is_shown() -> None:
    there = set(PICTURES.glob("*.png"))
    assert there
    assert shown() == there


def test_each_line_of_a_dashboard_has_a_colour_of_its_own() -> None:
    listed = re.search(r"COLOURS = \[(.*?)\]", (PICTURES / "dashboard.js").read_text(), re.DOTALL)
    assert listed is not None
    colours = [bytes.fromhex(colour) for colour in re.findall(r"#([0-9a-f]{6})", listed[1])]
    lines = len(re.findall(r"^    Actor\(", (PICTURES / "scene.py").read_text(), re.MULTILINE))
    assert len(colours) >= lines > 0
    near = [(one.hex(), other.hex()) for one, other in combinations(colours, 2) if dist(one, other) < LEAST_DISTANCE]
    assert near == []


def test_pictures_are_small() -> None:
    sizes = {file.name: file.stat().st_size for file in PICTURES.glob("*.png")}
    assert {name for name, size in sizes.items() if size > MOST_BYTES} == set()
