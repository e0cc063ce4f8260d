"""The agent's live tests, run in a guest whose cgroups are pure v2."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.vm import guest as vm

if TYPE_CHECKING:
    from collections.abc import Callable

FILES = sorted(path.name for path in (vm.REPOSITORY / "tests" / "live").glob("test_*.py"))
SECONDS = 1200
"""More than one file takes on real processors: the guest is emulated."""

TOO_SLOW = "test_the_page_draws_it"
"""A browser takes minutes on emulated processors. What it draws does not depend on the cgroups."""


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("name", FILES)
def test_live_tests_pass_in_a_v2_guest(name: str, boot: Callable[..., vm.Guest]) -> None:
    file = vm.REPOSITORY / "tests" / "live" / name
    command = [sys.executable, "-m", "pytest", "-v", "--timeout=300", "-p", "no:cacheprovider"]
    command += ["--deselect", f"{file.relative_to(vm.REPOSITORY)}::{TOO_SLOW}", str(file)]
    result = boot("v2", modules=("veth",), disk_mib=64).run(command, timeout=SECONDS)
    assert result.status == 0, result.output
