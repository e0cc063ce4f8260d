"""The proxy's own metrics."""

from __future__ import annotations

import platform
from collections import Counter

from pymon import __version__
from pymon.exposition.histogram import Histogram
from pymon.exposition.own_metrics import OwnMetrics

ANSWER_BOUNDS_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)
"""Few, as there is a histogram for each account and route."""

TIMED_ACCOUNTS = 100
"""Accounts with histograms of their own: those that are answered first. The label is "" for all others."""


class SelfMetrics(OwnMetrics):
    """The proxy's own metrics.

    requests: answered requests by (account, route, code); the account is "" when unknown. throttled: refused requests
    by (account, limit). authentication_failures: requests without a valid credential, by reason.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[tuple[object, ...]] = Counter()
        self.throttled: Counter[tuple[object, ...]] = Counter()
        self.authentication_failures: Counter[str] = Counter()
        self._upstream: dict[tuple[str, ...], Histogram] = {}
        self._answers: dict[tuple[str, ...], Histogram] = {}
        self._timed_accounts: set[str] = set()
        self.build_info(version=__version__, python=platform.python_version())
        self.counters(
            "pymon_proxy_requests", "Requests answered, by account, route and status.", ("account", "route", "code"),
            lambda: self.requests,
        )  # fmt: skip
        self.counters(
            "pymon_proxy_throttled", "Requests refused by a limit, by account and limit.", ("account", "limit"),
            lambda: self.throttled,
        )  # fmt: skip
        self.counters(
            "pymon_proxy_authentication_failures", "Requests with no valid credential, by reason.", ("reason",),
            lambda: {(reason,): count for reason, count in self.authentication_failures.items()},
        )  # fmt: skip
        self.histograms(
            "pymon_proxy_upstream_request_duration_seconds",
            "Time of requests to agents with their wait for a turn, by outcome.",
            ("outcome",),
            self._upstream,
        )
        self.histograms(
            "pymon_proxy_request_duration_seconds",
            "Time until an answer begins, by account and route.",
            ("account", "route"),
            self._answers,
        )

    def answered(self, account: str, route: str, status: int, seconds: float) -> None:
        """Count an answer, and the time until it was there. Accounts above `TIMED_ACCOUNTS` are timed together."""
        self.requests[account, route, status] += 1
        histogram = self._answers.get((account, route))
        if histogram is None:
            histogram = self._new_answers(account, route)
        histogram.observe(seconds)

    def _new_answers(self, account: str, route: str) -> Histogram:
        if account and account not in self._timed_accounts:
            if len(self._timed_accounts) < TIMED_ACCOUNTS:
                self._timed_accounts.add(account)
            else:
                account = ""
        return self._answers.setdefault((account, route), Histogram(ANSWER_BOUNDS_SECONDS))

    def asked_agent(self, seconds: float, outcome: str) -> None:
        """Record the duration of a request to an agent. outcome: "ok" or the reason of its failure."""
        histogram = self._upstream.get((outcome,))
        if histogram is None:
            histogram = self._upstream[outcome,] = Histogram()
        histogram.observe(seconds)
