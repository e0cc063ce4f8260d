"""Debian's Prometheus and promtool for tests: started on a free loopback port, waited for, asked, stopped.

with Prometheus(config, tmp_path) as prometheus:
    vector = prometheus.wait_for("up == 1")
    assert prometheus.warnings() == []
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Result = TypeVar("Result")

_PAUSE = 0.02
"""Seconds between two looks at something that is awaited."""
_LISTENING = re.compile(r'msg="Listening on" address=([0-9.]+:(?!0\b)\d+)')


class PrometheusError(RuntimeError):
    """Prometheus ended, refused or did not answer in time; the message has the end of its log."""


class Sample(NamedTuple):
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


def require(program: str) -> str:
    """The path of a program; skips the test when it is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


class Prometheus:
    """A Prometheus with the configuration `config`, its data and log in `directory`; a context manager."""

    def __init__(
        self,
        config: str,
        directory: Path,
        *,
        timeout: float = 20.0,
        prefix: Sequence[str | Path] = (),
        host: str = "127.0.0.1",
        features: Sequence[str] = (),
    ) -> None:
        """prefix: a program that becomes Prometheus, in an environment of its making. host: where it listens.

        features: of --enable-feature.
        """
        self._features = features
        self._host = host
        self._prefix = prefix
        self._program = require("prometheus")
        self._timeout = timeout
        self._config = directory / "prometheus.yml"
        self._config.write_text(config)
        self._data = directory / "data"
        self.log = directory / "prometheus.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        command = [
            *self._prefix,
            self._program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address={self._host}:0",
            "--log.format=logfmt",
            *(f"--enable-feature={name}" for name in self._features),
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            address = self._await("its address", lambda: _LISTENING.findall(self._log_text()))
            self.url = f"http://{address[0]}"
            self._await("readiness", self._ready)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def query(self, expression: str) -> list[Sample]:
        """The instant vector that `expression` gives now, in the order of the answer."""
        data = self._api("query", query=expression)
        return [Sample(item["metric"], float(item["value"][1])) for item in data["result"]]

    def range(self, selector: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The labels and the samples, times and values, of each series of a range selector."""
        data = self._api("query", query=selector)
        return [(item["metric"], [(at, float(value)) for at, value in item["values"]]) for item in data["result"]]

    def wait_for(self, expression: str) -> list[Sample]:
        """The instant vector of `expression`, once it has an element."""
        return self._await(f"a result of {expression}", lambda: self.query(expression))

    def targets(self) -> list[dict[str, Any]]:
        """The active targets as /api/v1/targets has them: `labels`, `discoveredLabels`, `health`, `lastError`, ..."""
        targets: list[dict[str, Any]] = self._api("targets", state="active")["activeTargets"]
        return targets

    def wait_for_targets(self, count: int) -> list[dict[str, Any]]:
        """The active targets, once there are `count` and each has been scraped."""

        def scraped() -> list[dict[str, Any]]:
            targets = self.targets()
            return targets if len(targets) == count and all(one["health"] != "unknown" for one in targets) else []

        return self._await(f"{count} scraped targets", scraped)

    def warnings(self) -> list[str]:
        """The lines of its log so far that are warnings or errors."""
        return [line for line in self._log_text().splitlines() if re.search(r"\blevel=(warn|error)\b", line)]

    def _api(self, name: str, **parameters: str) -> dict[str, Any]:
        url = f"{self.url}/api/v1/{name}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=self._timeout) as answer:  # noqa: S310 (http, from the log)
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                raise PrometheusError(f"{name} {parameters}: {error.read().decode(errors='replace')}") from None
        data: dict[str, Any] = body["data"]
        return data

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=self._timeout):  # noqa: S310 (as in _api)
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False

    def _await(self, what: str, look: Callable[[], Result]) -> Result:
        deadline = time.monotonic() + self._timeout
        while not (result := look()):
            if self._process is None or self._process.poll() is not None:
                raise PrometheusError(f"Prometheus ended before {what}\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise PrometheusError(f"no {what} in {self._timeout:g} s\n{self._log_end()}")
            time.sleep(_PAUSE)
        return result

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace")

    def _log_end(self) -> str:
        return "\n".join(self._log_text().splitlines()[-20:])

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Check(NamedTuple):
    """What promtool says: its exit status (0 good, 1 unreadable, 3 lint), and both of its streams."""

    status: int
    output: str


def check_metrics(exposition: bytes) -> Check:
    """`promtool check metrics` on a text exposition; skips the test when promtool is not installed."""
    command = [require("promtool"), "check", "metrics"]
    done = subprocess.run(
        command, input=exposition, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    return Check(done.returncode, done.stdout.decode(errors="replace"))
