import pytest

from tests.sources.programs.scripts import Clock, Woken


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def woken():
    return Woken()


@pytest.fixture
def started(tmp_path, clock, woken):
    """Starts a program that is to be found in tmp_path, and closes it."""
    programs = []

    def start(make, **options):
        program = make(directories=(str(tmp_path),), clock=clock, **options)
        programs.append(program)
        program.start(woken)
        return program

    yield start
    for program in programs:
        program.close()
