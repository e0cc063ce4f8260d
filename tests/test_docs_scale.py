"""The configurations of docs/scale.md: each is what Debian's Prometheus takes, and one in agent mode really starts."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[1] / "docs/scale.md").read_text(encoding="utf-8")
BLOCKS = [(match[1], match[2]) for match in re.finditer(r"```yaml\n# (\w+): [^\n]*\n(.*?)```", TEXT, re.DOTALL)]
CHECKS = {
    "prometheus": ("check", "config", "--syntax-only"),
    "agent": ("check", "config", "--syntax-only", "--agent"),
    "rules": ("check", "rules"),
}


def require(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_every_block_says_what_it_is() -> None:
    assert len(BLOCKS) == TEXT.count("```yaml")
    assert {kind for kind, _ in BLOCKS} == set(CHECKS)


@pytest.mark.parametrize(("kind", "text"), BLOCKS, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(BLOCKS)])
def test_promtool_takes_it(kind: str, text: str, tmp_path: Path) -> None:
    file = tmp_path / "block.yml"
    file.write_text(text)
    done = subprocess.run([require("promtool"), *CHECKS[kind], file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_prometheus_starts_in_agent_mode_with_it(tmp_path: Path) -> None:
    program = require("prometheus")
    (text,) = {text for kind, text in BLOCKS if kind == "agent" and "Mimir" in text}
    config, log = tmp_path / "prometheus.yml", tmp_path / "log"
    config.write_text(text)
    for name in ("ca-cert.pem", "acme-cert.pem", "acme-key.pem"):
        (tmp_path / name).write_text("")  # read at the first scrape, not at the start
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [program, "--enable-feature=agent", f"--config.file={config}", f"--storage.agent.path={tmp_path / 'wal'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=stream, stderr=stream,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "Completed loading of configuration file" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
