"""A proxy as a process of its own, its directory made by the commands that users have, and clients of it.

site = Site(tmp_path)
site.pymon("account", "create", "alice")
alice = site.certificate("alice")
with Proxy(site) as proxy, proxy.client(alice) as client:
    assert client.get("/v1/discover").status == 200
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.live.agent import Answer
from tests.live.world import until
from tests.oracle import parse

REPOSITORY = Path(__file__).resolve().parents[2]
ZONE = "pymon.internal"
START_SECONDS = 60.0
_BAD = re.compile(r"Traceback|internal error|level=error|was never retrieved|never awaited|Warning:")
_LISTENING = re.compile(r"msg=listening part=(\S+) address=(\S+)")


class Files(NamedTuple):
    """A client certificate in PEM, its key, and the authority of the proxy's."""

    cert: Path
    key: Path
    ca: Path


class Site:
    """A data directory that nothing but the commands write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self._made = 0

    def pymon(self, *words: str | Path, data: str = "") -> str:
        """What a command prints, which must succeed."""
        done = run_pymon(*words, f"--data-dir={self.data_dir}", data=data)
        assert (done.returncode, done.stderr) == (0, ""), (words, done)
        return done.stdout.strip()

    def certificate(self, account: str, *flags: str) -> Files:
        """A new certificate of the account, issued here."""
        folder = self.new(account)
        self.pymon("cert", "create", account, f"--out={folder}", *flags)
        return Files(folder / f"{account}-cert.pem", folder / f"{account}-key.pem", folder / "ca-cert.pem")

    def server(self, *names: str) -> Files:
        """A new server certificate."""
        folder = self.new("server")
        self.pymon("cert", "server", f"--out={folder}", *names)
        return Files(folder / "server-cert.pem", folder / "server-key.pem", folder / "ca-cert.pem")

    def new(self, name: str) -> Path:
        """A path of this name that nothing has."""
        self._made += 1
        return self.folder / f"{self._made}-{name}"


def run_pymon(*words: str | Path, data: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pymon", *words],
        cwd=REPOSITORY,
        env=environment(),
        input=data,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def environment() -> dict[str, str]:
    """For processes of pymon's: without what this shell says to it."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYMON_")}


