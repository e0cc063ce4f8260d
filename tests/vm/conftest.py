"""Every test here needs a guest: they carry the marker `vm`, and are skipped with the reason where none can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vm import guest as vm

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is collected below this directory."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def kernel() -> vm.Kernel:
    """The guest's kernel; skips when this machine cannot run it."""
    reason = vm.missing()
    if reason is not None:
        pytest.skip(f"no guest: {reason}")
    try:
        return vm.find_kernel()
    except vm.GuestUnavailableError as error:
        pytest.skip(f"no guest: {error}")


@pytest.fixture
def boot(kernel: vm.Kernel, tmp_path: Path) -> Callable[..., vm.Guest]:
    """Makes guests whose console is kept in the test's directory."""

    def make(
        cgroup: vm.CgroupLayout = "v2",
        cmdline: str = "",
        *,
        modules: tuple[str, ...] = (),
        disk_mib: int = 0,
        package: str = vm.KERNEL_PACKAGE,
    ) -> vm.Guest:
        return vm.Guest(
            cgroup=cgroup,
            cmdline=cmdline,
            modules=modules,
            disk_mib=disk_mib,
            package=package,
            log=tmp_path / "console.log",
        )

    return make
