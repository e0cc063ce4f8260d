"""Draws docs/data-path.svg: ``python docs/data_path.py > docs/data-path.svg``."""

from __future__ import annotations

import sys
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 150, 58
GAP_X, GAP_Y = 34, 56
MARGIN = 20

TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
)


class Box(NamedTuple):
    """A box of the picture. column, row: its place. lines: the name, then what it is."""

    column: int
    row: int
    lines: tuple[str, ...]
    native: bool = False


BOXES = {
    "kernel": Box(0, 0, ("kernel", "cgroup files, /proc,", "netlink, kstat")),
    "readers": Box(1, 0, ("readers", "native/linux, illumos", "threads without the GIL"), True),
    "tables": Box(2, 0, ("tables", "native/core/table", "int64 cells, presence bits"), True),
    "renderer": Box(3, 0, ("renderer", "native/core/render", "text, OpenMetrics"), True),
    "server": Box(4, 0, ("server", "pymon/service", "lends the body")),
    "catalogue": Box(3, 1, ("catalogue", "names, types, units", "rows of data")),
    "registry": Box(1, 1, ("registry", "pymon/agent", "which rows there are")),
    "runtimes": Box(0, 1, ("runtimes", "pymon/containers", "names, labels, owners")),
    "inventory": Box(2, 1, ("inventory", "/v1/containers", "JSON, long poll")),
    "poller": Box(2, 2, ("poller, claims, fleet", "pymon/proxy", "who has which UUID")),
    "web": Box(3, 2, ("proxy's routes", "pymon/proxy/web", "who may have what")),
    "relay": Box(4, 2, ("relay", "pymon/proxy/relay", "turns, one exchange")),
    "directory": Box(1, 2, ("directory", "SQLite, PostgreSQL", "accounts, nodes")),
    "dns": Box(2, 3, ("dns", "pymon/dns, native/dns", "server, registration")),
}

ARROWS = (
    ("kernel", "readers"),
    ("readers", "tables"),
    ("tables", "renderer"),
    ("renderer", "server"),
    ("catalogue", "renderer"),
    ("runtimes", "registry"),
    ("registry", "readers"),
    ("registry", "inventory"),
    ("inventory", "poller"),
    ("poller", "web"),
    ("web", "relay"),
    ("relay", "server"),
    ("directory", "poller"),
    ("poller", "dns"),
)


def corner(box: Box) -> tuple[int, int]:
    """The upper left corner of a box."""
    return MARGIN + box.column * (WIDTH + GAP_X), MARGIN + box.row * (HEIGHT + GAP_Y)


def ends(one: Box, other: Box) -> tuple[int, int, int, int]:
    """Where an arrow leaves one box and meets the other."""
    (x1, y1), (x2, y2) = corner(one), corner(other)
    if one.row != other.row:
        down = other.row > one.row
        return x1 + WIDTH // 2, y1 + HEIGHT * down, x2 + WIDTH // 2, y2 + HEIGHT * (not down)
    right = other.column > one.column
    return x1 + WIDTH * right, y1 + HEIGHT // 2, x2 + WIDTH * (not right), y2 + HEIGHT // 2


def draw() -> str:
    """The picture as SVG."""
    columns = 1 + max(box.column for box in BOXES.values())
    rows = 1 + max(box.row for box in BOXES.values())
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP_X
    height = 2 * MARGIN + rows * HEIGHT + (rows - 1) * GAP_Y
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        TIP,
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for start, end in ARROWS:
        x1, y1, x2, y2 = ends(BOXES[start], BOXES[end])
        parts.append(f'<path d="M{x1} {y1}L{x2} {y2}" stroke="#555" fill="none" marker-end="url(#tip)"/>')
    for box in BOXES.values():
        x, y = corner(box)
        fill = "#dbeafe" if box.native else "#f3f4f6"
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="{fill}" stroke="#555"/>')
        for number, line in enumerate(box.lines):
            weight, size = ("bold", 13) if number == 0 else ("normal", 11)
            parts.append(
                f'<text x="{x + WIDTH // 2}" y="{y + 19 + 15 * number}" text-anchor="middle" '
                f'font-size="{size}" font-weight="{weight}">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.stdout.write(draw())