class _ClosedSocket(ssl.SSLSocket):
    """A socket that is closed when its peer goes between connect(2) and the wrapping in TLS.

    `ssl` looks for data then, lets the error pass, and leaves the socket to the garbage collector.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except ConnectionError:
            self.close()
            raise


class Client:
    """Keeps one HTTPS connection to an address of IPv4. `Host` is the address unless another one is given."""

    def __init__(
        self,
        address: str,
        ca: Path,
        files: Files | None = None,
        *,
        authorization: str = "",
        source: str = "",
        timeout: float = 60,
    ) -> None:
        context = ssl.create_default_context(cafile=str(ca))
        context.sslsocket_class = _ClosedSocket
        if files is not None:
            context.load_cert_chain(files.cert, files.key)
        host, _, port = address.rpartition(":")
        self._authorization = {"Authorization": authorization} if authorization else {}
        self._connection = http.client.HTTPSConnection(
            host, int(port), context=context, timeout=timeout, source_address=(source, 0) if source else None
        )

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, *, host: str = "", method: str = "GET"
    ) -> Answer:
        """Ask for a path; the body stays as it comes."""
        sent = {**self._authorization, **({"Host": host} if host else {}), **(headers or {})}
        self._connection.request(method, path, headers=sent)
        response = self._connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    def status(self, path: str, **options: Any) -> int:
        """The status alone."""
        return self.get(path, **options).status

    def json(self, path: str) -> Any:
        """A document that must be there."""
        answer = self.get(path)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def uuids(self) -> set[str]:
        """The containers that are found here."""
        return {found["vm_uuid"] for found in self.json("/v1/discover")["containers"]}

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Process:
    """A process of pymon's that logs; `with` ends it, and asserts that it ended well and complained of nothing."""

    def __init__(self, *words: str | Path, stdout: int = subprocess.DEVNULL, prefix: Sequence[str] = ()) -> None:
        """prefix: words of a program that becomes the process, as ``ip netns exec NAME``."""
        self.log: list[str] = []
        self.allowed = re.compile(r"(?!)")
        """Lines of the log that are no complaint."""
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "pymon", *words],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        assert self.process.stderr
        self.log.extend(self.process.stderr)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def await_(self, what: str, probe: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """The first true answer of `probe`, which must come while the process lives."""

        def look() -> Any:
            assert self.process.poll() is None, f"ended before {what}: {''.join(self.log)}"
            return probe()

        return until(what, look, seconds)

    def stop(self) -> None:
        """SIGTERM; it must end well and soon."""
        if self.process.stderr is None or self.process.stderr.closed:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop: {''.join(self.log)}") from None
        self.kill()
        complaints = [line for line in self.log if _BAD.search(line) and not self.allowed.search(line)]
        assert status == 0, (status, self.log)
        assert not complaints, complaints

    def kill(self) -> None:
        """SIGKILL, and nothing is left of it."""
        self.process.kill()
        self.process.wait()
        self._thread.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            sys.stderr.writelines(self.log)
            self.kill()


class Proxy(Process):
    """`pymon proxy` on free ports of 127.0.0.1. tls: its certificate, or a new one; False for terminators alone."""

    def __init__(
        self,
        site: Site,
        *flags: str | Path,
        tls: Files | bool = True,
        wait: bool = True,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """wait: until it is ready, which takes a node that was heard of or none in the directory. host: its address."""
        self.site = site
        if tls is True:
            tls = site.server(f"cmon.{ZONE}", f"*.cmon.{ZONE}", "localhost", "127.0.0.1")
        self.tls = tls if isinstance(tls, Files) else None
        own = (f"--tls.cert-file={self.tls.cert}", f"--tls.key-file={self.tls.key}") if self.tls else ()
        super().__init__(
            "proxy",
            f"--data-dir={site.data_dir}",
            f"--web.listen-address={host}:0",
            f"--telemetry.listen-address={host}:0",
            "--drain=0",
            *own,
            *flags,
            prefix=prefix,
        )
        try:
            parts = ("telemetry", "proxy") if self.tls else ("telemetry",)
            self.await_("its addresses", lambda: all(map(self.listening, parts)))
            if wait:
                self.await_("readiness", lambda: self.telemetry("/-/ready").status == 200)
        except BaseException:
            sys.stderr.writelines(self.log)
            self.kill()
            raise

    def listening(self, part: str) -> list[str]:
        """Where a part listens so far: proxy, telemetry or terminator."""
        found = filter(None, map(_LISTENING.search, list(self.log)))
        return [one[2] for one in found if one[1] == part]

    @property
    def address(self) -> str:
        """Of tenants' requests."""
        return self.listening("proxy")[0]

    @property
    def port(self) -> int:
        """Of tenants' requests."""
        return int(self.address.rpartition(":")[2])

    def client(self, files: Files | None = None, *, authorization: str = "", source: str = "") -> Client:
        """A client that knows the proxy's authority."""
        assert self.tls is not None
        return Client(self.address, self.tls.ca, files, authorization=authorization, source=source)

    def telemetry(self, path: str = "/metrics") -> Answer:
        """Ask its own address."""
        try:
            with urllib.request.urlopen(f"http://{self.listening('telemetry')[0]}{path}", timeout=30) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a family of its own over the series that have these labels; 0 without one."""
        return float(
            sum(
                value
                for (found, pairs), value in parse(self.telemetry().body).items()
                if found == name and labels.items() <= dict(pairs).items()
            )
        )


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextlib.contextmanager
def running(program: list[str | Path]) -> Iterator[subprocess.Popen[bytes]]:
    """A program that stays in the foreground, ended at the end."""
    process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stderr.close()
