"""Writes the manual pages of pymon and of its commands: ``python docs/man.py DIRECTORY``."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pymon
from pymon.cli.grammar import STANDARD_FLAGS, Command, commands
from pymon.config import BOOL, Option

_ABOUT = "measures containers from outside, and lets each tenant read the metrics of his own"

_MOST_CHOICES = 40
"""Characters of the longest choice that is told in the line of its option."""

_EXIT = """\
.SH EXIT STATUS
0: done. 1: failed. 2: wrong usage or configuration. 130: interrupted.
"""

_SETTINGS = """\
.SH ENVIRONMENT
Each option is also an environment variable: \\fB\\-\\-log.level\\fR is \\fBPYMON_LOG_LEVEL\\fR.
Items of a list are separated by commas.
Flags win over variables, and variables over the file of \\fB\\-\\-config.file\\fR where a command has one.
"""


def escaped(text: str) -> str:
    """Return text for the body of a page. Quotes and dashes stay as they are typed."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    text = text.replace("~", "\\(ti").replace("`", "\\(ga")
    text = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text)
    return f"\\&{text}" if text.startswith(".") else text


def day() -> str:
    """Return the date of the pages: today, or that of SOURCE_DATE_EPOCH."""
    return time.strftime("%Y-%m-%d", time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))))


def options(rows: Iterable[Option]) -> Iterator[str]:
    """Yield the lines about options and the standard flags."""
    for row in rows:
        if row.file_only:
            yield f".TP\n\\fB{escaped(row.name)}\\fR (in the configuration file only)\n{escaped(row.help)}"
            continue
        value = "|".join(map(str, row.choices)) if row.choices else row.kind.metavar
        words = ""
        if len(value) > _MOST_CHOICES:  # which would be a line without a place to break it
            value, words = "WORD", f" One of {', '.join(map(str, row.choices))}."
        no = f", \\fB\\-\\-no\\-{escaped(row.name)}\\fR" if row.kind is BOOL else ""
        shown = f"=\\fI{escaped(value)}\\fR" if row.kind is not BOOL else ""
        more = " Repeatable." if row.repeatable else ""
        if row.default not in (None, (), "") and row.kind is not BOOL:
            values = row.default if row.repeatable else (row.default,)
            more = f" Default: {', '.join(map(str, values))}.{more}"
        yield f".TP\n\\fB\\-\\-{escaped(row.name)}\\fR{shown}{no}\n{escaped(row.help + words + more)}"
    for flag, text in STANDARD_FLAGS.items():
        yield f".TP\n\\fB{escaped(flag)}\\fR\n{escaped(text)}"


def page(name: str, parts: Sequence[Command]) -> str:
    """Return the page of a command with its verbs."""
    first = parts[0]
    lines = [
        f'.TH {escaped(name.upper())} 1 "{day()}" "pymon {pymon.__version__}" "pymon"',
        f".SH NAME\n{escaped(name)} \\- {escaped(first.help or _ABOUT)}",
        ".SH SYNOPSIS",
    ]
    runs = [one for one in parts if one.options or one.arguments or not one.following]
    for number, one in enumerate(runs or parts):
        words = escaped(" ".join(("pymon", *one.words)))
        arguments = f" \\fI{escaped(one.arguments)}\\fR" if one.arguments else ""
        flags = " [\\fIFLAG\\fR ...]" if one.options else "" if one.words else " \\fICOMMAND\\fR [\\fIFLAG\\fR ...]"
        lines += [*([".br"] if number else []), f"\\fB{words}\\fR{arguments}{flags}"]
    if first.following:
        lines.append(".SH COMMANDS" if not first.words else ".SH VERBS")
        lines += [f".TP\n\\fB{escaped(word)}\\fR\n{escaped(help or word)}" for word, help in first.following.items()]
    for one in runs:
        if one.options:
            what = " ".join(one.words[1:])
            heading = f'.SH "OPTIONS OF {escaped(what.upper())}"' if what else ".SH OPTIONS"
            lines += [heading, *([f"{escaped(one.help)}"] if what else []), *options(one.options)]
    lines += [_EXIT.rstrip(), *([_SETTINGS.rstrip()] if any(one.options for one in runs) else [])]
    others = "pymon-agent(1), pymon-proxy(1), pymon-up(1)" if not first.words else "pymon(1)"
    links = re.sub(r"([a-z-]+)\(1\)", lambda found: f"\\fB{escaped(found[1])}\\fR(1)", others)
    return "\n".join([*lines, f".SH SEE ALSO\n{links}", ""])


def pages() -> dict[str, str]:
    """Return the pages by the names of their files."""
    by_name: dict[str, list[Command]] = {}
    for command in commands():
        by_name.setdefault("-".join(("pymon", *command.words[:1])), []).append(command)
    return {f"{name}.1": page(name, parts) for name, parts in by_name.items()}


def main(argv: Sequence[str]) -> int:
    """Write the pages. Return the exit code."""
    if len(argv) != 1:
        sys.stderr.write("usage: python docs/man.py DIRECTORY\n")
        return 2
    folder = Path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
