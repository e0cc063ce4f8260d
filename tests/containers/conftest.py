"""Copies of the trees of runtimes, which may be changed."""

import shutil

import pytest

from tests.containers.runtime_trees import FIXTURES, load


@pytest.fixture
def tree(tmp_path):
    """A copy of a fixture that may be changed."""

    def copy(name):
        root = tmp_path / name
        shutil.copytree(FIXTURES / name, root)
        return root

    return copy


@pytest.fixture
def podman(tree):
    root = tree("podman")
    load(root / "var/lib/containers/storage/db.sql")
    return root
