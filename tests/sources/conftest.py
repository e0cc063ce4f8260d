"""The libkstat double, and readers of it that are closed in the end."""

from __future__ import annotations

import pytest

from pymon.sources.kstat import KstatReader
from tests.kstat.double import Double


@pytest.fixture(scope="module")
def loaded():
    return Double()


@pytest.fixture
def double(loaded):
    loaded.reset()
    yield loaded
    loaded.reset()


@pytest.fixture
def open_reader(double):
    readers = []

    def open_one(**arguments):
        readers.append(KstatReader(double.path, **arguments))
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.close()
