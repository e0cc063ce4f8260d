"""What every test can count on."""

import os

import hypothesis
import pytest

# How long an example takes says how busy the machine is. Tests have pytest's time limit.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew from what is there now")


ON_THE_MACHINE = ("tests/e2e/", "tests/live/", "tests/sources/test_tree.py::")
"""Beginnings of ids of tests that make control groups, and of tests that count what the whole machine has."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several processes, each test file runs in one of them, and all files of ON_THE_MACHINE in the same one.

    Marks of xdist_group would say the same, but pytest-xdist 3.8 loses them with pytest 9.
    """
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415  # this hook is called where it is installed

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid):  # the method that pytest-xdist's documentation offers for this
            return "the machine" if nodeid.startswith(ON_THE_MACHINE) else nodeid.partition("::")[0]

    return Scheduler(config, log)


def pytest_collection_modifyitems(config, items):
    # The longest part comes first, so that the other processes have enough to do beside it.
    items.sort(key=lambda item: not item.nodeid.startswith(ON_THE_MACHINE))
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
