import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.apps.namespace import in_cgroup, start_ticks
from pymon.apps.protocol import MAX_BODY_BYTES, Answer, AppError, Ask, line_of, read_answer, read_ask

GOOD = Ask(
    pid=4711, start_ticks=99, cgroup="/docker/a\xff", namespace=4026532281, port=9100, path="/metrics", seconds=5.0,
    max_bytes=MAX_BODY_BYTES,
)  # fmt: skip


def test_an_ask_is_read_as_it_was_written():
    line = line_of(GOOD)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert read_ask(line) == GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0), ("port", 65536), ("port", -1), ("port", "80"), ("port", 80.5), ("port", True),
        ("path", "metrics"), ("path", "/a\r\nHost: other"), ("path", "http://other.example/"), ("path", "//other/"),
        ("path", "/a b"), ("path", ""), ("pid", 0), ("pid", 1), ("pid", -5), ("cgroup", ""), ("cgroup", "/"),
        ("cgroup", "a"), ("seconds", 0), ("seconds", 15.1), ("seconds", 1e300), ("max_bytes", 0),
        ("max_bytes", MAX_BODY_BYTES + 1), ("address", "10.0.0.1"), ("host", "localhost"), ("url", "http://a/"),
    ],
)  # fmt: skip
def test_an_ask_for_more_than_the_fetcher_may_do_is_refused(field, value):
    members = json.loads(line_of(GOOD)) | {field: value}
    with pytest.raises(AppError) as caught:
        read_ask(json.dumps(members).encode())
    assert caught.value.reason == "ask"


@given(st.binary(max_size=200))
def test_any_bytes_are_an_ask_or_refused(data):
    with pytest.raises(AppError):
        read_ask(data)


def test_answers():
    assert read_answer(line_of(Answer(17)), 100) == 17
    with pytest.raises(AppError, match=r"^it has gone$") as caught:
        read_answer(line_of(Answer(reason="gone", text="it has gone")), 100)
    assert caught.value.reason == "gone"


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b'{"bytes":-1}', b'{"bytes":101}', b'{"reason":"other"}', b"[" * 16000]
)
def test_an_answer_that_is_none_is_refused(line):
    with pytest.raises(AppError) as caught:
        read_answer(line, 100)
    assert caught.value.reason == "fetcher"


def test_the_text_of_an_error_is_one_short_line():
    assert str(AppError("status", "a\r\nb  c")) == "a b c"
    assert len(str(AppError("status", "x" * 1000))) == 300


def test_the_start_of_a_process_is_behind_any_name():
    fields = " ".join(["S", "1", *map(str, range(5, 53))])
    assert start_ticks(f"7 (a) b) ( 22) {fields}".encode()) == 22
    with pytest.raises(AppError):
        start_ticks(b"7 (a")


def test_a_process_is_in_a_cgroup_or_below_it():
    lines = b"2:memory:/docker/abc\n1:name=systemd:/\n0::/x/docker/abc:d/sub\n"
    assert in_cgroup(lines, b"/docker/abc")
    assert in_cgroup(lines, b"/x/docker/abc:d")
    assert in_cgroup(lines, b"/docker/abc:d"), "of an agent whose cgroups begin at /x"
    assert not in_cgroup(lines, b"/docker/abc:d/su")
    assert not in_cgroup(lines, b"/docker/ab")
    assert not in_cgroup(lines, b"/docker/abcd")
    assert not in_cgroup(b"", b"/docker/abc")
