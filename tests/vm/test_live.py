"""The agent's live tests, run in a guest whose cgroups are pure v2."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.vm import guest as vm

if TYPE_CHECKING:
    from collections.abc import Callable

LIVE = vm.REPOSITORY / "tests" / "live"
SECONDS = 1200
"""More than these tests take on real processors: the guest is emulated."""


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.skipif(not LIVE.is_dir(), reason="there is no tests/live")
def test_live_tests_pass_in_a_v2_guest(boot: Callable[..., vm.Guest]) -> None:
    command = [sys.executable, "-m", "pytest", "-v", "--timeout=300", "-p", "no:cacheprovider", str(LIVE)]
    result = boot("v2").run(command, timeout=SECONDS)
    assert result.status == 0, result.output
