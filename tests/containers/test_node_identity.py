"""What a node is called for ever, and what a node without an identity is given."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from pymon.containers.files import UnreadableError
from pymon.containers.node_identity import FILE, keep, kept_identity, machine_identity, parse_node_uuid

KEPT = "7d0f4a52-6a55-4c8e-9d53-1d8c6d0a4b11"


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    files = {
        "root/etc/machine-id": "b08dfa6083e7567a1921a715000001fb\n",
        "sys/class/dmi/id/product_uuid": "4C4C4544-0051-3610-8057-B4C04F4D3532\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
    return tmp_path / "root", tmp_path / "sys"


def test_the_machine_id_comes_first_and_does_not_show(roots):
    identity = machine_identity(*roots)
    assert (str(identity.uuid), identity.source) == ("8a2dd67b-c777-5e2d-916b-104051673808", "machine-id")
    assert "b08dfa60" not in str(identity.uuid)
    assert machine_identity(*roots) == identity


@pytest.mark.parametrize("content", ["", "uninitialized\n", "0" * 32, "B08D", "x" * 33, "0" * 1000, None])
def test_then_the_firmware(roots, content):
    machine_id = roots[0] / "etc/machine-id"
    if content is None:
        machine_id.unlink()
    else:
        machine_id.write_text(content)
    assert machine_identity(*roots).source == "product_uuid"


@pytest.mark.parametrize("content", ["", "Not Settable\n", "03000200-0400-0500-0006-000700080009\n"])
def test_then_nothing_of_the_machine(roots, content):
    (roots[0] / "etc/machine-id").unlink()
    (roots[1] / "class/dmi/id/product_uuid").write_text(content)
    assert machine_identity(*roots) is None


def test_what_is_kept_is_the_same_at_the_next_start(tmp_path):
    data_dir = tmp_path / "not/yet/there"
    assert kept_identity(data_dir) is None
    made = keep(data_dir)
    assert (made.source, made.uuid.version) == ("data-dir", 4)
    assert kept_identity(data_dir) == made
    assert keep(data_dir) == made, "a file that is there is not made again"
    assert [file.name for file in data_dir.iterdir()] == [FILE]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert keep(tmp_path / "another").uuid != made.uuid


def test_two_that_start_together_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len({identity.uuid for identity in pool.map(keep, [tmp_path] * 32)}) == 1


def test_what_an_operator_wrote(tmp_path):
    (tmp_path / FILE).write_text(KEPT.upper())
    assert kept_identity(tmp_path).uuid == UUID(KEPT)


@pytest.mark.parametrize(
    "content", ["", "\n", KEPT[:-1], f"{KEPT} {KEPT}", "00000000-0000-0000-0000-000000000000", "x" * 1000, "\xff\n"]
)
def test_what_is_no_uuid_is_an_error_and_stays(tmp_path, content):
    file = tmp_path / FILE
    file.write_text(content, "latin-1")
    for read in (kept_identity, keep):
        with pytest.raises(UnreadableError) as caught:
            read(tmp_path)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert file.read_text("latin-1") == content


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / FILE)
    with pytest.raises(UnreadableError, match="not a regular file"):
        kept_identity(tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnreadableError, match=rf"{FILE}: cannot be created: "):
        keep(tmp_path / "file" / "data")


@pytest.mark.parametrize("text", ["", "nil", "{" + KEPT + "}", "urn:uuid:" + KEPT, KEPT.replace("-", ""), "0" * 36])
def test_what_is_no_node_uuid(text):
    with pytest.raises(ValueError, match="a UUID"):
        parse_node_uuid(text)
