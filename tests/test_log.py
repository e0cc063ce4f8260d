"""Log lines."""

from __future__ import annotations

import io
import json
import logging

import pytest

from pymon import log


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    logging.captureWarnings(False)


def lines(form: str, level: str = "info") -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    log.setup(level, form, stream)
    return logging.getLogger("pymon.test"), stream


def test_logfmt_escapes() -> None:
    logger, stream = lines("logfmt")
    logger.info("a\nb", extra={"fields": {"plain": "x/y", "quoted": 'a "b"', "n": 3, "bad key\n": "", "é": "\x1b[1m"}})
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert text.startswith("time=20")
    assert (
        'level=info logger=pymon.test msg="a\\nb" plain=x/y quoted="a \\"b\\"" n=3 bad_key_="" _="\\u001b[1m"' in text
    )


def test_json() -> None:
    logger, stream = lines("json")
    logger.warning("hello %s", "you", extra={"fields": {"n": 3, "o": {1}}})
    got = json.loads(stream.getvalue())
    assert (got["level"], got["msg"], got["n"], got["o"]) == ("warn", "hello you", 3, "{1}")
    assert got["time"].endswith("Z")


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_traceback_is_one_line(form: str) -> None:
    logger, stream = lines(form)
    try:
        int("bad\nthing")
    except ValueError:
        logger.exception("oops")
    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in stream.getvalue()


def test_levels() -> None:
    logger, stream = lines("logfmt", "warn")
    logger.info("no")
    logger.error("yes")
    assert "level=error" in stream.getvalue()
    assert "no" not in stream.getvalue().split("msg=")[1]
