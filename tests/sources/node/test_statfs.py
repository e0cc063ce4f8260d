import os
import threading
import time

import pytest

from pymon.sources.node.statfs import StatfsProbe

ROOT = os.statvfs("/")


class Kernel:
    """statvfs that hangs on paths that say so, until let go."""

    def __init__(self):
        self.asked = []
        self.gate = threading.Event()

    def statvfs(self, path):
        self.asked.append(path)
        if "hang" in path:
            self.gate.wait(30)
        if "gone" in path:
            raise FileNotFoundError(2, "gone", path)
        return ROOT


@pytest.fixture
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.gate.set()
    wait_for_helpers(0)


def helpers():
    return [thread for thread in threading.enumerate() if thread.name == "statfs"]


def wait_for_helpers(count):
    deadline = time.monotonic() + 10
    while len(helpers()) > count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(helpers()) == count


def test_answers_and_errors(kernel):
    probe = StatfsProbe(kernel.statvfs)
    answers = probe.probe({"8:1": ["/a", "/b"], "8:2": ["/gone"]})
    assert answers.keys() == {"/a", "/b", "/gone"}
    assert answers["/a"] is ROOT
    assert isinstance(answers["/gone"], FileNotFoundError)
    assert probe.probe({}) == {}
    wait_for_helpers(0)


def test_one_that_hangs_holds_up_nobody(kernel):
    probe = StatfsProbe(kernel.statvfs, timeout_seconds=0.5)
    mounts = {"0:9": ["/hang/1", "/hang/2", "/hang/3"], "8:1": ["/a"], "8:2": ["/b"]}
    assert probe.probe(mounts).keys() == {"/a", "/b"}
    wait_for_helpers(1)
    started = time.monotonic()
    for _ in range(50):
        assert probe.probe(mounts).keys() == {"/a", "/b"}
    assert time.monotonic() - started < 5, "what hangs is not waited for again"
    wait_for_helpers(1)
    assert kernel.asked.count("/hang/1") == 1
    assert "/hang/2" not in kernel.asked, "one call under way for a file system"


def test_it_is_asked_again_once_it_came_back(kernel):
    probe = StatfsProbe(kernel.statvfs, timeout_seconds=0.1)
    assert probe.probe({"0:9": ["/hang"]}) == {}
    kernel.gate.set()
    wait_for_helpers(0)
    assert probe.probe({"0:9": ["/hang"]}) == {"/hang": ROOT}


def test_several_that_hang_cost_the_patience_once(kernel):
    probe = StatfsProbe(kernel.statvfs, timeout_seconds=1.5)
    mounts = {f"0:{number}": [f"/hang/{number}"] for number in range(10)} | {"8:1": ["/a"]}
    started = time.monotonic()
    assert probe.probe(mounts).keys() == {"/a"}
    assert time.monotonic() - started < 3
    wait_for_helpers(10)


def test_helpers_are_bounded(kernel):
    probe = StatfsProbe(kernel.statvfs, timeout_seconds=1, helpers_max=3)
    mounts = {f"0:{number}": [f"/hang/{number}"] for number in range(8)}
    assert probe.probe(mounts) == {}
    assert len(helpers()) == 3
    started = time.monotonic()
    assert probe.probe({**mounts, "8:1": ["/a"]}) == {}
    assert time.monotonic() - started < 0.9, "no helper is free, so nothing is waited for"
    kernel.gate.set()
    wait_for_helpers(0)
    assert probe.probe({"8:1": ["/a"]}) == {"/a": ROOT}
