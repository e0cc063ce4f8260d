"""What commands know of `pymon up` here, and the next step that they print."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from pymon.cli import main, next_step
from pymon.cli.site import FILE, Site, read_site, write_site
from pymon.config import Address

SITE = Site("here.example", Address("::1", 9999), "pymon.account")


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYMON_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_the_file(data_dir: Path) -> None:
    assert read_site(data_dir) is None
    (data_dir / f"{FILE}.new").write_text("left by one that was killed")
    for site in (SITE, Site("b.example", Address("10.0.0.1", 1), "")):
        write_site(data_dir, site)
        assert read_site(data_dir) == site
    assert [path.name for path in data_dir.iterdir()] == [FILE]
    assert stat.S_IMODE((data_dir / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "{}", "null", "[" * 3000, "x" * 10000, '{"zone": 1, "proxy": "a:1", "owner_label": ""}',
        '{"zone": "a", "proxy": "nonsense", "owner_label": ""}', '{"zone": "a", "proxy": "a:1", "owner_label": null}',
        '{"zone": "a", "proxy": 1, "owner_label": ""}',
    ],
    ids=range(11),
)  # fmt: skip
def test_a_file_that_is_damaged_is_none(data_dir: Path, text: str) -> None:
    (data_dir / FILE).write_text(text)
    assert read_site(data_dir) is None


def test_commands_take_the_zone_and_the_proxy_of_up(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["account", "create", "quiet"]) == 0
    assert capsys.readouterr().err == "", "without `pymon up` here nothing is known of the next step"
    write_site(data_dir, SITE)
    assert main(["account", "create", "acme"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1, "the UUID alone, for scripts"
    assert "--label pymon.account=acme" in err
    assert f"--data-dir {data_dir}\n" in err
    for folder, flags, url in (
        ("a", (), "https://[::1]:9999/"),
        ("b", ("--zone=other.example",), "https://cmon.other.example:9163/"),
        ("c", ("--proxy=10.0.0.1:1",), "https://10.0.0.1:1/"),
    ):
        assert main(["cert", "create", "acme", "--out", str(tmp_path / folder), *flags]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [
            str(tmp_path / folder / name) for name in ("acme-key.pem", "acme-cert.pem", "ca-cert.pem", "prometheus.yml")
        ]
        assert f"--config.file={tmp_path / folder}/prometheus.yml" in err
        (job,) = yaml.safe_load((tmp_path / folder / "prometheus.yml").read_text())["scrape_configs"]
        assert job["http_sd_configs"][0]["url"].startswith(url)


def test_the_container_is_of_the_runtime_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    here: set[str] = set()
    monkeypatch.setattr(next_step.shutil, "which", lambda name: f"/bin/{name}" if name in here else None)
    for programs, uid, first in (
        (set(), 0, "docker run "),
        ({"docker", "podman"}, 0, "docker run "),
        ({"podman"}, 0, "podman run "),
        ({"docker", "podman"}, 1000, "podman run "),
    ):
        here = programs
        monkeypatch.setattr(next_step.os, "geteuid", lambda uid=uid: uid)
        assert f"\n  {first}" in next_step.after_account("a", Path("/d"), SITE)
    without = Site("z", Address("h", 1), "")
    assert "docs/owners.md" in next_step.after_account("a", Path("/d"), without)
