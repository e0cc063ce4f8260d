"""Expositions of other programs that are passed on: checked, and given further labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymon._native.exposition import Exposition, split_labels
from pymon.exposition.compile import label_block
from pymon.exposition.families import ExpositionError, raise_problem
from pymon.exposition.header import text_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEP_BYTES = 256 << 10
_AT_ONCE = 1024
"""Samples that are converted to objects in one native call, which holds the GIL."""


def checked(data: bytes, max_samples: int) -> Exposition:
    """Return the parsed text in format 0.0.4. Raises ExpositionError; more samples than `max_samples` are an error.

    Memory is bounded by the length of the text and the number of samples.
    """
    text = Exposition(data, allow_repeated=True)
    whole = False
    while not whole and text.sample_count <= max_samples:
        whole = text.run(_STEP_BYTES)
    if text.sample_count > max_samples:
        raise ExpositionError(f"expected at most {max_samples} samples")
    raise_problem(text)
    if text.repeated:
        raise ExpositionError(f"{_name_of(text, text.repeated[0])}: the same labels twice")
    return text


def _name_of(text: Exposition, sample: int) -> str:
    ((family, suffix, *_),) = text.samples(sample, sample + 1)
    return text.families(family, family + 1)[0][0].decode() + suffix


def with_labels(text: Exposition, labels: Sequence[tuple[str, str]]) -> bytes:
    """Return a checked text with labels in front of those of each sample, family by family.

    Own labels of a sample that have the name of one of these become exported_<name>, as in Prometheus.
    """
    front = label_block(labels)
    taken = frozenset(name.encode() for name, _ in labels)
    lines: list[list[bytes]] = [[] for _ in range(text.family_count)]
    heads = []
    for name, kind, help, *_ in text.families():
        heads.append((name, text_lines(name, kind, help)))
    for start in range(0, text.sample_count, _AT_ONCE):
        numbers = [family for family, *_ in text.samples(start, start + _AT_ONCE)]
        for family, (suffix, own, value) in zip(numbers, text.rows(start, start + _AT_ONCE), strict=True):
            rest = _renamed(own, taken) if any(name in own for name in taken) else own.strip()
            block = b",".join(filter(None, (front, rest)))
            lines[family].append(b"%b%b{%b} %b\n" % (heads[family][0], suffix, block, value))
    return b"".join(b"%b\n%b" % (head, b"".join(found)) for (_, head), found in zip(heads, lines, strict=True) if found)


def _renamed(own: bytes, taken: frozenset[bytes]) -> bytes:
    """Return the labels of a sample with other names for those that are taken."""
    pairs = split_labels(own)
    used = taken | {name for name, _ in pairs}
    found = []
    for name, value in pairs:
        free = name
        if name in taken:
            while free in used:
                free = b"exported_" + free
            used |= {free}
        found.append(free + b"=" + value)
    return b",".join(found)
