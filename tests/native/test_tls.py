"""Reaching the SSL_CTX behind Python's ssl, and refusing where that cannot be done."""

from __future__ import annotations

import _ssl
import ssl
import sys
import types

import pytest

from pymon._native import table
from pymon._native.tls import accept_any_certificate


def server() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.mark.parametrize("mode", list(ssl.VerifyMode))
@pytest.mark.parametrize("options", [0, ssl.OP_NO_TICKET, ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION])
def test_a_context_of_any_settings_is_reached(mode, options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = mode
    context.options |= options
    accept_any_certificate(context, max_chain_bytes=1000)
    assert context.verify_mode == mode


def test_a_subclass_is_reached():
    class Context(ssl.SSLContext):
        pass

    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_OPTIONAL
    accept_any_certificate(context, max_chain_bytes=1000)
    assert context.verify_mode == ssl.CERT_OPTIONAL


@pytest.mark.parametrize("context", [None, object(), types.SimpleNamespace(verify_mode=0, options=0), ssl.SSLContext])
def test_what_is_no_context_is_refused(context):
    with pytest.raises(TypeError):
        accept_any_certificate(context, max_chain_bytes=1000)


@pytest.mark.parametrize("size", [0, -1])
def test_a_bound_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=f"expected max_chain_bytes of 1 or more, got {size}"):
        accept_any_certificate(server(), max_chain_bytes=size)


def test_a_context_that_says_something_else_than_its_pointer_is_refused():
    class Context(ssl.SSLContext):
        @property
        def options(self):
            return ssl.OP_ALL | 1 << 40

    with pytest.raises(RuntimeError, match=r"^Python's ssl: SSLContext has an unknown layout$"):
        accept_any_certificate(Context(ssl.PROTOCOL_TLS_SERVER), max_chain_bytes=1000)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("/nowhere/_ssl.so", "Python's ssl: /nowhere/_ssl.so is not what is loaded"),
        (table.__file__, f"Python's ssl: {table.__file__} is linked to no shared libssl with SSL_CTX_get_verify_mode"),
        (None, "Python's ssl: expected a module of its own linked to a shared libssl, got one built in"),
    ],
)
def test_an_ssl_that_is_linked_otherwise_is_told(file, text, monkeypatch):
    monkeypatch.setattr(_ssl, "__file__", file)
    with pytest.raises(RuntimeError) as caught:
        accept_any_certificate(server(), max_chain_bytes=1000)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("implementation", "version"), [("pypy", (3, 11)), ("cpython", (3, 10)), ("cpython", (3, 15)), ("cpython", (4, 0))]
)
def test_another_interpreter_is_refused(implementation, version):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "implementation", types.SimpleNamespace(name=implementation))
        patch.setattr(sys, "version_info", (*version, 0, "final", 0))
        try:
            accept_any_certificate(server(), max_chain_bytes=1000)
        except RuntimeError as error:
            text = str(error)
        else:
            text = ""
    assert text.startswith("client certificates need CPython 3.11 to 3.14 with the GIL, got ")
