"""Expositions in protocol buffers: messages MetricFamily of io.prometheus.client, each after its length as a varint.

The messages are those of https://github.com/prometheus/client_model, io/prometheus/client/metrics.proto. Names and
types are those of the text format 0.0.4. Samples are written by native code (native/core/render_protobuf.h,
exposition_protobuf.h); here is what is encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

TYPES = {"counter": 0, "gauge": 1, "summary": 2, "untyped": 3, "histogram": 4, "unknown": 3, "info": 1}
"""The numbers of MetricType, by type of a family in any format."""

_SCHEMAS = {2**power: -power for power in range(5)}
"""The schemas of native histograms whose bounds are whole powers of two, by the step of the exponent."""


def family_fields(name: str, kind: str, help: str) -> bytes:
    """Return the fields of a MetricFamily that precede its metrics: name, help and type."""
    return _bytes_field(1, name.encode()) + _bytes_field(2, help.encode()) + bytes((3 << 3, TYPES[kind]))


def label_fields(labels: Iterable[tuple[str, str]]) -> bytes:
    """Return labels as the fields of a Metric. Bytes of a value that are no UTF-8 are spelled out, as in text."""
    return b"".join(
        _bytes_field(1, _bytes_field(1, name.encode()) + _bytes_field(2, _readable(value))) for name, value in labels
    )


def native_buckets(bounds: Sequence[float]) -> tuple[int, int] | None:
    """Return the schema of a native histogram that has these buckets, and the index of the first one; None without one.

    bounds: finite ones, ascending. With a schema from -4 to 0, bucket i is up to (2 ** 2**-schema) ** i.
    """
    exponents = [math.frexp(bound) for bound in bounds]
    if len(bounds) < 2 or any(mantissa != 0.5 for mantissa, _ in exponents):  # noqa: PLR2004
        return None
    powers = [exponent - 1 for _, exponent in exponents]
    step = powers[1] - powers[0]
    if step not in _SCHEMAS or powers != list(range(powers[0], powers[-1] + 1, step)) or powers[0] % step:
        return None
    return _SCHEMAS[step], powers[0] // step


def _readable(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").encode()


def _bytes_field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits to a byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
