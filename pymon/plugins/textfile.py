"""The textfile collector: directories of files with metrics, as in node_exporter.

Files named ``*.prom`` are in the text format 0.0.4 without time stamps. Writers must rename them into place. A
malformed file is left out and does not affect others. Within a family of a file, all lines get the same labels; missing
ones are empty. If files disagree on the help or type of a family, the first one counts and the series of the others are
left out. Duplicate series are also left out. Both set ``node_textfile_scrape_error`` to 1. A named pipe, which blocks
node_exporter, and a label ``__x``, which crashes it, are malformed files here.
"""

from __future__ import annotations

import glob
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from pymon.exposition.families import ExpositionError, Family, Sample, SeriesKey, parse_text, series_key
from pymon.sources.errors import SourceError
from pymon.sources.node.source import NodeSource

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 16 << 20
MAX_EMPTY_LABELS = 1 << 20
"""Limit of the empty labels added to a family. If each line had other labels, their number would grow quadratically."""
_LABELS_SHOWN = 200
_LOGGED = 10
"""The number of problems of one collection that are logged one by one."""


class Textfile(NodeSource):
    """The collector. directories: paths or glob patterns. families: the content of the files after `collect`."""

    name: ClassVar[str] = "textfile"

    def __init__(self, directories: Sequence[str]) -> None:
        super().__init__(())
        self.families: list[Family] = []
        self._directories = tuple(directories)
        self._warned: frozenset[str] = frozenset()

    def collect(self) -> None:
        """Read the directories. Errors are added to `problems`, and new ones are logged."""
        self.problems.clear()
        self._fill()
        texts = [str(problem) for problem in self.problems]
        new = [text for text in texts if text not in self._warned]
        for text in new[:_LOGGED]:
            _log.warning("text file: %s", text)
        if len(new) > _LOGGED:
            _log.warning("text file: %d more problems", len(new) - _LOGGED)
        self._warned = frozenset(texts)

    def is_whole(self) -> bool:
        """Return True: `node_textfile_scrape_error` tells of files that are not as they should be."""
        return True

    def _fill(self) -> None:
        read: list[_File] = []
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
                    file = _read(path)
                except SourceError as error:
                    self.problems.append(error)
                    failed = True
                else:
                    read.append(file)
                    modified[str(path)] = file.modified_seconds
        families, whole = self._merged(read)
        self.families = [*families, *_status(modified, failed=failed or not whole)]

    def _matching(self) -> list[Path]:
        """Return the directories of all patterns. A pattern without a match is taken as the name of a directory."""
        found: list[str] = []
        for pattern in self._directories:
            # Patterns are those of Go, where [^...] negates a character class.
            matches = sorted(glob.glob(pattern.replace("[^", "[!"), include_hidden=True))  # noqa: PTH207
            found += matches or [pattern]
        return [Path(name) for name in found]

    def _merged(self, read: Sequence[_File]) -> tuple[list[Family], bool]:
        """Merge the families of all files. Returns them, and whether nothing was left out because of a conflict."""
        sources: dict[str, list[str]] = {}
        for file in read:
            for family in file.families:
                sources.setdefault(family.name, []).append(str(file.path))
        first: dict[str, Family] = {}
        samples: dict[str, dict[SeriesKey, Sample]] = {}
        left_out: list[SourceError] = []
        for file in read:
            for family in file.families:
                if family.name in _OWN:
                    self.problems.append(SourceError("duplicate", f"{file.path}: {family.name}: this name is pymon's"))
                    continue
                help = family.help if family.help is not None else f"Metric read from {', '.join(sources[family.name])}"
                known = first.setdefault(family.name, family._replace(help=help))
                if (known.kind, known.help) != (family.kind, help):
                    what = "type" if known.kind != family.kind else "help"
                    problem = f"{file.path}: {family.name}: expected the {what} that the family has elsewhere"
                    left_out.append(SourceError(what, problem))
                    continue
                series = samples.setdefault(family.name, {})
                repeated = file.repeated.get(family.name, [])
                repeated += [one for one in family.samples if series.setdefault(series_key(one), one) is not one]
                if repeated:
                    left_out.append(SourceError("duplicate", f"{file.path}: {_duplicates_text(family.name, repeated)}"))
        self.problems += left_out
        families = [family._replace(samples=tuple(samples[name].values())) for name, family in first.items()]
        return families, not left_out


class _File(NamedTuple):
    """The content of a file. repeated: family name -> samples that were left out as duplicates."""

    path: Path
    modified_seconds: int
    families: list[Family]
    repeated: dict[str, list[Sample]]


def _duplicates_text(name: str, repeated: Sequence[Sample]) -> str:
    """Return one line about duplicate series."""
    sample = repeated[0]
    labels = ", ".join(f"{label}={value!a}" for label, value in sample.labels)
    more = f", and {len(repeated) - 1} more" if len(repeated) > 1 else ""
    return f"{name}{sample.suffix}: {{{labels[:_LABELS_SHOWN]}}} was there before{more}"


def _read(path: Path) -> _File:
    """Read and parse a file. Raises SourceError."""
    try:
        # O_NONBLOCK, because opening a named pipe would otherwise wait for a writer.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SourceError("type", f"{path}: expected a file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError.from_os_error(path, error) from None
    if len(data) > MAX_FILE_BYTES:
        raise SourceError("size", f"{path}: expected at most {MAX_FILE_BYTES} bytes, got more")
    found: list[tuple[str, Sample]] = []
    try:
        families = [_with_equal_labels(family) for family in parse_text(data, found)]
    except ExpositionError as error:
        raise SourceError("parse", f"{path}: {error}") from None
    repeated: dict[str, list[Sample]] = {}
    for name, sample in found:
        repeated.setdefault(name, []).append(sample)
    return _File(path, status.st_mtime_ns // 1_000_000_000, families, repeated)


_BOUNDS = {"histogram": "le", "summary": "quantile"}


def _with_equal_labels(family: Family) -> Family:
    """Return the family with the same labels in each line, sorted by name, missing ones empty.

    The labels le of a histogram and quantile of a summary are kept as they are. Raises ExpositionError if more than
    `MAX_EMPTY_LABELS` would be added.
    """
    bound = _BOUNDS.get(family.kind)
    names = sorted({name for sample in family.samples for name, _ in sample.labels if name != bound})
    if len(names) * len(family.samples) - sum(len(one.labels) for one in family.samples) > MAX_EMPTY_LABELS:
        raise ExpositionError(f"{family.name}: expected the same labels in its lines, got {len(names)} different ones")
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
