"""What keeps `pymon agent`, `proxy` and `up` from starting: one line, and the exit code of its kind."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.proxy import Files, Proxy, Site, run_pymon
from tests.e2e.test_up import ANY_PORT


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The line that is not of the log."""
    (line,) = (line for line in done.stderr.splitlines() if not line.startswith("time="))
    assert line.startswith("pymon: "), done.stderr
    assert "internal error" not in line
    return line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("site"))
    site.pymon("account", "create", "alice")
    return site


@pytest.fixture(scope="module")
def server(site: Site) -> Files:
    return site.server("cmon.pymon.internal")


def start_proxy(site: Site, server: Files, *flags: str) -> subprocess.CompletedProcess[str]:
    return run_pymon(
        "proxy", f"--data-dir={site.data_dir}",
        "--web.listen-address=127.0.0.1:0", "--telemetry.listen-address=127.0.0.1:0",
        f"--tls.cert-file={server.cert}", f"--tls.key-file={server.key}", *flags,
    )  # fmt: skip


@pytest.mark.parametrize(
    "flag",
    ["--web.listen-address", "--telemetry.listen-address", "--terminator.listen-address", "--dns.listen-address"],
)
def test_a_port_of_the_proxy_that_is_taken(site: Site, server: Files, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        more = ["--terminator.trust=127.0.0.1", "--terminator.header=X-C"] if "terminator" in flag else []
        done = start_proxy(site, server, f"{flag}={address}", *more)
    assert address in complaint(done), done
    assert done.returncode == 1


def test_a_certificate_of_the_proxy_that_is_not_there_or_is_none(site: Site, server: Files, tmp_path: Path) -> None:
    missing, damaged = tmp_path / "missing.pem", tmp_path / "damaged.pem"
    damaged.write_text("no PEM\n")
    for file in (missing, damaged):
        done = start_proxy(site, server, f"--tls.cert-file={file}")
        assert str(file) in complaint(done)
        assert done.returncode == 2


def test_a_directory_of_the_proxy_that_is_damaged(site: Site, server: Files, tmp_path: Path) -> None:
    damaged = tmp_path / "directory.db"
    damaged.write_bytes(b"damaged" * 1000)
    done = start_proxy(site, server, f"--directory={damaged}", f"--data-dir={tmp_path / 'other'}")
    assert str(damaged) in complaint(done)
    assert done.returncode == 1


def test_a_data_directory_that_another_process_uses(site: Site, server: Files) -> None:
    with Proxy(site, tls=server) as proxy:
        for done in (start_proxy(site, server), run_pymon("up", *ANY_PORT, f"--data-dir={site.data_dir}")):
            assert complaint(done) == (
                f"pymon: {site.data_dir}: the data directory is in use by pymon proxy, process {proxy.pid}"
            )
            assert done.returncode == 1
        site.pymon("account", "create", "beside")


@pytest.mark.parametrize("command", ["agent", "up"])
@pytest.mark.parametrize("flag", ["--path.procfs", "--path.cgroupfs", "--web.config.file"])
def test_a_path_that_is_not_there(command: str, flag: str, tmp_path: Path) -> None:
    words = (*ANY_PORT, f"--data-dir={tmp_path}") if command == "up" else ("--web.listen-address=127.0.0.1:0",)
    done = run_pymon(command, *words, f"{flag}={tmp_path / 'nowhere'}")
    complaint(done)
    assert done.returncode == 2
