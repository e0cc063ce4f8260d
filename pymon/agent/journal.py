"""A journal of the containers that changed in each version of the inventory. No I/O."""

from __future__ import annotations

JOURNAL_ENTRIES = 500
"""UUIDs that a journal remembers, of 36 bytes each. A client whose version is older gets the whole inventory."""


class Journal:
    """The generation at which each UUID last changed. A generation is a number that grows with the inventory's changes.

    entries: most UUIDs that are remembered.
    """

    def __init__(self, *, entries: int = JOURNAL_ENTRIES) -> None:
        self._entries = entries
        self._changed: dict[str, int] = {}
        self._forgotten = 0

    def add(self, uuid: str, generation: int) -> None:
        """Record that a UUID got or lost its container, or that its container's description changed.

        generation: of the inventory with this change. It must not be less than that of an earlier call.
        """
        self._changed.pop(uuid, None)  # so that the next line puts it last
        self._changed[uuid] = generation
        if len(self._changed) > self._entries:
            oldest = next(iter(self._changed))
            self._forgotten = self._changed.pop(oldest)

    def since(self, generation: int) -> list[str] | None:
        """Return the UUIDs that changed after a generation, latest first, or None if some of them are forgotten."""
        if generation < self._forgotten:
            return None
        found: list[str] = []
        for uuid, changed in reversed(self._changed.items()):
            if changed <= generation:
                break
            found.append(uuid)
        return found
