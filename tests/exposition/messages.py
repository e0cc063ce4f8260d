"""Expositions in protocol buffers as the compiled schema reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.protobuf_schema import compiled

Series = tuple[str, frozenset[tuple[str, str]]]

_SCHEMA = Path(__file__).parent / "metrics.proto"


def schema() -> ModuleType:
    """The module that is made of metrics.proto."""
    return compiled(_SCHEMA)


def families(body: bytes) -> Iterator[Any]:
    """The messages of a body. Each has to be what its own writer would have written, without unknown fields."""
    at = 0
    while at < len(body):
        length = shift = 0
        while True:
            byte = body[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                assert byte or shift == 7, "the shortest form of the length"
                break
        message = schema().MetricFamily.FromString(body[at : at + length])
        assert message.ByteSize() == length, "fields that the schema does not have"
        message.DiscardUnknownFields()
        assert message.ByteSize() == length, "fields that the schema does not have"
        yield message
        at += length
    assert at == len(body)


def series(body: bytes) -> dict[Series, float]:
    """Every series as Prometheus makes them of messages, each once."""
    found: dict[Series, float] = {}
    for family in families(body):
        for metric in family.metric:
            labels = {label.name: label.value for label in metric.label}
            assert len(labels) == len(metric.label)
            for suffix, more, value in _samples(family, metric):
                key = family.name + suffix, frozenset((labels | more).items())
                assert key not in found, key
                found[key] = value
    return found


def _samples(family: Any, metric: Any) -> Iterator[tuple[str, dict[str, str], float]]:
    kind = schema().MetricType.Name(family.type).lower()
    assert metric.HasField(kind)
    told = getattr(metric, kind)
    if kind == "histogram":
        for bucket in told.bucket:
            count = bucket.cumulative_count_float or bucket.cumulative_count
            yield "_bucket", {"le": repr(bucket.upper_bound)}, float(count)
        yield "_sum", {}, told.sample_sum
        yield "_count", {}, float(told.sample_count_float or told.sample_count)
    elif kind == "summary":
        for quantile in told.quantile:
            yield "", {"quantile": repr(quantile.quantile)}, quantile.value
        yield "_sum", {}, told.sample_sum
        yield "_count", {}, float(told.sample_count)
    else:
        yield "", {}, told.value
