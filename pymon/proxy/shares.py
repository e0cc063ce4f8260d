"""How the quota of an account is divided among the proxies that are alive.

The demand of an account at a proxy is a number from 0 to 1: the part of its quota that it asked for there in the last
seconds, refused requests included. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_DEMAND = 0.01
"""A smaller demand counts as none."""

MAX_ACCOUNTS = 1000
"""Accounts whose demand a proxy reports: those with the largest. The others count as without demand."""

_FADE = 0.5


def share(demands: Sequence[float], own: int) -> float:
    """Return the part of a quota that a proxy may give.

    demands: of one account at each of N proxies, from 0 to 1. own: the index of the proxy. It gets its part of the
    demand, and 1/(2N) at least. Without any demand it gets 1/N. The parts of all proxies add up to 1 at least, and to
    less than 1.5: to 1 + (N-1)/(2N) when the account uses one proxy alone.
    """
    count = len(demands)
    total = sum(demands)
    if not total:
        return 1 / count
    return max(demands[own] / total, 1 / (2 * count))


def shares(own: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return `share` for each account with a demand at any proxy, by the integer of its UUID.

    own: demands at this proxy. others: at each of the other proxies.
    """
    every = (own, *others)
    accounts = {account for demands in every for account in demands}
    return {account: share([demands.get(account, 0.0) for demands in every], 0) for account in accounts}


def reported(demands: Mapping[int, float]) -> dict[int, float]:
    """Return the demands that count: those of `MAX_ACCOUNTS` accounts at most, each of `MIN_DEMAND` at least."""
    found = [(demand, account) for account, demand in demands.items() if demand >= MIN_DEMAND]
    if len(found) > MAX_ACCOUNTS:
        found = sorted(found, reverse=True)[:MAX_ACCOUNTS]
    return {account: demand for demand, account in found}


def averaged(before: Mapping[int, float], now: Mapping[int, float]) -> dict[int, float]:
    """Return a moving average of demands. Call it once a second: what was asked 2 s ago counts a quarter."""
    accounts = before.keys() | now.keys()
    mixed = {
        account: before.get(account, 0.0) * _FADE + min(1.0, now.get(account, 0.0)) * (1 - _FADE)
        for account in accounts
    }
    return {account: demand for account, demand in mixed.items() if demand >= MIN_DEMAND / 2}
