"""What bytes of a client are, by RFC 9112: each case is read whole, and again cut at every byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pymon.service.http1 import (
    BODY_MAX_BYTES,
    FIELDS_MAX,
    HEAD_MAX_BYTES,
    LINE_MAX_BYTES,
    BodyEnd,
    Event,
    Head,
    Malformed,
    RequestReader,
    Response,
    ResponseError,
    ResponseReader,
)
from tests.service.test_smuggling import CHUNKED, GET, MALFORMED, NEXT

END = b"\r\n"


def events(*pieces: bytes) -> list[Event]:
    reader = RequestReader()
    found = []
    for piece in pieces:
        reader.receive(piece)
        while (event := reader.next()) is not None:
            found.append(event)
    return found


def told(found: list[Event]) -> list[str]:
    """Each event in a word."""
    words = {BodyEnd: lambda _: "end", Head: lambda head: head.path, Malformed: lambda event: str(event.status)}
    return [words[type(event)](event) for event in found]


CASES = {
    # what is sent: what it is
    "a request": (GET + END, ["/first"]),
    "empty lines before it (section 2.2)": (END * 3 + GET + END, ["/first"]),
    "two at once": (GET + END + GET + END, ["/first", "/first"]),
    "nothing after the last one": (NEXT + GET + END, ["/next"]),
    "HTTP/1.0 ends the connection": (b"GET /old HTTP/1.0\r\n\r\n" + GET + END, ["/old"]),
    "HTTP/1.0 that stays": (b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + GET + END, ["/old", "/first"]),
    "a body with a length": (GET + b"Content-Length: 5\r\n\r\nhello" + NEXT, ["/first", "end", "/next"]),
    "a body of no bytes": (GET + b"Content-Length: 0\r\n\r\n" + NEXT, ["/first", "/next"]),
    "a chunked body": (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + NEXT, ["/first", "end", "/next"]),
    "chunk extensions": (CHUNKED + b'5;a="b;c"\r\nhello\r\n0;x\r\n\r\n' + NEXT, ["/first", "end", "/next"]),
    "trailer fields": (CHUNKED + b"0\r\nX-A: b\r\nHost: y\r\n\r\n" + NEXT, ["/first", "end", "/next"]),
    "chunked in large letters": (GET + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", ["/first", "end"]),
    "chunked in HTTP/1.0 (section 6.1)": (
        b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ["400"],
    ),
    "another protocol is declined": (
        GET + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n" + b"PRI * HTTP/2.0\r\n\r\n",
        ["/first"],
    ),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", ["*"]),
    "CONNECT": (b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", ["400"]),
    "an absolute target (section 3.2.2)": (b"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", ["/a"]),
    "an absolute target without a path": (b"GET HTTPS://x HTTP/1.1\r\nHost: x\r\n\r\n", ["/"]),
    "an absolute target with a query alone": (b"GET http://x?a HTTP/1.1\r\nHost: x\r\n\r\n", ["/"]),
    "an absolute target without an authority": (b"GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", ["400"]),
    "an absolute target with a user": (b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n", ["400"]),
    "an absolute target of another scheme": (b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", ["400"]),
    "an empty Host": (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", ["/"]),
    "a malformed one after a good one": (GET + END + MALFORMED["no host"] + NEXT, ["/first", "400"]),
}


@pytest.mark.parametrize(("data", "expected"), CASES.values(), ids=CASES.keys())
def test_what_bytes_are(data: bytes, expected: list[str]) -> None:
    assert told(events(data)) == expected
    assert told(events(*(data[at : at + 1] for at in range(len(data))))) == expected


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_request_is_told_once(data: bytes) -> None:
    assert told(events(data + NEXT)) == ["400"]
    cut = told(events(*(data[at : at + 1] for at in range(len(data))), NEXT))
    # A body that comes after its head was given out can only end the connection.
    assert cut in (["400"], ["/first", "400"])


def test_a_request_line_that_comes_alone_is_no_request_yet() -> None:
    assert told(events(b"GET /-/healthy HTTP/1.1\r\n")) == []
    assert told(events(b"GET /-/healthy HTTP/1.1\r\n", b"Host: a\r\n\r\n")) == ["/-/healthy"]


def test_the_parts_of_a_head() -> None:
    [head] = events(b"GET http://A.example:81/p%20q?a=b?c HTTP/1.1\r\nHost: other\r\nX-A: 1\r\nx-a:\t2 \r\n\r\n")
    assert isinstance(head, Head)
    assert (head.method, head.path, head.query, head.host) == ("GET", "/p%20q", "a=b?c", "A.example:81")
    assert head.headers.get("x-a") == "1, 2"
    assert head.headers.all("x-a") == ["1", "2"]
    assert head.headers.get("x-b") is None
    assert (head.content_length, head.keep_alive, head.old) == (0, True, False)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"a" * LINE_MAX_BYTES, 414),
        (GET + b"X-A: " + b"a" * LINE_MAX_BYTES + END, 431),
        (GET + b"a" * LINE_MAX_BYTES + b": a\r\n", 431),
        (GET + b"".join(b"X-%d: a\r\n" % n for n in range(FIELDS_MAX)), 431),
        (GET + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 8000) for n in range(9)), 431),
        (GET + b"X-A: " + b"a" * HEAD_MAX_BYTES * 2, 431),
        (END * HEAD_MAX_BYTES, 431),
    ],
    ids=["target", "value", "name", "fields", "all fields", "a value without end", "empty lines"],
)
def test_limits_of_a_head(head: bytes, status: int) -> None:
    head += END * 2
    assert told(events(head)) == [str(status)]
    pieces = [head[at : at + 1000] for at in range(0, len(head), 1000)]
    assert told(events(*pieces)) == [str(status)]


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhello\r\n" * (BODY_MAX_BYTES // 10 + 500),
        b"5;" + b"x" * (BODY_MAX_BYTES + 5000),
        b"0\r\n" + b"X-A: %s\r\n" % (b"a" * 4000) * 20,
        b"0" * (BODY_MAX_BYTES + 5000),
    ],
    ids=["chunks", "an extension", "trailer fields", "zeros before a size"],
)
def test_every_byte_of_a_body_counts(body: bytes) -> None:
    assert told(events(CHUNKED, body + NEXT)) in (["/first", "413"], ["/first", "400"])


def test_bytes_that_are_not_taken_are_bounded_by_the_caller() -> None:
    reader = RequestReader()
    many = (GET + END) * 1000
    reader.receive(many)
    assert isinstance(reader.next(), Head)
    assert reader.buffered_bytes > len(many) - 5000  # what is not parsed is still bytes


def test_a_head_that_comes_again_is_the_same_object() -> None:
    reader = RequestReader()
    found = []
    for piece in (GET + END, GET + END, NEXT.replace(b"close", b"keep-alive"), GET + END):
        reader.receive(piece)
        found.append(reader.next())
    assert found[0] is found[1]
    assert [head.path for head in found if isinstance(head, Head)] == ["/first", "/first", "/next", "/first"]


def test_a_head_is_not_recognised_inside_another_message() -> None:
    again = b"GET /first HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert told(events(again, b"GET /b HTTP/1.1\r\nHost: x\r\nX-A: ", again)) == ["/first", "/b"]
    assert told(events(again, GET + b"Content-Length: %d\r\n\r\n" % len(again), again)) == ["/first", "/first", "end"]


def parts(event: Event) -> object:
    return event._replace(headers=sorted(event.headers)) if isinstance(event, Head) else event


TARGETS = st.sampled_from(
    ["/", "/a", "/v1/x/metrics?collect[]=a&x=%20", "/?", "/a?b?c", "/a#b", '/"', "/\xe9", "/\x7f", "/a b", "*", "a",
     "//h/p", "http://other/p", "/" + "y" * 4000, "/" + "y" * 9000]
) | st.text(st.characters(max_codepoint=255), max_size=4).map("/".__add__)  # fmt: skip
LINES = st.builds(
    "{} {} {}".format,
    st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "get"]),
    TARGETS,
    st.sampled_from(["HTTP/1.1"] * 3 + ["HTTP/1.0", "HTTP/1.2", "http/1.1"]),
)
FIELDS = st.sampled_from(
    [
        "Host: x\r\n\r\n",
        "Host: x\r\nAccept: a\r\n\r\n",
        "Host: x\r\n\r\n\r\n",
        "\r\n",
        "Host: x\r\nConnection: close\r\n\r\n",
        "Host: x\r\nContent-Length: 1\r\n\r\n.",
        "Host: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
)


@given(st.lists(st.tuples(LINES, FIELDS), max_size=6), FIELDS)
def test_fields_that_come_again_are_read_as_if_they_had_not(requests: list[tuple[str, str]], usual: str) -> None:
    reader = RequestReader()
    for line, own in [(line, fields) for line, some in requests for fields in (usual, some, usual)]:
        data = f"{line}\r\n{own}".encode("latin-1")
        alone = events(data)
        reader.receive(data)
        found = []
        while (event := reader.next()) is not None:
            found.append(event)
        assert list(map(parts, found)) == list(map(parts, alone))
        ended = any(isinstance(one, Malformed) or (isinstance(one, Head) and not one.keep_alive) for one in alone)
        if ended or reader.in_head or reader.in_body:
            break


def test_fields_that_come_again_with_another_target_are_not_read_again() -> None:
    reader = RequestReader()
    found = []
    for target in (b"/first", b"/second?a=b", b"/first", b"/third#"):
        reader.receive(GET.replace(b"/first", target) + END)
        found.append(reader.next())
    assert [type(head) for head in found] == [Head] * 4
    heads = [head for head in found if isinstance(head, Head)]
    assert [(head.path, head.query, head.host) for head in heads[:2]] == [("/first", "", "x"), ("/second", "a=b", "x")]
    assert heads[0].headers is heads[1].headers is heads[2].headers
    assert heads[3].headers is not heads[0].headers


PIECES = st.lists(
    st.sampled_from(
        [GET, END, NEXT, CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n", b"\n", b"\r", b"\0", b"Content-Length: 3\r\n"]
    )
    | st.binary(max_size=8),
    max_size=12,
)


@given(PIECES, st.data())
def test_cuts_change_nothing_but_how_late_a_fault_is_seen(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    at_once, cut = told(events(whole)), told(events(*pieces))
    faults = ("400", "413", "414", "431")
    assert [word for word in at_once if word in faults] == [word for word in cut if word in faults]
    without = [[word for word in words if word not in faults] for words in (at_once, cut)]
    # With its body's fault in the same piece, a request is not given out; before it, it is.
    assert without[0] == without[1] or without[0] == without[1][:-1]


# --- responses ---


def responses(*pieces: bytes, max_body_bytes: int = 1000) -> tuple[list[Response], ResponseReader]:
    reader = ResponseReader()
    reader.begin(max_body_bytes)
    return [response for piece in pieces if (response := reader.receive(piece)) is not None], reader


OK = b"HTTP/1.1 200 OK\r\nContent-Type: a\r\nX-Other: b\r\nETag: c\r\nETag: d \r\n"
FIELDS = {"content-type": "a", "etag": "c, d"}
RESPONSES = {
    # what is sent: status, fields and body, and whether the connection stays
    "a length": (OK + b"Content-Length: 5\r\n\r\nhello", (200, FIELDS, b"hello"), True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", (200, FIELDS, b""), True),
    "chunks": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n", (200, FIELDS, b"hello"), True,
    ),
    "fields behind the body": (
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nETag: e\r\n\r\n", (200, FIELDS, b"x"), True,
    ),
    "the last one": (OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx", (200, FIELDS, b"x"), False),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nETag: c\r\n\r\n", (304, {"etag": "c"}, b""), True),
    "informational ones before it": (
        b"HTTP/1.1 103 Early Hints\r\nETag: z\r\n\r\n" * 2 + OK + b"Content-Length: 1\r\n\r\nx", (200, FIELDS, b"x"),
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", RESPONSES)
def test_responses_however_they_are_cut(what):
    sent, expected, stays = RESPONSES[what]
    for pieces in ((sent,), [sent[at : at + 1] for at in range(len(sent))]):
        found, reader = responses(*pieces)
        assert [tuple(one) for one in found] == [expected]
        assert (reader.keep_alive, reader.received_bytes, reader.body_bytes) == (stays, len(sent), len(expected[2]))


def test_bytes_behind_a_response_end_the_connection_and_leave_the_response():
    one = OK + b"Content-Length: 1\r\n\r\nx"
    for more in (one, b"garbage"):
        found, reader = responses(one + more)
        assert ([tuple(response) for response in found], reader.keep_alive) == ([(200, FIELDS, b"x")], False)


@pytest.mark.parametrize(
    ("sent", "reason", "text"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "malformed", "its answer is no HTTP"),
        (OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy", "malformed", "its answer is no HTTP"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "malformed", "a transfer coding that was not asked for"),
        (b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "malformed", "its answer is no HTTP"),
        (OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, "too_large", "its body is too large"),
        (OK + b"a:b\r\n" * 300, "too_large", "it has more than 256 headers"),
        (OK + b"X: " + b"x" * 70000 + b"\r\nContent-Length: 0\r\n\r\n", "too_large", "its headers have more than 6"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 900 + b"1;" + b"x" * 70000, "too_large",
         "too much of it is no body"),
    ],
)  # fmt: skip
def test_responses_that_are_not_taken(sent, reason, text):
    with pytest.raises(ResponseError, match=text) as refused:
        responses(sent)
    assert refused.value.reason == reason


def test_a_reader_carries_nothing_over_to_the_next_exchange():
    _, reader = responses(OK + b"Content-Length: 5\r\n\r\nhel")
    reader.begin(1)
    assert reader.receive(b"HTTP/1.1 204 No Content\r\n\r\n") == Response(204, {}, b"")
    assert (reader.received_bytes, reader.body_bytes) == (27, 0)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\na 1\n", b"a 1\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", None),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", None),
        (b"HTTP/1.1 100 Continue\r\n\r\n", None),
        (b"", None),
    ],
)
def test_the_end_of_a_connection_ends_a_body_that_has_no_other_end(sent, body):
    _, reader = responses(sent)
    found = reader.closed()
    assert (None if found is None else found.body) == body
