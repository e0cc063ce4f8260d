"""Runtime labels as labels of metrics (`--container.label KEY`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PREFIX = "container_label_"
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_]")


def label_name(key: str) -> str:
    """The name that cAdvisor gives a runtime label: `com.example/app` is `container_label_com_example_app`."""
    return _PREFIX + _FORBIDDEN.sub("_", key)


class LabelExport:
    """The runtime labels that every container carries, with an empty value where it has none.

    keys: in the order of the labels; of two that have the same name in metrics the first wins.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        chosen: dict[str, str] = {}
        dropped: list[str] = []
        for key in keys:
            if not key:
                raise ValueError("container.label: empty, expected the key of a runtime label")
            name = label_name(key)
            if chosen.setdefault(name, key) != key:
                dropped.append(key)
        self.names = tuple(chosen)
        """Names of the labels in metrics."""
        self.dropped = tuple(dropped)
        """Keys that a former one had taken the name of."""
        self._keys = tuple(chosen.values())

    def values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """The value of each of `names` for a container with these runtime labels."""
        return tuple(labels.get(key, "") for key in self._keys)
