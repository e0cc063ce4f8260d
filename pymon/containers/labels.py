"""Export of runtime labels as metric labels (`--container.label KEY`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PREFIX = "container_label_"
_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_]")


def label_name(key: str) -> str:
    """Return cAdvisor's name for a runtime label: `container_label_com_example_app` for `com.example/app`."""
    return _PREFIX + _FORBIDDEN.sub("_", key)


class LabelExport:
    """The runtime labels that are exported for every container, with an empty value if a container lacks one.

    keys: keys of runtime labels, in the order in which they are exported. If two keys give the same metric label, the
    first one is exported. Raises ValueError for an empty key.
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
        """Names of the metric labels, in order."""
        self.dropped = tuple(dropped)
        """Keys that are not exported, because an earlier key gives the same metric label."""
        self._keys = tuple(chosen.values())

    def values(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the value of each of `names` for a container with these runtime labels; "" for a missing one."""
        return tuple(labels.get(key, "") for key in self._keys)
