"""docs/security.md promises nothing without a test: each that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[^`:]+\.py)?(?:::(test_\w+))?`")


def named() -> list[tuple[str, str]]:
    """Files and functions, in the order of the text; a function without a file is of the file before it."""
    found: list[tuple[str, str]] = []
    for file, function in NAMED.findall(TEXT):
        found.append((file or found[-1][0], function))
    return found


def functions(file: str) -> set[str]:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    found = named()
    assert len(found) > 60
    there = {file: functions(file) for file, _ in found}
    assert [(file, function) for file, function in found if function and function not in there[file]] == []


def test_every_threat_names_a_test() -> None:
    begin, end = TEXT.index("\n## Agent\n"), TEXT.index("\n## Known limits\n")
    rows = [line for line in TEXT[begin:end].splitlines() if line.startswith("| ")]
    heads = {"| somebody |", "| a hostile node |", "| a compromised peer |", "| cannot |", "| what |"}
    missing = [row for row in rows if "`tests/" not in row and not row.startswith(tuple(heads))]
    assert missing == []
    assert len(rows) > 40
