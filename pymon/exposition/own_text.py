"""Expositions that this program has written as text, in the format that a client wants."""

from __future__ import annotations

from pymon._native.exposition import Exposition
from pymon.exposition.header import openmetrics2_lines, text_lines
from pymon.exposition.negotiation import Format


def in_format(text: bytes, form: Format, start_ms: int = 0) -> bytes:
    """Return an exposition without the last line that a format may have.

    text: in the text format 0.0.4, or in OpenMetrics where that is the format. A NUL, which a tenant may have put into
    a label and the parser refuses, becomes U+FFFD. start_ms: since when all of its counters, histograms and summaries
    count, in milliseconds since the epoch, for the formats that tell; 0: not known. ValueError: it is malformed.
    """
    if form is Format.PROTOBUF:
        return _parsed(text).protobuf(start_ms)
    if form is Format.OPENMETRICS_2_0_0:
        found = _parsed(text)
        heads = [openmetrics2_lines(name, kind, help) + b"\n" for name, kind, help, *_ in found.families()]
        return found.openmetrics2(heads, start_ms)
    return text


def openmetrics2_samples(name: bytes, kind: bytes, samples: bytes) -> bytes:
    """Return samples of a family in the text format 0.0.4 as those of OpenMetrics 2.0, without duplicates.

    Each begins with a line feed, before and after. The lines of a histogram or summary follow one another, and become
    one. ValueError: they are malformed.
    """
    found = _parsed(text_lines(name, kind, None) + samples + b"\n")
    return b"\n" + found.openmetrics2([b""])[:-1] if found.sample_count else b""


def _parsed(text: bytes) -> Exposition:
    found = Exposition(text.replace(b"\0", "\ufffd".encode()), allow_repeated=True)
    found.run()
    if found.problem:
        reason, line, *_ = found.problem
        raise ValueError(f"line {line} of an exposition: {reason}")
    return found
