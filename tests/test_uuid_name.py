"""The text that a container's UUID is made of: exact for every path, and as JSON carries it."""

import hashlib
import json
import os
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.uuid_name import MAX_BYTES, container_uuid, container_uuid_text, uuid_name

NODE = uuid.UUID("11111111-2222-5333-8444-555555555555")
PATHS = st.binary(max_size=40).map(os.fsdecode)


@given(PATHS)
def test_a_proxy_that_reads_it_makes_the_same_uuid(path):
    name = uuid_name(f"cgroup:/{path}")
    document = json.dumps({"name": name}).encode()
    assert container_uuid(NODE, msgspec.json.decode(document)["name"]) == container_uuid(NODE, name)


@given(PATHS, PATHS)
def test_other_paths_have_other_uuids(one, other):
    uuids = {container_uuid(NODE, uuid_name(f"cgroup:/{path}")) for path in (one, other)}
    assert len(uuids) == len({one, other})


@given(st.text())
def test_is_the_standard_one(text):
    assert uuid_name(text) == text
    assert container_uuid(NODE, text) == uuid.uuid5(NODE, text)


@pytest.mark.parametrize("raw", [b"cgroup:/a\xff", b"cgroup:/\xed\xa0\x80", b"cgroup:/" + b"x" * MAX_BYTES])
def test_bytes_that_are_no_text_and_long_texts_are_hashed(raw):
    assert uuid_name(os.fsdecode(raw)) == f"sha256:{hashlib.sha256(raw).hexdigest()}"


@pytest.mark.parametrize(("text", "hashed"), [("é" * (MAX_BYTES // 2), False), ("é" * (MAX_BYTES // 2) + "x", True)])
def test_the_limit_is_in_bytes(text, hashed):
    assert (uuid_name(text) != text) is hashed
    assert len(uuid_name(text).encode()) <= MAX_BYTES


@given(st.uuids(), st.text(max_size=40))
def test_the_fast_way_makes_the_same_uuid(node, name):
    assert container_uuid_text(str(node), name) == str(container_uuid(node, name))


def test_the_fast_way_refuses_surrogates_too():
    with pytest.raises(ValueError, match="surrogates"):
        container_uuid_text(str(NODE), "\udcff")
