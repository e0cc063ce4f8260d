"""`pymon top` in a real pseudo-terminal, of a real agent and of an account through a real proxy."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.fleet import Fleet, Node
from tests.e2e.proxy import Files, Proxy, Site, run_pymon
from tests.live.world import until
from tests.top.terminal import terminal

pytestmark = pytest.mark.root


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310  # a test's own agent
        text: str = answer.read().decode()
        return text


def test_an_agent_s_containers(nodes: list[Node]) -> None:
    node = nodes[0]
    node.container("app[1]", image="nginx:1")
    last = node.container("db")
    listed = f"{node.url}/v1/containers"
    until("both are known", lambda: all(name in read(listed) for name in ('"app[1]"', '"db"')))
    with terminal("top", "--url", node.url, "--interval", "1s", "--sort", "name") as here:
        here.shows("app[1]", "db", "running", "2 containers  CPU ")
        last.end()
        here.until("with the one that has ended", lambda text: "1 container  1 ended" in text and "db" in text)
        here.keys("Enter")
        here.shows("image     nginx:1", "runtime   docker", "CPU cores")
        node.stop()
        here.shows(f"no connection to {node.url}: Connection refused", "last numbers: ", "nginx:1")
        node.start()
        here.until("well again", lambda text: "last numbers: " not in text)
        here.keys("q")
        assert here.status() == 0


def told(proxy: Proxy, *flags: str | Path) -> tuple[int, str, str]:
    done = run_pymon("top", "--json", f"--url=https://{proxy.address}", *flags)
    return done.returncode, done.stdout, done.stderr


def test_an_account_through_a_proxy(fleet: Fleet, nodes: list[Node], tmp_path: Path) -> None:
    nodes[0].container("mine", "alice")
    nodes[1].container("mine-too", "alice")
    nodes[1].container("other", "bob")
    site = Site(tmp_path)
    for account in ("alice", "bob"):
        site.pymon("account", "create", account)
    fleet.register(site)
    token = tmp_path / "token"
    token.write_text(site.pymon("token", "create", "alice"))
    files: Files = site.certificate("alice")
    with Proxy(site) as proxy:
        assert proxy.tls is not None
        trust = f"--ca-file={proxy.tls.ca}"
        by_token = (trust, f"--token-file={token}")

        def both() -> bool:
            status, out, _ = told(proxy, *by_token)
            return status == 0 and {one["name"] for one in json.loads(out)["containers"]} == {"mine", "mine-too"}

        until("both nodes are known", both)
        status, out, _ = told(proxy, trust, f"--cert-file={files.cert}", f"--key-file={files.key}")
        assert (status, json.loads(out)["account"], len(json.loads(out)["containers"])) == (0, "alice", 2)
        status, out, err = told(proxy, trust)
        assert (status, out) == (1, "")
        assert err.startswith(f"pymon: https://{proxy.address} answers 401: ")
        assert "(expected --token-file, or --cert-file and --key-file)" in err
        assert "is not trusted" in told(proxy, f"--token-file={token}")[2]
        with terminal(
            "top", f"--url=https://{proxy.address}", *by_token, "--interval=1s", "--sort=name", width=120
        ) as here:
            text = here.shows("account alice, 2 nodes", "mine", "mine-too")
            assert "other" not in text
            nodes[1].stop()
            here.shows("not answering (last numbers, marked !): ", "!mine-too")
            nodes[1].start()
            here.until("both answer", lambda text: "!mine-too" not in text and "mine-too" in text)
            site.pymon("token", "delete", token.read_text().split("_")[1])
            text = here.shows("answers 401: ", "has expired, was revoked", "last numbers: ", "mine-too")
            assert str(token) in text.replace("\n", "")
            token.write_text(site.pymon("token", "create", "alice"))
            here.until("another token in the file is enough", lambda text: "last numbers: " not in text)
            here.keys("q")
            assert here.status() == 0
