"""Directories of text files with metrics, as node_exporter's collector of that name reads them.

Files called ``*.prom`` are in the text format 0.0.4, without time stamps; who writes them renames them into place. A
file that is not as it should be is left out, and no other. Within a family of a file every line has the same labels:
those it lacks are empty. Between files, the first help and type of a family stand, and series under another are left
out. node_exporter's files may block it (a named pipe) or bring it down (a label ``__x``); here they are bad files.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pymon.exposition.families import ExpositionError, Family, Labels, Sample, parse_text
from pymon.sources.errors import SourceError
from pymon.sources.node.source import NodeSource

MAX_FILE_BYTES = 16 << 20


class Textfile(NodeSource):
    """Reads directories, which may be patterns. After `collect`, `families` is what they held."""

    name: ClassVar[str] = "textfile"

    def __init__(self, directories: Sequence[str]) -> None:
        super().__init__(())
        self.families: list[Family] = []
        self._directories = tuple(directories)

    def collect(self) -> None:
        """Read the directories anew. What cannot be read is in `problems`."""
        self.problems.clear()
        self._fill()

    def _fill(self) -> None:
        read: list[tuple[Path, list[Family]]] = []
        modified: dict[str, int] = {}
        failed = False
        for directory in self._matching():
            try:
                paths = sorted(path for path in directory.iterdir() if path.name.endswith(".prom"))
            except OSError as error:
                self.problems.append(SourceError.from_os_error(directory, error))
                failed = True
                continue
            for path in paths:
                try:
                    families, modified_seconds = _read(path)
                except SourceError as error:
                    self.problems.append(error)
                    failed = True
                else:
                    read.append((path, families))
                    modified[str(path)] = modified_seconds
        self.families = [*self._merged(read), *_status(modified, failed=failed)]

    def _matching(self) -> list[Path]:
        """The directories of all patterns; a pattern that matches nothing is taken as a directory's name."""
        found: list[str] = []
        for pattern in self._directories:
            # Go negates a class with ^.
            matches = sorted(glob.glob(pattern.replace("[^", "[!"), include_hidden=True))  # noqa: PTH207
            found += matches or [pattern]
        return [Path(name) for name in found]

    def _merged(self, read: Sequence[tuple[Path, list[Family]]]) -> list[Family]:
        """Families by name: those of later files that do not agree with the first are left out."""
        sources: dict[str, list[str]] = {}
        for path, families in read:
            for family in families:
                sources.setdefault(family.name, []).append(str(path))
        first: dict[str, Family] = {}
        samples: dict[str, dict[tuple[str, Labels], Sample]] = {}
        for path, families in read:
            for family in families:
                if family.name in _OWN:
                    self.problems.append(SourceError("duplicate", f"{path}: {family.name}: this name is pymon's"))
                    continue
                help = family.help if family.help is not None else f"Metric read from {', '.join(sources[family.name])}"
                known = first.setdefault(family.name, family._replace(help=help))
                if (known.kind, known.help) != (family.kind, help):
                    what = "type" if known.kind != family.kind else "help"
                    problem = f"{path}: {family.name}: expected the {what} that the family has elsewhere"
                    self.problems.append(SourceError(what, problem))
                    continue
                series = samples.setdefault(family.name, {})
                for sample in family.samples:
                    if series.setdefault((sample.suffix, sample.labels), sample) is not sample:
                        labels = ", ".join(f"{name}={value!a}" for name, value in sample.labels)
                        text = f"{path}: {family.name}{sample.suffix}: {{{labels}}} was there before"
                        self.problems.append(SourceError("duplicate", text))
        return [family._replace(samples=tuple(samples[name].values())) for name, family in first.items()]


def _read(path: Path) -> tuple[list[Family], int]:
    """The families of a file and the second it was modified in. SourceError."""
    try:
        # Opening a named pipe would wait for its writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SourceError("type", f"{path}: expected a file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError.from_os_error(path, error) from None
    if len(data) > MAX_FILE_BYTES:
        raise SourceError("size", f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    try:
        families = parse_text(data)
    except ExpositionError as error:
        raise SourceError("parse", f"{path}: {error}") from None
    return [_even(family) for family in families], status.st_mtime_ns // 1_000_000_000


_BOUNDS = {"histogram": "le", "summary": "quantile"}


def _even(family: Family) -> Family:
    """The family with the same labels in each line, by name; what bounds a bucket or a quantile is not one of them."""
    bound = _BOUNDS.get(family.kind)
    names = sorted({name for sample in family.samples for name, _ in sample.labels if name != bound})
    samples = []
    for sample in family.samples:
        labels = dict(sample.labels)
        even = [(name, labels.get(name, "")) for name in names]
        if bound in labels:
            even.append((bound, labels[bound]))
        samples.append(sample._replace(labels=tuple(even)))
    return family._replace(samples=tuple(samples))


_MTIME = "node_textfile_mtime_seconds"
_ERROR = "node_textfile_scrape_error"
_OWN = (_MTIME, _ERROR)


def _status(modified: dict[str, int], *, failed: bool) -> list[Family]:
    files = tuple(Sample("", (("file", path),), str(seconds)) for path, seconds in sorted(modified.items()))
    mtime = Family(_MTIME, "gauge", "Unixtime mtime of textfiles successfully read.", files)
    help = "1 if there was an error opening or reading a file, 0 otherwise"
    return [
        *([mtime] if files else []),
        Family(_ERROR, "gauge", help, (Sample("", (), str(int(failed))),)),
    ]
