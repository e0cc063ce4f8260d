"""What an exposition in OpenMetrics has otherwise than the same one in the text format."""

from __future__ import annotations

import difflib
import re


def type_first(exposition: str) -> list[str]:
    """The lines of the text format in the order of OpenMetrics: the TYPE of a family before its HELP."""
    lines = exposition.splitlines()
    for at in range(1, len(lines)):
        if lines[at - 1].startswith("# HELP ") and lines[at].startswith("# TYPE "):
            lines[at - 1], lines[at] = lines[at], lines[at - 1]
    return lines


def changed_lines(text: str, openmetrics: str) -> str:
    """The lines that differ: those of the text format behind a minus sign, those of OpenMetrics behind a plus sign."""
    difference = difflib.unified_diff(type_first(text), openmetrics.splitlines(), n=0, lineterm="")
    return "".join(f"{line}\n" for line in difference if re.match(r"[-+](?!--|\+\+)", line))
