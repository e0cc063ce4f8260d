"""The agent as a process of its own, on a free port, and what it says."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.live.world import until
from tests.oracle import Series, parse

REPOSITORY = Path(__file__).resolve().parents[2]
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
START_SECONDS = 120.0
_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp. A connection that its process has closed has inode 0 there."""
_BAD = re.compile(r"Traceback|level=error|internal error|Error: ")


class Answer(NamedTuple):
    """An answer as it came, its body decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text


class Scrape:
    """An exposition that a parser of Prometheus's project took."""

    def __init__(self, body: bytes, *, openmetrics: bool = False) -> None:
        self.body = body
        text = body.decode("utf-8", "backslashreplace" if not openmetrics else "strict")
        self.families = {family.name: family for family in (parse_openmetrics if openmetrics else parse_text)(text)}
        self.series: dict[Series, Fraction] = {
            (name, frozenset((key, _unescaped(text)) for key, text in labels)): value
            for (name, labels), value in parse(body).items()
        }

    def of(self, path: str, metric: str | None = None) -> dict[Series, Fraction]:
        """Series of a container by the path of its control group."""
        return {
            key: value
            for key, value in self.series.items()
            if ("id", path) in key[1] and (metric is None or key[0] == metric)
        }

    def values(self, path: str, metric: str) -> dict[frozenset[tuple[str, str]], Fraction]:
        """Values of a metric of a container by the labels that are the metric's own."""
        return {
            frozenset(pair for pair in labels if pair[0] not in ("id", "name", "image")): value
            for (_, labels), value in self.of(path, metric).items()
        }

    def value(self, path: str, metric: str, **labels: str) -> Fraction | None:
        """The one value with these labels, or None."""
        return self.values(path, metric).get(frozenset(labels.items()))

    @property
    def paths(self) -> set[str]:
        """Paths of all containers."""
        seen = [labels for name, labels in self.series if name == "container_last_seen"]
        return {text for labels in seen for key, text in labels if key == "id"}

    def own(self, name: str, **labels: str) -> Fraction | None:
        """A value that the agent tells of itself."""
        return self.series.get((name, frozenset(labels.items())))


class Agent:
    """`with Agent("--container.all") as agent:`; the end asserts that it stopped well and complained of nothing."""

    def __init__(self, *flags: str, prefix: tuple[str, ...] = (), env: Mapping[str, str] | None = None) -> None:
        """prefix: a program that runs the agent, such as prlimit."""
        self.log: list[str] = []
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pymon", "agent", "--web.listen-address=127.0.0.1:0", *flags],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(env or {})},
        )
        self._listening = threading.Event()
        self._ended = False
        self.address = ""
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        if not self._listening.wait(START_SECONDS) or not self.address:
            self._kill()
            raise AssertionError(f"the agent did not start: {''.join(self.log)}")
        try:
            until("the agent is ready", lambda: self.get("/-/ready").status == 200, START_SECONDS)
        except BaseException:
            self._kill()
            raise

    def _follow(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self.log.append(line)
            found = re.search(r"msg=listening address=(\S+)", line)
            if found:
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Its URL, without a path."""
        return f"http://{self.address}"

    def get(self, path: str = "/metrics", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for a path, and return the answer, whatever its status."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
                answer = Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            with error:
                answer = Answer(error.code, dict(error.headers), error.read())
        if answer.headers.get("Content-Encoding") == "gzip":
            answer = answer._replace(body=gzip.decompress(answer.body))
        return answer

    def scrape(self, path: str = "/metrics", *, openmetrics: bool = False, compressed: bool = False) -> Scrape:
        """A scrape that must succeed."""
        headers = {"Accept": OPENMETRICS if openmetrics else TEXT}
        if compressed:
            headers["Accept-Encoding"] = "gzip"
        answer = self.get(path, headers)
        assert answer.status == 200, answer
        return Scrape(answer.body, openmetrics=openmetrics)

    def stop(self) -> None:
        """SIGTERM; it must end well and soon."""
        if self._ended:
            return
        self._ended = True
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the agent did not stop: {''.join(self.log)}") from None
        finally:
            self._thread.join()
            assert self._process.stderr
            self._process.stderr.close()
        complaints = [line for line in self.log if _BAD.search(line)]
        assert status == 0, (status, self.log)
        assert not complaints, complaints

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
            return
        self._kill()

    def _kill(self) -> None:
        self._ended = True
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stderr
        self._process.stderr.close()

    # What it costs.

    def tasks(self) -> list[Path]:
        """The directories of its threads in /proc."""
        return list(Path(f"/proc/{self.pid}/task").iterdir())

    def descriptors(self) -> dict[str, int]:
        """Open descriptors by the name of the thread: readers have tables of their own."""
        found: dict[str, int] = {}
        for task in self.tasks():
            try:
                found[task.name] = len(list((task / "fd").iterdir()))
            except FileNotFoundError:
                continue
        return found

    def connections(self) -> int:
        """Number of connections to its port that it has not closed."""
        port = f":{int(self.address.rpartition(':')[2]):04X}"
        rows = [line.split() for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] != _LISTEN and row[9] != "0" for row in rows)

    def rss_kib(self) -> int:
        """Resident memory of its process in KiB."""
        return int(next(self._status("VmRSS")).split()[0])

    def _status(self, key: str) -> Iterator[str]:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                yield line.partition(":")[2]
