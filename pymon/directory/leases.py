"""Leases: a name, who holds it, and until when by the database's clock. They are not part of a snapshot.

An expiry further away than the longest duration of a lease is ignored: it was written before the clock was set back.
All functions run inside the caller's transaction. Those that write need a write transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pymon.directory.database import Connection, Row


def acquire(connection: Connection, name: str, holder: str, seconds: float) -> str:
    """Acquire or renew a lease unless another holder has it. Return the current holder."""
    there = holder_of(connection, name, seconds)
    if there not in ("", holder):
        return there
    put(connection, {name: holder}, seconds)
    return holder


def holder_of(connection: Connection, name: str, seconds: float) -> str:
    """Return the holder of a lease, "" if it is free. seconds: duration of the lease."""
    found = connection.execute("SELECT name, holder, expires_at FROM leases WHERE name = ?", (name,))
    return _valid(connection, found, seconds).get(name, "")


def with_prefix(connection: Connection, prefixes: Sequence[str], longest: float) -> dict[str, str]:
    """Return name -> holder of the valid leases whose names have one of the prefixes. longest: duration of any."""
    valid: dict[str, str] = {}
    for prefix in prefixes:
        found = connection.execute(
            "SELECT name, holder, expires_at FROM leases WHERE substr(name, 1, ?) = ? ORDER BY name",
            (len(prefix), prefix),
        )
        valid |= _valid(connection, found, longest)
    return valid


def renew(
    connection: Connection,
    held: Mapping[str, str],
    seconds: float,
    prefixes: Sequence[str],
    longest: float,
    yields: str,
) -> dict[str, str]:
    """Renew leases that only this process acquires, as `Directory.renew_leases` describes."""
    others = {name: holder for name, holder in with_prefix(connection, prefixes, longest).items() if name not in held}
    yielding = yields != "" and any(name.startswith(yields) for name in others)
    kept = {name: holder for name, holder in held.items() if not (yielding and name.startswith(yields))}
    for name in held.keys() - kept.keys():
        release(connection, name, held[name])
    put(connection, kept, seconds)
    return others | kept


def release(connection: Connection, name: str, holder: str) -> None:
    """Release a lease. Does nothing if another holder has it."""
    connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))


def remove(connection: Connection, name: str) -> None:
    """Remove a lease, whoever the holder is."""
    connection.execute("DELETE FROM leases WHERE name = ?", (name,))


def _valid(connection: Connection, found: Sequence[Row], longest: float) -> dict[str, str]:
    """Return name -> holder of the rows that are valid now."""
    now = connection.now()
    return {str(name): str(holder) for name, holder, ends in found if now < ends <= now + longest}


def put(connection: Connection, leases: Mapping[str, str], seconds: float) -> None:
    """Write leases, whoever their holders were. leases: name -> holder."""
    now = connection.now()
    for name, holder in leases.items():
        # Expired leases are also removed, because the name of a proxy's lease differs after each start.
        connection.execute("DELETE FROM leases WHERE name = ? OR expires_at <= ?", (name, now))
        connection.execute(
            "INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, ?)", (name, holder, now + seconds)
        )
